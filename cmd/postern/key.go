// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func newKeyCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "Issue, list and revoke API keys"}
	c.AddCommand(newKeyCreateCommand(a), newKeyListCommand(a), newKeyRevokeCommand(a))
	return c
}

func newKeyCreateCommand(a *app) *cobra.Command {
	var k wire.NewKey
	var f format
	var from string
	c := &cobra.Command{
		Use: "create SUBSCRIPTION", Short: "Issue an API key and print it, this once", Args: cobra.ExactArgs(1),
		Long: "Callers send the key in the header x-api-key. The server keeps a hash of it alone. --value-from takes a key that\n" +
			"was made elsewhere, so that callers who move here keep theirs.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.namesOf(cmd.Context(), []model.Kind{model.KindSubscription}), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if from != "" {
				value, err := readKey(from, a.in)
				if err != nil {
					return err
				}
				k.Value = value
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			made, err := c.CreateKey(cmd.Context(), args[0], k)
			if err != nil {
				return err
			}
			return a.print(f, made, func() error {
				fmt.Fprintln(a.err, "key "+made.ID+", shown this once; send it as x-api-key")
				_, err := fmt.Fprintln(a.out, made.Value)
				return err
			})
		},
	}
	c.Flags().StringVar(&k.Comment, "comment", "", "what it is for")
	c.Flags().StringVar(&from, "value-from", "", "read the key from this file rather than make one; - is standard input")
	outputFlag(c, &f)
	return c
}

// readKey reads a key from a file. It never stands in an argument, which others
// could see.
func readKey(file string, in io.Reader) (string, error) {
	const most = 4096
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(in, most))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	if value := strings.TrimSpace(string(text)); value != "" {
		return value, nil
	}
	return "", usage("--value-from %s holds no key", file)
}

func newKeyListCommand(a *app) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use: "list", Short: "List API keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			ks, err := c.Keys(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(f, ks, func() error {
				rows := make([][]string, len(ks))
				for i, k := range ks {
					rows[i] = []string{k.ID, k.Subscription, k.Product, k.Consumer, k.Created.Format(time.RFC3339), keyLimits(&k), k.Comment}
				}
				return a.columns([]string{"ID", "SUBSCRIPTION", "PRODUCT", "CONSUMER", "CREATED", "LIMITS", "COMMENT"}, rows)
			})
		},
	}
	outputFlag(c, &f)
	return c
}

// keys prints the keys of a Subscription with what they may, and have used.
func (a *app) keys(ctx context.Context, subscription string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ks, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	for _, k := range ks {
		if k.Subscription != subscription {
			continue
		}
		line := "  key " + k.ID
		if k.Comment != "" {
			line += " (" + oneLine(k.Comment) + ")"
		}
		if _, err := fmt.Fprintln(a.out, line+": "+keyLimits(&k)); err != nil {
			return err
		}
	}
	return nil
}

// keyLimits says what a key may, and what it has used of that.
func keyLimits(k *wire.Key) string {
	var parts []string
	if q := k.Quota; q != nil {
		text := fmt.Sprintf("%d requests a %s", q.Limit, q.Period)
		if q.Used != nil {
			text = fmt.Sprintf("%d of %s used", *q.Used, text)
		}
		parts = append(parts, text+", until "+q.Renews.Format(time.RFC3339))
	}
	if t := k.Throttle; t != nil {
		text := strconv.FormatFloat(t.Rate, 'f', -1, 64) + " requests a second, " + strconv.Itoa(t.Burst) + " at once"
		if t.Left != nil {
			text += ", " + strconv.Itoa(*t.Left) + " left now"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "no limit"
	}
	return strings.Join(parts, "; ")
}

func newKeyRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke an API key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.RevokeKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "key %s revoked\n", args[0])
			return err
		},
	}
}
