// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func newPlanCommand(a *app) *cobra.Command {
	var files []string
	var f format
	c := &cobra.Command{
		Use: "plan -f FILE|DIR|-", Short: "Tell what an apply would change, and whose reachability: exit 0 nothing, 2 something", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withManifests(files, func(c *client.Client, os []model.Object) error {
				p, err := c.Plan(cmd.Context(), os)
				if err != nil {
					return err
				}
				if err := a.print(f, p, func() error { return a.plan(p) }); err != nil {
					return err
				}
				if len(p.Changes) > 0 {
					return exit(exitChanges)
				}
				return nil
			})
		},
	}
	filesFlag(c, &files)
	outputFlag(c, &f)
	return c
}

func (a *app) plan(p wire.Plan) error {
	if len(p.Changes) == 0 {
		fmt.Fprintln(a.out, "Nothing would change.")
	}
	signs := map[wire.Action]string{wire.Created: "+", wire.Configured: "~", wire.Deleted: "-"}
	for _, c := range p.Changes {
		fmt.Fprintf(a.out, "%s %s\n", signs[c.Action], c.Ref)
		for _, f := range c.Fields {
			fmt.Fprintf(a.out, "    %s: %s -> %s\n", f.Path, value(f.Before), value(f.After))
		}
	}
	for _, o := range p.Gains {
		fmt.Fprintf(a.out, "gains access: %s to %s\n", o.From, o.To)
	}
	for _, o := range p.Losses {
		fmt.Fprintf(a.out, "loses access: %s to %s\n", o.From, o.To)
	}
	if len(p.Changes) > 0 && len(p.Gains)+len(p.Losses) == 0 {
		fmt.Fprintln(a.out, "Nobody would gain or lose access.")
	}
	for _, w := range p.Warnings {
		fmt.Fprintln(a.err, "warning: "+oneLine(w))
	}
	return nil
}

func value(text []byte) string {
	switch {
	case text == nil:
		return "(absent)"
	case len(text) > 120:
		return string(text[:120]) + "..."
	}
	return string(text)
}
