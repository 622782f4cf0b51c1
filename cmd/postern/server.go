// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/settings"
	"postern.dev/postern/instance"
	"postern.dev/postern/internal/otlp"
	"postern.dev/postern/model"
)

// serverFlags are the flags of postern server as they were written.
type serverFlags struct {
	data, base, segment, management, wireguard, public string
	accessLog, collector                               string
	ratio                                              float64
	ratioGiven                                         bool
	publicPorts, egress, etcd                          []string
	connections, connectionsEach                       int
	verbose                                            bool
}

func newServerCommand(a *app) *cobra.Command {
	var f serverFlags
	c := &cobra.Command{
		Use:   "server --data DIR",
		Short: "Run the management plane, the managed gateway and the networks",
		Long: "The server keeps everything in DIR, serves the management API on 127.0.0.1:3443, and writes\n" +
			"DIR/client.yaml, which the other commands use. Nothing else listens beyond this machine's loopback\n" +
			"unless a flag asks for it: --wireguard for tunnels, --public for the Gateways' published ports,\n" +
			"the management API among them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.ratioGiven = cmd.Flags().Changed("trace-ratio")
			o, err := f.options()
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if f.verbose {
				level = slog.LevelDebug
			}
			o.Stdout, o.Version = a.out, buildVersion()
			o.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
			return a.serve(cmd.Context(), o)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.data, "data", "postern-data", "folder of the store, its key and client.yaml")
	fl.StringSliceVar(&f.etcd, "etcd", nil, "addresses of an etcd cluster to use in place of the embedded store")
	fl.StringVar(&f.base, "base-domain", model.DefaultBase, "domain of the host names that Postern makes")
	fl.StringVar(&f.segment, "internet-segment", model.DefaultInternet.String(), "prefix of the Gateways' public addresses")
	fl.StringVar(&f.management, "management", "127.0.0.1:3443", "address of the management API")
	fl.StringVar(&f.wireguard, "wireguard", "", "offer WireGuard on ADDR:LOW-HIGH, one UDP port a Network")
	fl.StringVar(&f.public, "public", "", "offer the Gateways' published ports on this address")
	fl.StringSliceVar(&f.publicPorts, "public-ports", nil, "move published ports: 443=8443,...")
	fl.IntVar(&f.connections, "public-connections", instance.MaxPublic, "connections that --public has at a time")
	fl.IntVar(&f.connectionsEach, "public-connections-each", 0, "of these, connections from one address (default a quarter)")
	fl.StringSliceVar(&f.egress, "allow-egress", nil, "prefix that Hosts and APIs may reach through this server although it is not public; may be repeated")
	fl.StringVar(&f.accessLog, "access-log", "", "file of the gateway's access log, or - for standard output; SIGHUP opens it again")
	fl.StringVar(&f.collector, "otlp-endpoint", "", "URL of an OpenTelemetry collector that gets traces, such as http://127.0.0.1:4318")
	fl.Float64Var(&f.ratio, "trace-ratio", 1, "part of the requests that is traced, from 0 to 1, unless their callers have decided")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log more")
	return c
}

// serve runs a server until the context ends.
func (a *app) serve(ctx context.Context, o instance.Options) error {
	i, err := instance.Start(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "postern is ready: %s\nclient settings: %s/%s\n", i.Settings().Address, o.Data, settings.FileName)
	select {
	case <-ctx.Done():
	case <-i.Done():
	}
	return i.Close()
}

// options reads the flags.
func (f *serverFlags) options() (instance.Options, error) {
	o := instance.Options{Data: f.data, Base: f.base, Management: f.management, Cluster: f.etcd, AccessLog: f.accessLog, PublicPorts: map[uint16]uint16{}}
	var errs []error
	var err error
	if o.Segment, err = netip.ParsePrefix(f.segment); err != nil {
		errs = append(errs, usage("--internet-segment %q is not a prefix such as 198.18.0.0/15", f.segment))
	}
	if f.wireguard != "" {
		if o.WireGuard, o.Low, o.High, err = parseHubs(f.wireguard); err != nil {
			errs = append(errs, err)
		}
	}
	if f.public != "" {
		if o.Public, err = netip.ParseAddr(f.public); err != nil {
			errs = append(errs, usage("--public %q is not an IP address", f.public))
		}
	}
	for _, p := range f.publicPorts {
		from, to, ok := strings.Cut(p, "=")
		x, errX := strconv.ParseUint(from, 10, 16)
		y, errY := strconv.ParseUint(to, 10, 16)
		if !ok || errX != nil || errY != nil || x == 0 || y == 0 {
			errs = append(errs, usage("--public-ports %q is not of the form 443=8443", p))
			continue
		}
		if _, twice := o.PublicPorts[uint16(x)]; twice || slices.Contains(slices.Collect(maps.Values(o.PublicPorts)), uint16(y)) {
			errs = append(errs, usage("--public-ports %q names a port that another one has already; give each its own", p))
			continue
		}
		o.PublicPorts[uint16(x)] = uint16(y)
	}
	if f.public == "" && len(f.publicPorts) > 0 {
		errs = append(errs, usage("--public-ports moves what --public offers; say with --public on which address"))
	}
	if o.PublicConnections, o.PublicConnectionsEach = f.connections, f.connectionsEach; f.connections < 0 || f.connectionsEach < 0 || f.connectionsEach > max(f.connections, 1) {
		errs = append(errs, usage("--public-connections %d and --public-connections-each %d are no bounds; write how many there may be, and of these from one address", f.connections, f.connectionsEach))
	}
	if o.Collector = f.collector; f.collector != "" {
		if _, err := otlp.ParseEndpoint(f.collector); err != nil {
			errs = append(errs, usage("--otlp-endpoint %v", err))
		}
	}
	if f.ratioGiven {
		if !(f.ratio >= 0 && f.ratio <= 1) {
			errs = append(errs, usage("--trace-ratio %v is not from 0 to 1", f.ratio))
		}
		o.Ratio = &f.ratio
	}
	for _, e := range f.egress {
		p, err := netip.ParsePrefix(e)
		if err != nil {
			errs = append(errs, usage("--allow-egress %q is not a prefix such as 10.0.0.0/8", e))
			continue
		}
		o.AllowEgress = append(o.AllowEgress, p.Masked())
	}
	return o, errors.Join(errs...)
}

// parseHubs reads ADDR:LOW-HIGH.
func parseHubs(s string) (addr netip.Addr, low, high int, err error) {
	bad := usage("--wireguard %q is not of the form ADDR:LOW-HIGH, such as 0.0.0.0:51820-51899", s)
	host, ports, err := net.SplitHostPort(s)
	if err != nil {
		return addr, 0, 0, bad
	}
	if addr, err = netip.ParseAddr(host); err != nil {
		return addr, 0, 0, bad
	}
	from, to, ok := strings.Cut(ports, "-")
	if !ok {
		to = from
	}
	low, errLow := strconv.Atoi(from)
	high, errHigh := strconv.Atoi(to)
	if errLow != nil || errHigh != nil || low < 1 || high > 65535 || low > high {
		return addr, 0, 0, bad
	}
	return addr, low, high, nil
}
