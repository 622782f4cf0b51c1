// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

func newApplyCommand(a *app) *cobra.Command {
	var files []string
	var dry bool
	var f format
	c := &cobra.Command{
		Use: "apply -f FILE|DIR|-", Short: "Create and change resources: all of them or none", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.apply(cmd.Context(), files, dry, f)
		},
	}
	filesFlag(c, &files)
	outputFlag(c, &f)
	c.Flags().BoolVar(&dry, "dry-run", false, "tell what would be done, and do nothing")
	return c
}

// load reads the manifests that -f names.
func (a *app) load(files []string) ([]model.Object, error) {
	if len(files) == 0 {
		return nil, usage("name the manifests with -f FILE, a folder, or - for the standard input")
	}
	os, err := manifest.Load(a.in, files...)
	if err == nil && len(os) == 0 {
		return nil, usage("there is no resource in %v", files)
	}
	return os, err
}

// located gives the errors of a server the places in the manifests.
func located(err error, os []model.Object) error {
	var many model.Errors
	if errors.As(err, &many) {
		return manifest.Locate(many, os)
	}
	if one, ok := errors.AsType[*model.Error](err); ok {
		return manifest.Locate(model.Errors{one}, os)
	}
	return err
}

// withManifests reads manifests and calls the server with them.
func (a *app) withManifests(files []string, call func(*client.Client, []model.Object) error) error {
	os, err := a.load(files)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return located(call(c, os), os)
}

func (a *app) apply(ctx context.Context, files []string, dry bool, f format) error {
	return a.withManifests(files, func(c *client.Client, os []model.Object) error {
		done, err := c.Apply(ctx, os, dry)
		if err != nil {
			return err
		}
		return a.print(f, done, func() error { return a.applied(done) })
	})
}

// applied prints a line for each resource; what is not served although it is
// stored goes to the error stream.
func (a *app) applied(done wire.Applied) error {
	suffix := ""
	if done.DryRun {
		suffix = " (dry run)"
	}
	for _, r := range done.Results {
		id := ""
		if r.ID != "" && r.Action == wire.Created && !done.DryRun {
			id = " " + r.ID
		}
		fmt.Fprintf(a.out, "%s %s%s%s\n", r.Ref, r.Action, id, suffix)
	}
	for _, r := range done.Revoked {
		fmt.Fprintf(a.out, "%s rule %s revoked%s\n", r.Group, r.Rule, suffix)
	}
	for _, w := range done.Warnings {
		fmt.Fprintln(a.err, "warning: "+oneLine(w))
	}
	for _, r := range done.Results {
		if r.NotReady != nil {
			fmt.Fprintf(a.err, "warning: %s is not ready: %s\n", r.Ref, oneLine(r.NotReady.Message))
		}
	}
	return nil
}

func newDeleteCommand(a *app) *cobra.Command {
	var files []string
	var d wire.Deletion
	var dry bool
	var f format
	c := &cobra.Command{
		Use: "delete KIND NAME... | KIND/NAME... | -f FILE|DIR|-", Short: "Delete resources: all of them or none",
		ValidArgsFunction: a.completeResources,
		RunE: func(cmd *cobra.Command, args []string) error {
			var os []model.Object
			var err error
			if d.Resources, os, err = a.named(args, files, true); err != nil {
				return err
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			defer cl.Close()
			done, err := cl.DeleteAll(cmd.Context(), d, dry)
			if err != nil {
				return located(absent(err), os)
			}
			return a.print(f, done, func() error { return a.applied(done) })
		},
	}
	filesFlag(c, &files)
	outputFlag(c, &f)
	c.Flags().BoolVar(&dry, "dry-run", false, "tell what would be done, and do nothing")
	c.Flags().BoolVar(&d.Absent, "ignore-not-found", false, "take what does not exist as deleted")
	c.Flags().BoolVar(&d.Cascade, "cascade", false, "delete the rules that SecurityGroupAuthorizations granted with them")
	return c
}

// absent tells, of what is not there, how to delete the rest all the same.
func absent(err error) error {
	for _, e := range model.AsErrors(err) {
		if e.Kind != model.NotFound || e.Ref.IsZero() {
			continue
		}
		if !strings.HasSuffix(e.Msg, "?") {
			e.Msg += ";"
		}
		e.Msg += " --ignore-not-found takes it as deleted"
	}
	return err
}

// named reads which resources are meant: KIND/NAME, KIND NAME..., KIND alone
// (then the name is empty), or those in manifests.
func (a *app) named(args, files []string, names bool) (refs []model.Ref, os []model.Object, err error) {
	if len(files) > 0 {
		if len(args) > 0 {
			return nil, nil, usage("name resources or manifests, not both")
		}
		if os, err = a.load(files); err != nil {
			return nil, nil, err
		}
		for _, o := range os {
			refs = append(refs, model.RefOf(o))
		}
		return refs, os, nil
	}
	refs, err = parseRefs(args)
	if err != nil {
		return nil, nil, err
	}
	if len(refs) == 0 || names && refs[0].Name == "" {
		return nil, nil, usage("name the resources: KIND NAME, KIND/NAME, or -f FILE")
	}
	return refs, nil, nil
}
