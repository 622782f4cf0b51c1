// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/spf13/cobra"

	"postern.dev/postern/internal/otlp/otlphttp"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/setting"
)

func newGatewayCommand(a *app) *cobra.Command {
	var files []string
	var resolver string
	c := &cobra.Command{
		Use:   "gateway [--settings FILE] [--config.service.endpoint ENDPOINT] ...",
		Short: "Run a self-hosted gateway next to backends",
		Long: "A self-hosted gateway serves the APIs that its SelfHostedGateway is assigned, and goes on serving while the\n" +
			"management plane is away. Its settings have the names of Azure's: each is a flag, a variable (as written, or\n" +
			"CONFIG_SERVICE_ENDPOINT) or a line of a file (name: value, NAME=VALUE). A flag comes before a variable, and that\n" +
			"before a file. Two are enough, and postern token create --role selfhosted prints them: config.service.endpoint and\n" +
			"config.service.auth. Keep the latter in a file or a variable: flags are seen by everybody on the machine.",
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.StringSliceVar(&files, "settings", nil, "file of settings, or a folder with a file for each; may be repeated")
	fl.StringVar(&resolver, "resolver", "", "as --net.resolver: DNS server, HOST:PORT, for names below the base domain")
	for _, s := range setting.All() {
		usage := s.Usage
		if s.Without != "" {
			usage = "without effect: " + s.Without
		}
		fl.String(s.Name, s.Default, usage)
		if s.Switch {
			fl.Lookup(s.Name).NoOptDefVal = "true"
		}
		if s.Without != "" {
			_ = fl.MarkHidden(s.Name) // fails only for a flag that does not exist
		}
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		given := map[string]string{}
		if resolver != "" {
			given["net.resolver"] = resolver
		}
		for _, s := range setting.All() {
			if f := fl.Lookup(s.Name); f.Changed {
				given[s.Name] = f.Value.String()
			}
		}
		return selfhosted.RunTracing(cmd.Context(), setting.Sources{Flags: given, Environ: os.Environ(), Files: files}, a.out, buildVersion(), otlphttp.New)
	}
	return c
}
