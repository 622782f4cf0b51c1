// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newVerifyCommand(a *app) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use: "verify", Short: "Run every ReachabilityTest: exit 0 if all hold, else 3 (not in this version)",
		Long: "The kind ReachabilityTest is not in this version, and a server without it refuses the call.\n" +
			"postern explain asks about one request at a time, with the same exit codes.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.Verify(cmd.Context())
			if err != nil {
				return err
			}
			err = a.print(f, v, func() error {
				for _, r := range v.Results {
					if r.Holds {
						fmt.Fprintf(a.out, "ok    %s\n", r.Ref.Name)
						continue
					}
					fmt.Fprintf(a.out, "FAIL  %s: expected %s, found %s: %s\n", r.Ref.Name, r.Expected, r.Found, oneLine(r.Reason))
				}
				return nil
			})
			if err == nil && !v.Holds {
				return exit(exitDenied)
			}
			return err
		},
	}
	outputFlag(c, &f)
	return c
}
