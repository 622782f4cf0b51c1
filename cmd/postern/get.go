// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
	"postern.dev/postern/model/near"
)

// parseRefs reads KIND, KIND NAME..., or KIND/NAME....
func parseRefs(args []string) ([]model.Ref, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if !strings.Contains(args[0], "/") {
		k, err := parseKind(args[0])
		if err != nil {
			return nil, err
		}
		if len(args) == 1 {
			return []model.Ref{{Kind: k}}, nil
		}
		var out []model.Ref
		for _, name := range args[1:] {
			out = append(out, model.Ref{Kind: k, Name: name})
		}
		return out, nil
	}
	var out []model.Ref
	for _, s := range args {
		kind, name, ok := strings.Cut(s, "/")
		if !ok || name == "" {
			return nil, usage("%q is not of the form KIND/NAME", s)
		}
		k, err := parseKind(kind)
		if err != nil {
			return nil, err
		}
		out = append(out, model.Ref{Kind: k, Name: name})
	}
	return out, nil
}

// nameOf reads the NAME of a command about one kind; KIND/NAME, as what is
// printed calls it, means the same.
func nameOf(k model.Kind, arg string) string {
	if kind, name, ok := strings.Cut(arg, "/"); ok {
		if got, known := model.ParseKind(kind); known && got == k {
			return name
		}
	}
	return arg
}

func parseKind(s string) (model.Kind, error) {
	k, ok := model.ParseKind(s)
	if !ok {
		var names []string
		for _, k := range model.Kinds {
			names = append(names, k.Plural())
		}
		msg := fmt.Sprintf("there is no kind of resource called %q", s)
		if meant := near.To(s, names); meant != "" {
			return "", usage("%s; did you mean %s?", msg, meant)
		}
		return "", usage("%s; use one of %s", msg, strings.Join(names, ", "))
	}
	return k, nil
}

func newGetCommand(a *app) *cobra.Command {
	var files, filter []string
	var f format
	var all bool
	c := &cobra.Command{
		Use: "get KIND [NAME...] | KIND/NAME... | all | -f FILE|DIR|- | matrix GATEWAY", Short: "Show resources",
		Long: "Shows the resources of a kind, those that are named, or with all every one; -o yaml writes them as manifests.\n" +
			"get matrix GATEWAY shows which components of a Gateway are reached from where: what explain answers for the internet,\n" +
			"the management plane, every Link, and one Host of every Subnet, or with --all every Host. With -f it asks manifests.",
		ValidArgsFunction: a.completeResources,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "matrix" {
				if len(args) != 2 || len(filter) > 0 {
					return usage("get matrix takes the name of one Gateway")
				}
				return a.matrix(cmd.Context(), f, nameOf(model.KindGateway, args[1]), files, all)
			}
			rs, single, err := a.fetch(cmd.Context(), args, files, filter)
			if err != nil {
				return err
			}
			return a.resources(f, rs, single)
		},
	}
	filesFlag(c, &files)
	outputFlag(c, &f)
	c.Flags().BoolVar(&all, "all", false, "with matrix: every Host, not one of each Subnet")
	c.Flags().StringArrayVarP(&filter, "label", "l", nil, "only those with the label key=value, or key; may be repeated")
	return c
}

// fetch reads the resources that are meant; single tells that one was named.
func (a *app) fetch(ctx context.Context, args, files, filter []string) (rs []wire.Resource, single bool, err error) {
	c, err := a.client()
	if err != nil {
		return nil, false, err
	}
	defer c.Close()
	if len(args) == 1 && args[0] == "all" && len(files) == 0 {
		for _, k := range model.Kinds {
			of, err := c.List(ctx, k, filter...)
			if err != nil {
				return nil, false, err
			}
			rs = append(rs, of...)
		}
		return rs, false, nil
	}
	refs, os, err := a.named(args, files, false)
	if err != nil {
		return nil, false, err
	}
	if len(refs) == 1 && refs[0].Name == "" {
		if rs, err = c.List(ctx, refs[0].Kind, filter...); err == nil && len(rs) == 0 {
			with := ""
			if len(filter) > 0 {
				with = " with " + strings.Join(filter, " and ")
			}
			fmt.Fprintf(a.err, "there are no %s%s\n", refs[0].Kind.Plural(), with)
		}
		return rs, false, err
	}
	if len(filter) > 0 {
		return nil, false, usage("--label is for lists; leave out the names")
	}
	rs, err = getEach(ctx, c, refs)
	return rs, len(refs) == 1, located(err, os)
}

func getEach(ctx context.Context, c *client.Client, refs []model.Ref) ([]wire.Resource, error) {
	var out []wire.Resource
	var errs model.Errors
	for _, ref := range refs {
		r, err := c.Get(ctx, ref)
		if err != nil {
			errs = append(errs, model.AsErrors(err)...)
			continue
		}
		out = append(out, r)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return out, nil
}

func newDescribeCommand(a *app) *cobra.Command {
	var files, filter []string
	f := table
	c := &cobra.Command{
		Use: "describe KIND [NAME...] | KIND/NAME... | all | -f FILE|DIR|-", Short: "Show resources in full, with their conditions",
		ValidArgsFunction: a.completeResources,
		RunE: func(cmd *cobra.Command, args []string) error {
			rs, single, err := a.fetch(cmd.Context(), args, files, filter)
			if err != nil {
				return err
			}
			if f != table {
				return a.resources(f, rs, single)
			}
			for i, r := range rs {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				if err := a.describe(cmd.Context(), r); err != nil {
					return err
				}
			}
			return nil
		},
	}
	filesFlag(c, &files)
	outputFlag(c, &f)
	c.Flags().StringArrayVarP(&filter, "label", "l", nil, "only those with the label key=value, or key; may be repeated")
	return c
}

// describe prints one resource: its conditions first, for that is what one
// looks for, then all of it.
func (a *app) describe(ctx context.Context, r wire.Resource) error {
	fmt.Fprintf(a.out, "%s (revision %d)\n", r.Ref(), r.Revision)
	for _, c := range r.Status.Conditions {
		holds := "no"
		if c.Status {
			holds = "yes"
		}
		line := fmt.Sprintf("  %s: %s", c.Type, holds)
		if c.Reason != "" {
			line += " (" + c.Reason + ")"
		}
		if c.Message != "" {
			line += ": " + oneLine(c.Message)
		}
		fmt.Fprintln(a.out, line)
	}
	a.grants(r)
	if r.Kind == model.KindSubscription {
		if err := a.keys(ctx, r.Metadata.Name); err != nil {
			return err
		}
	}
	if r.Kind == model.KindAPI {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		u, err := exampleURL(ctx, c, r)
		if err != nil {
			return err
		}
		if u != "" {
			fmt.Fprintf(a.out, "  call it, for example: %s\n", u)
		}
	}
	r.Status.Conditions = nil
	text, err := manifests([]wire.Resource{r})
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}
