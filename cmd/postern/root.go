// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/settings"
	"postern.dev/postern/model"
	"postern.dev/postern/model/near"
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all commands share.
type app struct {
	streams
	config string // --config
}

// commands make every command; each stands in a file of its own.
func commands() []func(*app) *cobra.Command {
	return []func(*app) *cobra.Command{
		newApplyCommand, newDeleteCommand, newGetCommand, newDescribeCommand, newPlanCommand, newDeployCommand,
		newEndpointCommand, newRevokeCommand, newExplainCommand, newWhyCommand, newVerifyCommand, newConnectCommand, newConfigCommand,
		newTokenCommand, newKeyCommand, newVersionCommand, newServerCommand, newGatewayCommand, newDemoCommand,
	}
}

// The exit codes of the public contract.
const (
	exitOK      = 0
	exitError   = 1
	exitChanges = 2 // plan
	exitDenied  = 3 // explain, verify
	exitUnknown = 4 // explain
)

// exit ends the command with a code and says nothing: it was no error.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	a := &app{streams: s}
	root := &cobra.Command{
		Use:           "postern",
		Short:         "A private API gateway, its network and the reasons why",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionLine(),
	}
	root.PersistentFlags().StringVar(&a.config, "config", "", "client settings; default $"+settings.Variable+", ./postern-data/client.yaml, the user's configuration folder")
	for _, c := range commands() {
		root.AddCommand(c(a))
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SuggestionsMinimumDistance = 2
	groups(root)
	ran := false
	noteRuns(root, &ran)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !ran {
		err = misused(root, c, args, err)
	}
	var code exit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	for _, line := range explainError(err) {
		fmt.Fprintln(s.err, "postern: "+line)
	}
	return exitError
}

// groups lets the commands that only hold others refuse one that they do not
// hold; left alone they would print their help, and end well.
func groups(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.HasSubCommands() && !c.Runnable() {
			c.Args = cobra.NoArgs
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
			c.SuggestionsMinimumDistance = root.SuggestionsMinimumDistance
		}
	}
}

// noteRuns sets ran when any command begins to run: what fails before is the
// command line.
func noteRuns(c *cobra.Command, ran *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*ran = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		noteRuns(sub, ran)
	}
}

// misused says what is wrong with a command line, and how it is written.
func misused(root, c *cobra.Command, args []string, err error) error {
	what, _, _ := strings.Cut(err.Error(), "\n")
	if !strings.HasPrefix(what, "unknown command") {
		if meant := meantFlag(c, what); meant != "" {
			return usage("%s: %s; did you mean --%s?", c.CommandPath(), what, meant)
		}
		return usage("%s: %s; write %s, or see %s --help", c.CommandPath(), what, c.UseLine(), c.CommandPath())
	}
	what = strings.TrimSuffix(what, fmt.Sprintf(" for %q", c.CommandPath()))
	for _, arg := range args {
		if near := c.SuggestionsFor(arg); len(near) > 0 && strings.Contains(what, strconv.Quote(arg)) {
			return usage("%s; did you mean %s?", what, strings.Join(near, " or "))
		}
	}
	return usage("%s; %s --help lists what there is", what, c.CommandPath())
}

// flagName is the long name at the beginning of the line that tells of a flag.
var flagName = regexp.MustCompile(`(?m)^ +(?:-., )?--([^\s=[]+)`)

// meantFlag is the flag that an unknown one was probably meant to be; empty if none
// is close, or what is wrong is something else.
func meantFlag(c *cobra.Command, what string) string {
	name, ok := strings.CutPrefix(what, "unknown flag: --")
	if !ok {
		// One dash for a long flag: its letters are taken for short ones.
		_, name, ok = strings.Cut(what, " in -")
		if name, _, _ = strings.Cut(name, "="); !ok || !strings.HasPrefix(what, "unknown shorthand flag") || len(name) < 2 {
			return ""
		}
	}
	var names []string
	for _, flags := range []string{c.Flags().FlagUsages(), c.InheritedFlags().FlagUsages()} {
		for _, m := range flagName.FindAllStringSubmatch(flags, -1) {
			names = append(names, m[1])
		}
	}
	if slices.Contains(names, name) {
		return name
	}
	return near.To(name, names)
}

// explainError is one line for each error: what, where, what to do.
func explainError(err error) []string {
	var many model.Errors
	if errors.As(err, &many) {
		out := make([]string, len(many))
		for i, e := range many {
			out[i] = oneLine(e.Error())
		}
		return out
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		var out []string
		for _, e := range joined.Unwrap() {
			out = append(out, explainError(e)...)
		}
		return out
	}
	return []string{oneLine(err.Error())}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// client connects to the server of the client settings.
func (a *app) client() (*client.Client, error) {
	s, _, err := a.settings()
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{Address: s.Address, CA: s.CA, Token: s.Token})
}

func (a *app) settings() (settings.Settings, string, error) { return settings.Discover(a.config) }

func usage(format string, args ...any) error {
	return &model.Error{Kind: model.Invalid, Msg: fmt.Sprintf(format, args...)}
}
