// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/model"
)

// completeTimeout bounds the wait for names: somebody holds the Tab key.
const completeTimeout = 2 * time.Second

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeNames completes up to max names of resources of some kinds; 0 is any
// number. Without a server there is nothing to offer, and nothing is said.
func (a *app) completeNames(limit int, kinds ...model.Kind) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.namesOf(cmd.Context(), kinds), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) namesOf(ctx context.Context, kinds []model.Kind) []string {
	c, err := a.client()
	if err != nil {
		return nil
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	var out []string
	for _, k := range kinds {
		rs, err := c.List(ctx, k)
		if err != nil {
			return out
		}
		for _, r := range rs {
			out = append(out, r.Metadata.Name)
		}
	}
	return out
}

// completeResources completes a kind, then names of that kind, or KIND/NAME.
func (a *app) completeResources(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	kind, _, qualified := strings.Cut(begun, "/")
	if !qualified && len(args) > 0 {
		kind = args[0]
	}
	if !qualified && len(args) == 0 {
		var out []string
		for _, k := range model.Kinds {
			out = append(out, k.Plural())
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	k, ok := model.ParseKind(kind)
	if !ok {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := a.namesOf(cmd.Context(), []model.Kind{k})
	if qualified {
		for i := range out {
			out[i] = kind + "/" + out[i]
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag offers the values that a flag takes.
func completeFlag(c *cobra.Command, flag string, values ...string) {
	// It fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
