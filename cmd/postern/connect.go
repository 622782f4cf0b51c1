// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/tunnel"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/model"
)

// connectTimeout bounds the wait for the hub's first answer.
const connectTimeout = 15 * time.Second

// offer is a local address that is offered at a port of the Host's.
type offer struct {
	port  uint16
	local string
}

type connection struct {
	offers  []string // --forward
	locals  []string // --local
	socks   string   // --socks
	verbose bool
	command []string
}

func newConnectCommand(a *app) *cobra.Command {
	var o connection
	c := &cobra.Command{
		Use:   "connect HOST [--forward PORT[:LOCAL]] [-- COMMAND ...]",
		Short: "Join the network as a Host, without root",
		Long: "Joins with a key of its own, kept in postern/hosts of the user's configuration folder. COMMAND runs\n" +
			"with the proxy variables set to a SOCKS5 proxy into the Network, which also resolves its private\n" +
			"names. --forward offers a local port at the Host's address: 8080, 80:8080 or 80:127.0.0.1:8080.",
		ValidArgsFunction: a.completeNames(1, model.KindHost),
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); len(args) == 0 || n < 0 && len(args) > 1 || n > 1 || n == 0 {
				return usage("name one Host, and the command behind --: postern connect HOST -- COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.command = args[1:]
			return a.connect(cmd.Context(), nameOf(model.KindHost, args[0]), o)
		},
	}
	fl := c.Flags()
	fl.StringArrayVar(&o.offers, "forward", nil, "offer a local port at the Host's address: PORT, PORT:LOCALPORT or PORT:HOST:LOCALPORT")
	fl.StringArrayVarP(&o.locals, "local", "L", nil, "reach into the Network from a local port: PORT:HOST:PORT")
	fl.StringVar(&o.socks, "socks", "", "where the SOCKS5 proxy listens, without a password, such as 127.0.0.1:1080")
	fl.BoolVarP(&o.verbose, "verbose", "v", false, "tell of connections that fail")
	return c
}

func (a *app) connect(ctx context.Context, host string, o connection) error {
	// What is wrong with the command line is told before the key of this machine
	// shuts out another's.
	offers := make([]offer, len(o.offers))
	for i, text := range o.offers {
		var err error
		if offers[i].port, offers[i].local, err = parseOffer(text); err != nil {
			return err
		}
	}
	for _, text := range o.locals {
		if err := checkLocal(text); err != nil {
			return err
		}
	}
	conf, ca, err := a.joinHost(ctx, host)
	if err != nil {
		return err
	}
	level := slog.LevelError
	if o.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
	t, err := join.Open(join.Options{Config: conf, Log: log})
	if err != nil {
		return err
	}
	defer t.Close()
	wait, cancel := context.WithTimeout(ctx, connectTimeout)
	err = t.Ready(wait)
	cancel()
	if err != nil {
		return &model.Error{Kind: model.Unavailable, Ref: model.Ref{Kind: model.KindHost, Name: host}, Msg: fmt.Sprintf("the hub at %s is silent; check that UDP reaches it", conf.Peers[0].Endpoint)}
	}
	for _, f := range offers {
		if _, err := t.Offer(f.port, f.local); err != nil {
			return err
		}
		fmt.Fprintf(a.err, "offered: %s at %s:%d\n", f.local, conf.Interface.Addresses[0].Addr(), f.port)
	}
	for _, text := range o.locals {
		port, remote, _ := strings.Cut(text, ":")
		s, err := t.Forward(net.JoinHostPort("127.0.0.1", port), remote)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "forwarded: %s to %s\n", s.Addr(), remote)
	}
	proxy := join.ProxyOptions{Listen: o.socks}
	if o.socks == "" {
		// A loopback port is open to every user of the machine.
		proxy.User, proxy.Password = "postern", rand.Text()
	}
	s, err := t.Proxy(proxy)
	if err != nil {
		return err
	}
	u := url.URL{Scheme: "socks5h", Host: s.Addr().String()}
	if proxy.User != "" {
		u.User = url.UserPassword(proxy.User, proxy.Password)
	}
	if len(o.command) == 0 {
		fmt.Fprintf(a.err, "joined as Host/%s at %s; end with ctrl-C\n", host, conf.Interface.Addresses[0].Addr())
		fmt.Fprintf(a.out, "%s\n", u.String())
		<-ctx.Done()
		return nil
	}
	return a.runThrough(ctx, o.command, u.String(), ca)
}

// joinHost registers this machine's key for a Host, and returns the tunnel and
// the file with the server's CA.
func (a *app) joinHost(ctx context.Context, host string) (*quick.Config, string, error) {
	s, _, err := a.settings()
	if err != nil {
		return nil, "", err
	}
	path, err := hostFile(s.Address, host, ".key")
	if err != nil {
		return nil, "", err
	}
	key, kept, err := hostKey(path)
	if err != nil {
		return nil, "", err
	}
	public, err := key.Public()
	if err != nil {
		return nil, "", err
	}
	c, err := client.New(client.Options{Address: s.Address, CA: s.CA, Token: s.Token})
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	ref := model.Ref{Kind: model.KindHost, Name: host}
	joined, err := c.Join(ctx, ref, wire.Join{PublicKey: public.String()})
	if err != nil {
		return nil, "", err
	}
	a.noteReplaced(ref, joined)
	// A Host that does not exist leaves no key behind.
	if !kept {
		if err := writePrivate(path, []byte(key.Reveal()+"\n")); err != nil {
			return nil, "", fmt.Errorf("keep the key of the Host: %w", err)
		}
	}
	ca, err := hostFile(s.Address, host, ".ca.pem")
	if err != nil {
		return nil, "", err
	}
	if err := writePrivate(ca, []byte(s.CA)); err != nil {
		return nil, "", fmt.Errorf("keep the server's CA: %w", err)
	}
	conf, err := tunnel.Config(joined, key)
	return conf, ca, err
}

// runThrough runs a command whose connections go through the proxy, and ends
// with its exit code.
func (a *app) runThrough(ctx context.Context, command []string, proxy, ca string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "POSTERN_CA_FILE="+ca)
	for _, name := range []string{"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"} {
		cmd.Env = append(cmd.Env, name+"="+proxy, strings.ToLower(name)+"="+proxy)
	}
	// Nothing goes around the proxy: an inherited exception would leave the
	// Network.
	cmd.Env = append(cmd.Env, "NO_PROXY=", "no_proxy=")
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if code := e.ExitCode(); code > 0 {
			return exit(code)
		}
		return exit(exitError)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", command[0], err)
	}
	return nil
}

// checkLocal says what is wrong with PORT:HOST:PORT.
func checkLocal(text string) error {
	port, remote, _ := strings.Cut(text, ":")
	_, portErr := strconv.ParseUint(port, 10, 16)
	_, remotePort, splitErr := net.SplitHostPort(remote)
	to, remoteErr := strconv.ParseUint(remotePort, 10, 16)
	if portErr != nil || splitErr != nil || remoteErr != nil || to == 0 {
		return usage("--local %q is not of the form PORT:HOST:PORT", text)
	}
	return nil
}

// parseOffer reads PORT, PORT:LOCALPORT or PORT:HOST:LOCALPORT.
func parseOffer(text string) (uint16, string, error) {
	first, local, ok := strings.Cut(text, ":")
	if !ok {
		local = first
	}
	if !strings.Contains(local, ":") {
		local = "127.0.0.1:" + local
	}
	port, err := strconv.ParseUint(first, 10, 16)
	_, localPort, splitErr := net.SplitHostPort(local)
	_, localErr := strconv.ParseUint(localPort, 10, 16)
	if err != nil || splitErr != nil || localErr != nil || port == 0 {
		return 0, "", usage("--forward %q is none of PORT, PORT:LOCALPORT and PORT:HOST:LOCALPORT", text)
	}
	return uint16(port), local, nil
}
