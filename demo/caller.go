// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/explain/answer"
)

// maxBody bounds what is read of an answer.
const maxBody = 1 << 20

// Response is what came back, if anything did.
type Response struct {
	Proto  string
	Status int
	Header http.Header
	Body   []byte
}

// dialer is how a caller resolves names and connects.
type dialer struct {
	resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// call sends a question as a real request and says what the caller saw. limit
// is how long the caller waits for a connection.
func call(ctx context.Context, d dialer, roots *x509.CertPool, q answer.Question, limit time.Duration) (answer.Symptom, *Response, error) {
	if q.ConnectTo != "" {
		a, err := netip.ParseAddr(q.ConnectTo)
		if err != nil {
			return answer.Symptom{}, nil, err
		}
		d.resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{a}, nil }
	}
	u, err := url.Parse(q.URL)
	if err != nil {
		return answer.Symptom{}, nil, err
	}
	if u.Scheme == "dns" {
		as, err := d.resolve(ctx, u.Hostname())
		if err != nil {
			s, err := symptom(err)
			return s, nil, err
		}
		s := answer.Symptom{Kind: answer.Answered}
		for _, a := range as {
			s.Addresses = append(s.Addresses, a.String())
		}
		return s, nil, nil
	}
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return d.dial(ctx, address)
	}
	if u.Scheme == "tcp" {
		c, err := dial(ctx, "tcp", u.Host)
		if err != nil {
			s, err := symptom(err)
			return s, nil, err
		}
		return answer.Symptom{Kind: answer.Connected}, nil, c.Close()
	}
	t := &http.Transport{
		DialContext:       dial,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, InsecureSkipVerify: q.Insecure, MinVersion: tls.VersionTLS12}, //nolint:gosec // the question asks for it
	}
	return exchange(ctx, t, q)
}

// exchange sends one HTTP request.
func exchange(ctx context.Context, t *http.Transport, q answer.Question) (answer.Symptom, *Response, error) {
	r, err := http.NewRequestWithContext(ctx, q.Method, q.URL, http.NoBody)
	if err != nil {
		return answer.Symptom{}, nil, err
	}
	for _, h := range q.Headers {
		if strings.EqualFold(h.Name, "host") {
			r.Host = h.Value
			continue
		}
		r.Header.Add(h.Name, h.Value)
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		s, err := symptom(err)
		return s, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		s, err := symptom(err)
		return s, nil, err
	}
	out := &Response{Proto: resp.Proto, Status: resp.StatusCode, Header: resp.Header, Body: body}
	return answer.Symptom{Kind: answer.Response, Status: resp.StatusCode, Body: string(bytes.TrimSpace(body))}, out, nil
}

// dial resolves the host of address and connects to the first of its addresses
// that answers.
func (d dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var as []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		as = []netip.Addr{a}
	} else if as, err = d.resolve(ctx, host); err != nil {
		return nil, err
	}
	if len(as) == 0 {
		return nil, fmt.Errorf("%s: %w", host, join.ErrNoData)
	}
	for _, a := range as {
		to, perr := netip.ParseAddrPort(net.JoinHostPort(a.String(), port))
		if perr != nil {
			return nil, perr
		}
		var c net.Conn
		if c, err = d.connect(ctx, to); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// symptom names what a caller sees of an error. An error that is none of the
// symptoms is returned.
func symptom(err error) (answer.Symptom, error) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		alert    tls.AlertError
		op       *net.OpError
	)
	switch {
	case errors.As(err, &unknown), errors.As(err, &hostname), errors.As(err, &invalid), errors.As(err, &verify), errors.As(err, &alert),
		// An alert of the other side, as crypto/tls wraps it.
		errors.As(err, &op) && op.Op == "remote error":
		return answer.Symptom{Kind: answer.TLS}, nil
	case errors.Is(err, join.ErrNXDomain), errors.Is(err, join.ErrNoData):
		return answer.Symptom{Kind: answer.NXDomain}, nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return answer.Symptom{Kind: answer.Refused}, nil
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return answer.Symptom{Kind: answer.Reset}, nil
	}
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return answer.Symptom{Kind: answer.Timeout}, nil
	}
	return answer.Symptom{}, fmt.Errorf("the request failed in a way that has no name: %w", err)
}
