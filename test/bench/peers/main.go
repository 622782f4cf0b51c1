// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command peers compares Postern with other gateways: each does the same work
// as a process of its own, in rounds that take turns, and one table a scenario
// says what it took. The README says how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern.dev/postern/test/bench/peers/gateway"
	"postern.dev/postern/test/bench/peers/origin"
)

// asOrigin is how this program starts itself as the backend.
const asOrigin = "origin"

func main() {
	if len(os.Args) == 3 && os.Args[1] == asOrigin {
		fmt.Fprintln(os.Stderr, serveOrigin(os.Args[2]))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := bench(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func serveOrigin(size string) error {
	var n int
	if _, err := fmt.Sscan(size, &n); err != nil {
		return err
	}
	s, err := origin.Listen(n)
	if err != nil {
		return err
	}
	fmt.Println(s.Address())
	return s.Serve()
}

// options are the flags.
type options struct {
	scenarios, gateways []string
	rounds, conns       int
	duration, warmup    time.Duration
	profile             string
	rate                int // that each key may have a second
	limit               int // connections that the machine lets us have
	out, log            io.Writer
	root, dir           string
}

func bench(ctx context.Context, args []string, out, log io.Writer) (err error) {
	o := options{out: out, log: log, rate: 500}
	fl := flag.NewFlagSet("peers", flag.ContinueOnError)
	fl.SetOutput(log)
	which := fl.String("scenario", "all", "what to measure: "+strings.Join(names(), ","))
	who := fl.String("gateways", "all", "whom to measure: "+strings.Join(gatewayNames(), ","))
	fl.IntVar(&o.rounds, "rounds", 5, "rounds of each scenario; the figures are medians")
	fl.IntVar(&o.conns, "conns", 64, "connections of clients")
	fl.DurationVar(&o.duration, "duration", 4*time.Second, "how long a gateway is measured in a round")
	fl.DurationVar(&o.warmup, "warmup", time.Second, "how long it is warmed up before")
	fl.StringVar(&o.profile, "profile", "", "write a CPU profile of Postern, of the last round, to this `file`; SCENARIO in its name is replaced")
	fl.StringVar(&o.dir, "dir", "", "keep everything in this `folder`: configurations, logs (default: a temporary one)")
	quick := fl.Bool("quick", false, "one short round of every scenario with nginx and Postern, to see that all of this works; says nothing about speed")
	if err := fl.Parse(args); err != nil {
		return err
	}
	if *quick {
		o.rate = 100 // a slow machine has to get beyond it, to see that it holds
		o.rounds, o.conns, o.duration, o.warmup = 1, 8, 300*time.Millisecond, 100*time.Millisecond
		if *who == "all" {
			*who = "nginx,postern"
		}
	}
	if o.scenarios, err = choose(*which, names(), "scenario"); err != nil {
		return err
	}
	if o.gateways, err = choose(*who, gatewayNames(), "gateway"); err != nil {
		return err
	}
	if o.rounds < 1 || o.conns < 1 || o.duration <= 0 || o.warmup < 0 {
		return errors.New("-rounds, -conns and -duration have to be more than nothing")
	}
	if o.root, err = root(ctx); err != nil {
		return err
	}
	if o.limit, err = gateway.Connections(); err != nil {
		return err
	}
	if o.conns > o.limit || o.limit < 1 {
		return fmt.Errorf("-conns %d are too many for this machine: ulimit -n lets it have %d", o.conns, o.limit)
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "postern-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
		// Servers that drop their privileges have to get in as well.
		if err := os.Chmod(o.dir, 0o755); err != nil {
			return err
		}
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	return o.run(ctx)
}

// choose reads a list of names, or all.
func choose(text string, all []string, what string) ([]string, error) {
	if text == "all" {
		return all, nil
	}
	var out []string
	for _, n := range strings.Split(text, ",") {
		if n = strings.TrimSpace(n); !slices.Contains(all, n) {
			return nil, fmt.Errorf("there is no %s %q; there are %s", what, n, strings.Join(all, ", "))
		}
		out = append(out, n)
	}
	return out, nil
}

func gatewayNames() []string {
	var out []string
	for _, g := range gateway.All {
		out = append(out, g.Name)
	}
	return out
}

// root finds the module that this program is of.
func root(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for the module: %w", err)
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if path != "postern.dev/postern" {
		return "", fmt.Errorf("this is the module %s; run it in the folder of Postern's", path)
	}
	return dir, nil
}
