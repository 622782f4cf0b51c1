// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/explain/render"
)

func newExplainCommand(a *app) *cobra.Command {
	var q answer.Question
	var headers, files []string
	var certificate string
	var f format
	var color bool
	c := &cobra.Command{
		Use:   "explain --from SOURCE [-X METHOD] [-H 'k: v'] URL",
		Short: "Say what becomes of a request, hop by hop: exit 0 allowed, 3 denied, 4 unknown",
		Long: "SOURCE is host/NAME, link/NAME[/IP], gateway/NAME, selfhosted/NAME[/IP] or internet[/IP].\n" +
			"URL has the scheme http, https, tcp (tcp://host:port), udp (udp://host:port) or dns (dns://name).",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.URL = args[0]
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok || name == "" {
					return usage("-H %q is not of the form 'name: value'", h)
				}
				q.Headers = append(q.Headers, answer.Header{Name: name, Value: strings.TrimSpace(value)})
			}
			if certificate != "" {
				var err error
				if q.ClientCert, err = certificatesOf(certificate); err != nil {
					return err
				}
			}
			ans, err := a.explain(cmd.Context(), q, files)
			if err != nil {
				return err
			}
			if err := a.print(f, ans, func() error { return render.Tree(a.out, &ans, render.Options{Color: color}) }); err != nil {
				return err
			}
			switch ans.Verdict {
			case answer.Allow:
				return nil
			case answer.Deny:
				return exit(exitDenied)
			default:
				return exit(exitUnknown)
			}
		},
	}
	fl := c.Flags()
	fl.StringVar(&q.From, "from", "", "who asks (required)")
	fl.StringVarP(&q.Method, "request", "X", "", "method; default GET")
	fl.StringArrayVarP(&headers, "header", "H", nil, "header field 'name: value'; may be repeated")
	fl.BoolVarP(&q.Insecure, "insecure", "k", false, "the caller does not verify certificates")
	fl.StringVar(&q.ConnectTo, "connect-to", "", "address that the caller connects to, whatever the name resolves to")
	fl.StringVar(&q.KeyOf, "key-of", "", "Subscription whose API key the caller has, in place of the key itself in x-api-key")
	fl.StringVar(&certificate, "cert", "", "PEM file with the certificate that the caller shows, and those that lead to an authority")
	filesFlag(c, &files)
	fl.Lookup("file").Usage = "ask these manifests instead of a server; may be repeated"
	outputFlag(c, &f)
	colorFlag(c, &color)
	_ = c.MarkFlagRequired("from") // fails only for a flag that does not exist
	return c
}

// certificatesOf reads the certificates in a PEM file, and nothing else of it:
// keys stay where they are.
func certificatesOf(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("%s: a certificate does not parse: %w", file, err)
		}
		block.Headers = nil
		if err := pem.Encode(&out, block); err != nil {
			return "", err
		}
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("%s: there is no certificate in PEM form; give the file that the caller sends with --cert", file)
	}
	return out.String(), nil
}

// explain asks manifests if there are any, else the server.
func (a *app) explain(ctx context.Context, q answer.Question, files []string) (answer.Answer, error) {
	if len(files) > 0 {
		objects, err := a.load(files)
		if err != nil {
			return answer.Answer{}, err
		}
		w, err := explain.Manifests(objects, "", time.Now())
		if err != nil {
			return answer.Answer{}, err
		}
		ans, err := explain.Explain(ctx, w, q)
		if err != nil {
			return answer.Answer{}, err
		}
		return *ans, nil
	}
	c, err := a.client()
	if err != nil {
		return answer.Answer{}, err
	}
	defer c.Close()
	return c.Explain(ctx, q)
}

func newWhyCommand(a *app) *cobra.Command {
	var f format
	var color bool
	c := &cobra.Command{
		Use: "why REQUEST-ID", Short: "Say why a request that has happened ended as it did", Args: cobra.ExactArgs(1),
		Long: "REQUEST-ID is what the response has in x-postern-request-id. What was recorded of the request is shown first:\n" +
			"status, code and revision. Below it the same question is explained as things are now.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.Request(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(f, r, func() error {
				method := r.Question.Method
				if method == "" {
					method = "GET"
				}
				fmt.Fprintf(a.out, "%s %s %s from %s\n", r.Time.Format("2006-01-02 15:04:05.000Z07:00"), method, r.Question.URL, r.Question.From)
				fmt.Fprintf(a.out, "recorded: status %d, %s, at revision %d%s\n", r.Recorded.Status, r.Recorded.Code, r.Recorded.Revision, by(r.Recorded.Protocol))
				if r.Difference != "" {
					fmt.Fprintf(a.out, "the explanation below differs: %s\n", r.Difference)
				}
				fmt.Fprintln(a.out)
				return render.Tree(a.out, &r.Answer, render.Options{Color: color})
			})
		},
	}
	outputFlag(c, &f)
	colorFlag(c, &color)
	return c
}

func colorFlag(c *cobra.Command, color *bool) {
	c.Flags().BoolVar(color, "color", false, "mark outcomes with the colours of a terminal")
}

// by tells of a request that did not come by HTTP/1.1, as most do.
func by(protocol string) string {
	if protocol == "" || protocol == "HTTP/1.1" {
		return ""
	}
	return ", by " + protocol
}
