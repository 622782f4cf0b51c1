// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/demo"
)

func newDemoCommand(a *app) *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:   "demo [SCENARIO]",
		Short: "Play the walk-throughs: real requests beside their explanations",
		Long: "Each walk-through starts an empty Postern in this process, on a temporary folder and on loopback\n" +
			"only, applies its manifests and sends real requests through real tunnels. What each caller saw is\n" +
			"printed beside the explanation. Afterwards the last one serves on until stopped.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return demo.Run(cmd.Context(), demo.Options{
				Only: strings.Join(args, ""), Once: once, Out: a.out,
				Command: func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
					return run(ctx, args, streams{in: strings.NewReader(""), out: stdout, err: stderr})
				},
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after the last step; exit 0 only if every outcome equals its explanation")
	return c
}
