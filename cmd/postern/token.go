// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/settings"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func newTokenCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make, list and revoke tokens"}
	c.AddCommand(newTokenCreateCommand(a), newTokenListCommand(a), newTokenRevokeCommand(a), newTokenRotateCommand(a))
	return c
}

func newTokenCreateCommand(a *app) *cobra.Command {
	var t wire.NewToken
	var f format
	var file string
	var force bool
	c := &cobra.Command{
		Use: "create --role ROLE [--for SUBJECT] [--settings FILE]", Short: "Make a token and print it, this once", Args: cobra.NoArgs,
		Long: "Programs send the token as Authorization: Bearer. --settings writes a FILE for postern --config, with\n" +
			"the address and the CA of this server and the token, for who is to use it. A selfhosted token comes with the\n" +
			"settings of its gateway, for both protocols, at the host name and port that will work from where it stands; --settings\n" +
			"writes these to FILE.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := os.Lstat(file); file != "" && err == nil && !force {
				return usage("--settings %s exists already, and has a token that may be in use; name another file, or overwrite it with --force", file)
			}
			if t.Role == selfHostedRole && t.Subject != "" && !strings.Contains(t.Subject, "/") {
				t.Subject = selfHostedRole + "/" + t.Subject
			}
			made, err := c.CreateToken(cmd.Context(), t)
			if err != nil {
				return err
			}
			if made.Settings != nil {
				return a.gatewaySettings(f, file, made)
			}
			if file != "" {
				if err := a.saveToken(file, made.Value); err != nil {
					return fmt.Errorf("token %s is made, but not kept: %w", made.ID, err)
				}
				made.Value = ""
			}
			return a.print(f, made, func() error {
				if file != "" {
					_, err := fmt.Fprintf(a.out, "token %s is in %s; use it with --config %s\n", made.ID, file, file)
					return err
				}
				fmt.Fprintln(a.err, "shown this once; send it as Authorization: Bearer, or make a client.yaml of it with --settings FILE")
				_, err := fmt.Fprintln(a.out, made.Value)
				return err
			})
		},
	}
	fl := c.Flags()
	fl.StringVar(&t.Role, "role", "", "admin, publisher, viewer, host or selfhosted")
	fl.StringVar(&t.Subject, "for", "", "host/NAME or link/NAME for a host token, selfhosted/NAME, or NAME, for a selfhosted one")
	fl.StringVar(&t.Key, "key", "", "key that a selfhosted token is signed with, primary or secondary; default primary")
	fl.StringVar(&t.Lifetime, "lifetime", "", "how long it is valid, such as 720h; default until revoked, or 720h, which is the longest, for a selfhosted one")
	fl.StringVar(&t.Comment, "comment", "", "what it is for")
	fl.StringVar(&file, "settings", "", "write client settings with the token to this file, mode 0600, rather than print it")
	fl.BoolVar(&force, "force", false, "overwrite the file of --settings; the token that it has stays valid until it ends or is revoked")
	fl.BoolVar(&t.Enrol, "enrol", false, "in place of a selfhosted token, make one with which the gateway gets a client certificate, once")
	completeFlag(c, "key", "primary", "secondary")
	completeFlag(c, "role", "admin", "publisher", "viewer", "host", "selfhosted")
	outputFlag(c, &f)
	_ = c.MarkFlagRequired("role") // fails only for a flag that does not exist
	return c
}

// saveToken writes this client's settings with another token.
func (a *app) saveToken(file, value string) error {
	s, _, err := a.settings()
	if err != nil {
		return err
	}
	s.Token = model.NewSecret(value)
	return settings.Save(file, s)
}

func newTokenListCommand(a *app) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use: "list", Short: "List tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			ts, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(f, ts, func() error {
				rows := make([][]string, len(ts))
				for i, t := range ts {
					expires := "never"
					if !t.Expires.IsZero() {
						expires = t.Expires.Format(time.RFC3339)
					}
					rows[i] = []string{t.ID, t.Role, t.Subject, t.Created.Format(time.RFC3339), expires, t.Key, t.Comment}
				}
				return a.columns([]string{"ID", "ROLE", "FOR", "CREATED", "EXPIRES", "KEY", "COMMENT"}, rows)
			})
		},
	}
	outputFlag(c, &f)
	return c
}

func newTokenRevokeCommand(a *app) *cobra.Command {
	var subject string
	r := &cobra.Command{
		Use: "revoke ID | --for selfhosted/NAME", Short: "Revoke a token, or all that a self-hosted gateway has", Args: cobra.MaximumNArgs(1),
		Long: "--for ends every token, certificate and enrolment of a self-hosted gateway and closes its streams. What it was sent,\n" +
			"it serves on.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (subject == "") {
				return usage("name one token by its ID, or a self-hosted gateway by --for selfhosted/NAME")
			}
			name, ok := strings.CutPrefix(subject, selfHostedRole+"/")
			if subject != "" && (!ok && strings.Contains(subject, "/") || name == "") {
				return usage("--for %q: all tokens are ended of a self-hosted gateway alone, selfhosted/NAME; end those of others by their ID, which postern token list shows", subject)
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if subject != "" {
				r, err := c.RevokeAccess(cmd.Context(), name)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "SelfHostedGateway/%s has nothing left to show; ended: tokens %d, certificates %d, enrolments %d\n", r.Name, r.Tokens, r.Certificates, r.Enrolments)
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "token %s revoked\n", args[0])
			return err
		},
	}
	r.Flags().StringVar(&subject, "for", "", "end all that selfhosted/NAME, or NAME, can authenticate with")
	return r
}
