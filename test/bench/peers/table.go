// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"postern.dev/postern/test/bench/peers/gateway"
)

func numCPU() int { return runtime.NumCPU() }

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func perSecond(f figures) float64 { return f.perSecond }

// median is the middle one of a gateway's figures, or the mean of the two.
func (r *results) median(name string, of func(figures) float64) float64 {
	var v []float64
	for _, f := range r.of[name] {
		v = append(v, of(f))
	}
	slices.Sort(v)
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}

// column is one figure of the table.
type column struct {
	title  string
	format string
	of     func(figures) float64
}

var columns = []column{
	{"requests/s", "%.0f", perSecond},
	{"p50 ms", "%.2f", func(f figures) float64 { return us(f.p50) / 1000 }},
	{"p99 ms", "%.2f", func(f figures) float64 { return us(f.p99) / 1000 }},
	{"CPU us/request", "%.1f", func(f figures) float64 { return us(f.cpu) }},
	{"memory MiB", "%.1f", func(f figures) float64 { return f.memory / (1 << 20) }},
}

var idleColumns = []column{
	{"KiB a connection", "%.1f", func(f figures) float64 { return f.memory / kib }},
}

// print writes the table of a scenario.
func (r *results) print(w io.Writer) {
	cols := columns
	if r.idle > 0 {
		cols = idleColumns
	}
	fmt.Fprintf(w, "\n(%s) %s", r.name, r.title)
	if r.rate > 0 {
		fmt.Fprintf(w, ": %.0f a second", r.rate)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, c := range cols {
		fmt.Fprintf(t, "%s\t\t", c.title)
	}
	fmt.Fprintln(t)
	var notes []string
	for _, g := range gateway.All {
		if n := r.notes[g.Name]; n != "" {
			notes = append(notes, g.Name+": "+n)
		}
		if len(r.of[g.Name]) == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t", g.Name)
		for _, c := range cols {
			v := r.median(g.Name, c.of)
			fmt.Fprintf(t, c.format+"\t", v)
			if nginx := r.median("nginx", c.of); nginx > 0 {
				fmt.Fprintf(t, "%.2f\t", v/nginx)
			} else {
				fmt.Fprint(t, "\t")
			}
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // as what it writes to
	for _, n := range notes {
		fmt.Fprintln(w, "  "+n)
	}
}
