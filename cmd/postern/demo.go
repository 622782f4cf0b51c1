// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"os/exec"
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
				Only: strings.Join(args, ""), Once: once, Out: a.out, Color: isTerminal(a.out), Program: program(),
				Command: func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
					return run(ctx, args, streams{in: strings.NewReader(""), out: stdout, err: stderr})
				},
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after the last step; exit 0 only if every outcome equals its explanation")
	return c
}

// isTerminal tells whether somebody looks at w who sees colours.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// program is the path of this program, unless postern in the PATH is it.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return "" // then it is for the reader to find
	}
	if found, err := exec.LookPath("postern"); err == nil {
		a, errA := os.Stat(self)
		b, errB := os.Stat(found)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return ""
		}
	}
	return self
}
