// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command postern-gateway is a self-hosted gateway and nothing else: what
// postern gateway is, in a small binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"postern.dev/postern/model/near"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/setting"
)

// version is set by the linker for a release.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args, environ []string, out, errs io.Writer) int {
	src := setting.Sources{Environ: environ, Flags: map[string]string{}}
	fl := flag.NewFlagSet("postern-gateway", flag.ContinueOnError)
	fl.SetOutput(io.Discard) // what is wrong is one line
	show := fl.Bool("version", false, "print the version and end")
	fl.Func("settings", "`FILE` of settings, or a folder with a file for each; may be repeated", func(s string) error {
		src.Files = append(src.Files, s)
		return nil
	})
	set := func(name string) func(string) error {
		return func(value string) error {
			src.Flags[name] = value
			return nil
		}
	}
	fl.Func("resolver", "as -net.resolver: DNS server, `HOST:PORT`, for names below the base domain", set("net.resolver"))
	for _, s := range setting.All() {
		switch usage := s.Usage; {
		case s.Without != "":
			usage = "without effect: " + s.Without
			fallthrough
		default:
			if s.Default != "" {
				usage += " [" + s.Default + "]"
			}
			if s.Switch {
				fl.BoolFunc(s.Name, usage, set(s.Name))
			} else {
				fl.Func(s.Name, usage, set(s.Name))
			}
		}
	}
	switch err := fl.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fl.SetOutput(errs)
		fl.Usage()
		return 0
	case err != nil:
		fmt.Fprintf(errs, "postern-gateway: %s%s\n", err, meant(fl, err))
		return 1
	case fl.NArg() > 0:
		fmt.Fprintf(errs, "postern-gateway: it takes flags alone, and %q is none\n", fl.Arg(0))
		return 1
	case *show:
		fmt.Fprintln(out, "postern-gateway", buildVersion())
		return 0
	}
	if err := selfhosted.Run(ctx, src, out, buildVersion()); err != nil {
		fmt.Fprintln(errs, "postern-gateway:", err)
		return 1
	}
	return 0
}

// meant says which flag an unknown one was probably meant to be, or where they are
// listed.
func meant(fl *flag.FlagSet, err error) string {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	var names []string
	fl.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	if to := near.To(name, names); unknown && to != "" {
		return "; did you mean --" + to + "?"
	}
	return "; postern-gateway --help lists what there is"
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
