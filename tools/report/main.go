// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command report reads what go test -json wrote, prints what failed, and fails if
// anything did; with -skips also if a test was skipped in every run that had it.
//
//	report [-skips] FILE...
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json; what does not build has an ImportPath.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

type name struct{ pkg, test string }

func (n name) String() string {
	if n.test == "" {
		return n.pkg
	}
	return n.pkg + " " + n.test
}

type results struct {
	output           map[name][]string
	failed           []name
	skipped, notSkip map[name]bool
	passed           int
}

func main() {
	skips := flag.Bool("skips", false, "fail for tests that were never run")
	flag.Parse()
	r := results{output: map[name][]string{}, skipped: map[name]bool{}, notSkip: map[name]bool{}}
	for _, path := range flag.Args() {
		f, err := os.Open(path)
		if err == nil {
			err = r.read(f)
			f.Close() // it was only read
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "report:", err)
			os.Exit(2)
		}
	}
	if !r.print(os.Stdout, *skips) {
		os.Exit(1)
	}
}

func (r *results) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // not of go test: what a tool before it had to say
		}
		n := name{e.Package, e.Test}
		if e.Package == "" {
			n.pkg = e.ImportPath
		}
		switch e.Action {
		case "output", "build-output":
			r.output[n] = append(r.output[n], e.Output)
		case "fail", "build-fail":
			r.failed = append(r.failed, n)
		case "skip":
			if e.Test != "" { // else a package without tests
				r.skipped[n] = true
			}
		case "pass":
			if e.Test != "" {
				r.passed++
				r.notSkip[n] = true
			}
		}
	}
	return lines.Err()
}

// print tells of failures and, if asked for, of what was never run; it reports
// whether there was nothing to tell.
func (r *results) print(w io.Writer, never bool) bool {
	for _, n := range r.failed {
		fmt.Fprintf(w, "FAILED %s\n%s", n, strings.Join(r.output[n], ""))
	}
	var skips []name
	for n := range r.skipped {
		if never && !r.notSkip[n] {
			skips = append(skips, n)
		}
	}
	slices.SortFunc(skips, func(a, b name) int { return strings.Compare(a.String(), b.String()) })
	for _, n := range skips {
		fmt.Fprintf(w, "SKIPPED %s\n%s", n, strings.Join(r.output[n], ""))
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", r.passed, len(r.failed), len(skips))
	return len(r.failed)+len(skips) == 0
}
