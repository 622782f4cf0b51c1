// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"postern.dev/postern/client"
	"postern.dev/postern/client/tunnel"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
)

func newConfigCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Write configuration for other programs"}
	var keyFile string
	wg := &cobra.Command{
		Use:   "wireguard HOST|LINK",
		Short: "Print a wg-quick file for a stock WireGuard client",
		Long: "HOST|LINK is a name, or host/NAME or link/NAME where both exist. The server makes a key pair\n" +
			"and shows the private key this once, unless --private-key names a file with one; the key that\n" +
			"was registered before stops to work.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.wireguard(cmd.Context(), args[0], keyFile)
		},
	}
	wg.Flags().StringVar(&keyFile, "private-key", "", "file with the private key to use, as wg genkey prints it")
	c.AddCommand(wg)
	return c
}

func (a *app) wireguard(ctx context.Context, arg, keyFile string) error {
	var key wgkey.Private
	var in wire.Join
	if keyFile != "" {
		text, err := os.ReadFile(keyFile)
		if err != nil {
			return fmt.Errorf("read the private key: %w", err)
		}
		if key, err = wgkey.ParsePrivate(strings.TrimSpace(string(text))); err != nil {
			return usage("%s holds no WireGuard key, as wg genkey prints one", keyFile)
		}
		public, err := key.Public()
		if err != nil {
			return err
		}
		in.PublicKey = public.String()
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	joined, err := joinMember(ctx, c, arg, in)
	if err != nil {
		return err
	}
	if joined.PrivateKey != "" {
		if key, err = wgkey.ParsePrivate(joined.PrivateKey); err != nil {
			return fmt.Errorf("the server's answer for %s: %w", arg, err)
		}
	}
	conf, err := tunnel.Config(joined, key)
	if err != nil {
		return err
	}
	_, err = a.out.Write(conf.Reveal())
	return err
}

// joinMember registers a key for what arg names: host/NAME, link/NAME, or the
// one of these that exists.
func joinMember(ctx context.Context, c *client.Client, arg string, in wire.Join) (wire.Joined, error) {
	kind, name, qualified := strings.Cut(arg, "/")
	if qualified {
		k, ok := model.ParseKind(kind)
		if !ok || k != model.KindHost && k != model.KindLink {
			return wire.Joined{}, usage("%q is neither host/NAME nor link/NAME", arg)
		}
		return c.Join(ctx, model.Ref{Kind: k, Name: name}, in)
	}
	host, link := model.Ref{Kind: model.KindHost, Name: arg}, model.Ref{Kind: model.KindLink, Name: arg}
	_, hostErr := c.Get(ctx, host)
	_, linkErr := c.Get(ctx, link)
	switch {
	case hostErr == nil && linkErr == nil:
		return wire.Joined{}, usage("there is a Host and a Link called %q; write host/%s or link/%s", arg, arg, arg)
	case linkErr == nil:
		return c.Join(ctx, link, in)
	case notFound(hostErr) && notFound(linkErr):
		return wire.Joined{}, &model.Error{Kind: model.NotFound, Msg: fmt.Sprintf("there is neither a Host nor a Link called %q; postern get hosts and postern get links list them", arg)}
	}
	// A Host, or a token that may join but not read: then the Host is meant.
	return c.Join(ctx, host, in)
}

func notFound(err error) bool {
	e, ok := errors.AsType[*model.Error](err)
	return ok && e.Kind == model.NotFound
}
