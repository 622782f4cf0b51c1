// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

// format is the value of -o.
type format string

const (
	table format = "table"
	asYML format = "yaml"
	asJSN format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "yaml|json|table" }

func (f *format) Set(s string) error {
	if !slices.Contains([]format{table, asYML, asJSN}, format(s)) {
		return fmt.Errorf("%q is none of yaml, json and table", s)
	}
	*f = format(s)
	return nil
}

func outputFlag(c *cobra.Command, f *format) {
	*f = table
	c.Flags().VarP(f, "output", "o", "form of the output")
	completeFlag(c, "output", string(table), string(asYML), string(asJSN))
}

func filesFlag(c *cobra.Command, files *[]string) {
	c.Flags().StringArrayVarP(files, "file", "f", nil, "manifests: a file, a folder or - for the standard input; may be repeated")
}

// print writes v as JSON or YAML, or calls text.
func (a *app) print(f format, v any, text func() error) error {
	if f == table {
		return text()
	}
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if f == asYML {
		if body, err = yaml.JSONToYAML(body); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(a.out, strings.TrimRight(string(body), "\n"))
	return err
}

// columns writes rows under headings, and leaves out columns that hold nothing.
func (a *app) columns(head []string, rows [][]string) error {
	used := make([]bool, len(head))
	for _, r := range rows {
		for i, cell := range r {
			used[i] = used[i] || cell != ""
		}
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, r := range append([][]string{head}, rows...) {
		var cells []string
		for i, cell := range r {
			if used[i] || i == 0 {
				cells = append(cells, oneLine(cell)) // a comment or a name of a consumer may have several
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(a.out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// object is a resource of the API as the model has it.
func object(r wire.Resource) (model.Object, error) {
	r.Revision = 0 // no part of a manifest
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return model.Decode(text)
}

// manifests writes resources as YAML that apply takes.
func manifests(rs []wire.Resource) ([]byte, error) {
	os := make([]model.Object, len(rs))
	for i, r := range rs {
		var err error
		if os[i], err = object(r); err != nil {
			return nil, err
		}
	}
	return manifest.MarshalYAML(os...)
}

// resources writes resources in the form that was asked for.
func (a *app) resources(f format, rs []wire.Resource, single bool) error {
	if f == asYML {
		text, err := manifests(rs)
		if err != nil {
			return err
		}
		_, err = a.out.Write(text)
		return err
	}
	var v any = rs
	if single && len(rs) == 1 {
		v = rs[0]
	}
	return a.print(f, v, func() error { return a.tabulate(rs) })
}

func readiness(s model.Status) (ready, why string) {
	ready = "yes"
	for _, c := range s.Conditions {
		if c.Type == "Ready" && !c.Status {
			// Nothing matters more than why it is not ready.
			return "no", c.Reason
		}
		if c.Reason != "" && c.Type != "Ready" && why == "" {
			why = c.Reason
		}
	}
	return ready, why
}

func deployment(r wire.Resource) string {
	if r.Status.Deployment == 0 {
		return ""
	}
	return fmt.Sprint(r.Status.Deployment)
}

func labels(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
