// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/wire"
)

func newTokenCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make, list and revoke tokens"}
	c.AddCommand(newTokenCreateCommand(a), newTokenListCommand(a), newTokenRevokeCommand(a))
	return c
}

func newTokenCreateCommand(a *app) *cobra.Command {
	var t wire.NewToken
	var f format
	c := &cobra.Command{
		Use: "create --role ROLE [--for SUBJECT]", Short: "Make a token and print it, this once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			made, err := c.CreateToken(cmd.Context(), t)
			if err != nil {
				return err
			}
			return a.print(f, made, func() error {
				_, err := fmt.Fprintln(a.out, made.Value)
				return err
			})
		},
	}
	fl := c.Flags()
	fl.StringVar(&t.Role, "role", "", "admin, publisher, viewer, host or selfhosted")
	fl.StringVar(&t.Subject, "for", "", "host/NAME or link/NAME for a host token, selfhosted/NAME for a selfhosted one")
	fl.StringVar(&t.Lifetime, "lifetime", "", "how long it is valid, such as 720h; default until revoked")
	fl.StringVar(&t.Comment, "comment", "", "what it is for")
	outputFlag(c, &f)
	_ = c.MarkFlagRequired("role") // fails only for a flag that does not exist
	return c
}

func newTokenListCommand(a *app) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use: "list", Short: "List tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			ts, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(f, ts, func() error {
				rows := make([][]string, len(ts))
				for i, t := range ts {
					expires := "never"
					if !t.Expires.IsZero() {
						expires = t.Expires.Format(time.RFC3339)
					}
					rows[i] = []string{t.ID, t.Role, t.Subject, t.Created.Format(time.RFC3339), expires, t.Comment}
				}
				return a.columns([]string{"ID", "ROLE", "FOR", "CREATED", "EXPIRES", "COMMENT"}, rows)
			})
		},
	}
	outputFlag(c, &f)
	return c
}

func newTokenRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "token %s revoked\n", args[0])
			return err
		},
	}
}
