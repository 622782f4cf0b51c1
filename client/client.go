// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package client calls the management API. The command, the console and tests
// use it; it knows nothing that the API does not say.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

// maxAnswer bounds the answers that are read.
const maxAnswer = 256 << 20

// Options say whom to call.
type Options struct {
	// Address is https://host:port.
	Address string
	// CA is the server's root certificate in PEM; the system's roots if empty.
	CA string
	// Token is the bearer token.
	Token model.Secret
	// Dial, if set, replaces the dialling of TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one call; a minute if 0.
	Timeout time.Duration
}

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token model.Secret
	http  *http.Client
}

// New returns a client; it calls nobody yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, &model.Error{Kind: model.Invalid, Field: "address", Msg: strconv.Quote(o.Address) + " is not of the form https://host:port"}
	}
	t := &http.Transport{
		DialContext:           o.Dial,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   4,
	}
	if o.Dial == nil {
		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	if o.CA != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(o.CA)) {
			return nil, &model.Error{Kind: model.Invalid, Field: "ca", Msg: "it holds no PEM certificate"}
		}
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	return &Client{base: u, token: o.Token, http: &http.Client{
		Transport: t, Timeout: o.Timeout,
		// The API does not redirect; a token must not follow anywhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Address is the server's, as it was given.
func (c *Client) Address() string { return c.base.String() }

// request is one call.
type request struct {
	method string
	path   []string // unescaped, below /v1
	query  url.Values
	body   any
	// ifMatch is the revision that must be found, 0 for any.
	ifMatch int64
	// accept lists statuses beside 2xx whose body is an answer, no problem.
	accept int
}

// do sends a request and reads the answer into out, unless that is nil. Errors
// are *model.Error or model.Errors.
func (c *Client) do(ctx context.Context, r request, out any) (http.Header, error) {
	u := *c.base
	escaped := "/v1"
	for _, p := range r.path {
		escaped += "/" + url.PathEscape(p)
	}
	u = *u.JoinPath(escaped)
	u.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, &model.Error{Kind: model.Invalid, Msg: "the request cannot be written as JSON", Err: err}
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, &model.Error{Kind: model.Invalid, Msg: "the request cannot be made", Err: err}
	}
	if !c.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.ifMatch != 0 {
		req.Header.Set("If-Match", strconv.Quote(strconv.FormatInt(r.ifMatch, 10)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err, r.method != http.MethodGet)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(text) > maxAnswer {
		return nil, &model.Error{Kind: model.Unavailable, Msg: "the answer of " + c.base.Host + " was cut off or is too long; try again", Err: err}
	}
	if resp.StatusCode/100 != 2 && resp.StatusCode != r.accept {
		return resp.Header, problem(resp, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			return resp.Header, &model.Error{Kind: model.Internal, Msg: "the answer of " + c.base.Host + " does not parse; is it a Postern server of this version?", Err: err}
		}
	}
	return resp.Header, nil
}

// unreachable says what kept a call from being answered. Of a call that writes
// and was sent, nobody knows what became.
func (c *Client) unreachable(err error, writes bool) error {
	out := &model.Error{Kind: model.Unavailable, Err: cause(err)}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var dialed *net.OpError
	sent := !errors.As(err, &dialed) || dialed.Op != "dial"
	switch {
	case errors.As(err, &unknown), errors.As(err, &host):
		out.Msg = "the certificate of " + c.base.Host + " is not the one of the client settings; name those that this server wrote, DIR/client.yaml of its --data DIR, with --config or POSTERN_CONFIG"
	case errors.Is(err, context.Canceled):
		out.Msg = "the call was given up"
	case errors.Is(err, context.DeadlineExceeded):
		out.Msg = "the server at " + c.base.Host + " did not answer in time; " + lookAgain(writes)
	case sent && writes:
		out.Msg = "the connection to " + c.base.Host + " broke; " + lookAgain(writes)
	default:
		out.Msg = "the server at " + c.base.Host + " does not answer; is postern server running?"
	}
	return out
}

func lookAgain(writes bool) string {
	if writes {
		return "the change may have been made or not, look before you try again"
	}
	return "try again"
}

// cause strips the method and URL that net/http puts around an error.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// problem makes of a refusal the error that the server had.
func problem(resp *http.Response, text []byte) error {
	t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p wire.Problem
	if t != wire.ProblemType || json.Unmarshal(text, &p) != nil {
		return &model.Error{Kind: model.Internal, Msg: fmt.Sprintf("answered %s without saying why; is it a Postern server?", strings.ToLower(resp.Status))}
	}
	return p.Err()
}
