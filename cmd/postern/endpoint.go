// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func newEndpointCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "endpoint", Short: "Approve or reject Endpoints"}
	add := func(use, short string, call func(*client.Client, context.Context, string) (wire.Resource, error)) {
		var f format
		sub := &cobra.Command{
			Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
			ValidArgsFunction: a.completeNames(1, model.KindEndpoint),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := a.client()
				if err != nil {
					return err
				}
				defer c.Close()
				r, err := call(c, cmd.Context(), nameOf(model.KindEndpoint, args[0]))
				if err != nil {
					return err
				}
				return a.print(f, r, func() error {
					_, err := fmt.Fprintf(a.out, "%s %s\n", r.Ref(), r.Status.Connection)
					return err
				})
			},
		}
		outputFlag(sub, &f)
		c.AddCommand(sub)
	}
	add("approve", "Let an Endpoint's traffic in", (*client.Client).ApproveEndpoint)
	add("reject", "Shut an Endpoint's traffic out", (*client.Client).RejectEndpoint)
	return c
}
