// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func newRevokeCommand(a *app) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use: "revoke GROUP RULE", Short: "Remove a rule that a SecurityGroupAuthorization granted", Args: cobra.ExactArgs(2),
		ValidArgsFunction: a.completeGranted,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.Revoke(cmd.Context(), nameOf(model.KindSecurityGroup, args[0]), args[1])
			if err != nil {
				return err
			}
			return a.print(f, r, func() error {
				_, err := fmt.Fprintf(a.out, "%s rule %s revoked\n", r.Ref(), args[1])
				return err
			})
		},
	}
	outputFlag(c, &f)
	return c
}

// completeGranted completes a group, then one of its granted rules.
func (a *app) completeGranted(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	switch len(args) {
	case 0:
		out = a.namesOf(cmd.Context(), []model.Kind{model.KindSecurityGroup})
	case 1:
		c, err := a.client()
		if err != nil {
			break
		}
		defer c.Close()
		r, err := c.Get(cmd.Context(), model.Ref{Kind: model.KindSecurityGroup, Name: args[0]})
		if err != nil {
			break
		}
		for _, g := range r.Status.GrantedRules {
			out = append(out, g.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// grants prints, of a group, the rules that were granted and, of a Gateway,
// what it was authorised for.
func (a *app) grants(r wire.Resource) {
	for _, g := range r.Status.GrantedRules {
		state := "of SecurityGroupAuthorization/" + g.Authorization
		if g.Orphan {
			state = "orphan " + state + ", which is gone"
		}
		fmt.Fprintf(a.out, "  granted %s: %s/%s from %s, %s\n", g.Name, g.Protocol, g.Ports, strings.Join(g.From, ", "), state)
	}
	for _, z := range r.Status.Authorizations {
		state := "granted"
		if len(z.Revoked) > 0 {
			state = "revoked: " + strings.Join(z.Revoked, ", ")
		}
		fmt.Fprintf(a.out, "  authorization %s: SecurityGroup/%s %s (%s)\n", z.Name, z.SecurityGroup, strings.Join(z.Ports, ", "), state)
	}
}
