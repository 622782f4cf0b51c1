// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

func newDeployCommand(a *app) *cobra.Command {
	var d wire.Deploy
	var f format
	c := &cobra.Command{
		Use: "deploy API [--stage S]", Short: "Make a Deployment of an API and point a Stage at it", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1, model.KindAPI),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			done, err := c.Deploy(cmd.Context(), nameOf(model.KindAPI, args[0]), d)
			if e, ok := errors.AsType[*model.Error](err); ok && e.Msg == compile.ErrNoPolicy.Error() {
				// The server says it in the words of AWS.
				e.Msg += "; write spec.policy, apply it, then deploy"
			}
			if err != nil {
				return err
			}
			return a.print(f, done, func() error {
				where := "; it has no Stage, name one with --stage"
				switch {
				case done.StageCreated:
					where = fmt.Sprintf(", served by the new Stage/%s.%s", done.API, done.Stage)
				case done.Stage != "":
					where = fmt.Sprintf(", served by Stage/%s.%s", done.API, done.Stage)
				}
				_, err := fmt.Fprintf(a.out, "Deployment/%s.%d created%s\n", done.API, done.Deployment, where)
				return err
			})
		},
	}
	c.Flags().StringVar(&d.Stage, "stage", "", "the Stage to point at it, made if absent; default the API's own or only one")
	outputFlag(c, &f)
	return c
}
