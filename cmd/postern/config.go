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
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1, model.KindHost, model.KindLink),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.wireguard(cmd.Context(), args[0], keyFile)
		},
	}
	wg.Flags().StringVar(&keyFile, "private-key", "", "file with the private key to use, as wg genkey prints it")
	ca := &cobra.Command{
		Use:   "ca",
		Short: "Print the certificate of the private CA, for programs that call APIs",
		Long:  "Prints the certificate that the client settings hold, in PEM: what curl takes with --cacert.",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return a.printCA() },
	}
	c.AddCommand(wg, ca)
	return c
}

// printCA prints what trusts the server: it is no secret, the rest of the client
// settings is.
func (a *app) printCA() error {
	s, path, err := a.settings()
	if err != nil {
		return err
	}
	if s.CA == "" {
		return &model.Error{Kind: model.NotFound, Position: model.Position{File: path}, Msg: "it holds no ca, so this server's certificates are those of a public CA, or the file was shortened; let postern server write it again"}
	}
	_, err = fmt.Fprintln(a.out, strings.TrimRight(s.CA, "\n"))
	return err
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
	ref, joined, err := joinMember(ctx, c, arg, in)
	if err != nil {
		return err
	}
	a.noteReplaced(ref, joined)
	if joined.PrivateKey != "" {
		if key, err = wgkey.ParsePrivate(joined.PrivateKey); err != nil {
			return fmt.Errorf("the server's answer for %s: %w", arg, err)
		}
	}
	conf, err := tunnel.Config(joined, key)
	if err != nil {
		return err
	}
	_, err = a.out.Write(append([]byte(heading(ref, joined)), conf.Reveal()...))
	return err
}

// heading is what a wg-quick file says about itself.
func heading(ref model.Ref, j wire.Joined) string {
	lines := []string{fmt.Sprintf("%s of Network/%s, made by postern config wireguard.", ref, j.Network)}
	if j.PrivateKey != "" {
		lines = append(lines, "The server keeps no copy of the private key. Running the command again registers another key, and then",
			"this file stops to work.")
	}
	if ref.Kind == model.KindLink {
		lines = append(lines,
			"For the router of the site: send what is for AllowedIPs through this tunnel, from the prefixes of the",
			"Link (postern get links) and unmasked. Address is the router's own matter; with one of the Link's",
			"prefixes the router can tell the Network of packets that are too large for the site.")
		if len(j.DNS) > 0 {
			lines = append(lines, "DNS makes this machine ask the Network's resolver, which gives a Link the public view; other",
				"machines of the site ask "+strings.Join(j.DNS, " or ")+" only if they are told to.")
		}
	} else if len(j.DNS) > 0 {
		lines = append(lines, "DNS is the Network's resolver, which knows the private names. wg-quick needs resolvconf for the line.")
	}
	return "# " + strings.Join(lines, "\n# ") + "\n\n"
}

// noteReplaced warns that whoever had joined before is shut out.
func (a *app) noteReplaced(ref model.Ref, j wire.Joined) {
	if j.Replaced {
		fmt.Fprintf(a.err, "warning: the key that %s had before is replaced; whoever uses it has to join again\n", ref)
	}
}

// joinMember registers a key for what arg names: host/NAME, link/NAME, or the
// one of these that exists.
func joinMember(ctx context.Context, c *client.Client, arg string, in wire.Join) (model.Ref, wire.Joined, error) {
	kind, name, qualified := strings.Cut(arg, "/")
	if qualified {
		k, ok := model.ParseKind(kind)
		if !ok || k != model.KindHost && k != model.KindLink {
			return model.Ref{}, wire.Joined{}, usage("%q is neither host/NAME nor link/NAME", arg)
		}
		ref := model.Ref{Kind: k, Name: name}
		joined, err := c.Join(ctx, ref, in)
		return ref, joined, err
	}
	// A Host, or a token that may join but not read: then the Host is meant.
	host, link := model.Ref{Kind: model.KindHost, Name: arg}, model.Ref{Kind: model.KindLink, Name: arg}
	ref := host
	_, hostErr := c.Get(ctx, host)
	_, linkErr := c.Get(ctx, link)
	switch {
	case hostErr == nil && linkErr == nil:
		return model.Ref{}, wire.Joined{}, usage("there is a Host and a Link called %q; write host/%s or link/%s", arg, arg, arg)
	case linkErr == nil:
		ref = link
	case notFound(hostErr) && notFound(linkErr):
		return model.Ref{}, wire.Joined{}, &model.Error{Kind: model.NotFound, Msg: fmt.Sprintf("there is neither a Host nor a Link called %q; postern get hosts and postern get links list them", arg)}
	}
	joined, err := c.Join(ctx, ref, in)
	return ref, joined, err
}

func notFound(err error) bool {
	e, ok := errors.AsType[*model.Error](err)
	return ok && e.Kind == model.NotFound
}
