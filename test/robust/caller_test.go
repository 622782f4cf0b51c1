// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A caller has one connection, on which it makes requests. It tries nothing again:
// every failure is seen.
type caller interface {
	// Do makes a request. The response's body has been read when it returns.
	Do(r *http.Request) (*http.Response, []byte, error)
	Close() error
}

// protocols are how callers call.
var protocols = []string{"HTTP/1.1", "HTTP/1.1 under TLS", "HTTP/2", "HTTP/2 in clear", "HTTP/3"}

// scheme is that of a protocol's URLs.
func scheme(protocol string) string {
	if protocol == "HTTP/1.1" || protocol == "HTTP/2 in clear" {
		return "http"
	}
	return "https"
}

// call opens a connection.
func (g *gate) call(ctx context.Context, protocol string) (caller, error) {
	cfg := &tls.Config{RootCAs: g.roots, ServerName: host, MinVersion: tls.VersionTLS12}
	switch protocol {
	case "HTTP/1.1":
		c, err := dial(ctx, g.clear)
		if err != nil {
			return nil, err
		}
		return &plain{c: c, in: bufio.NewReader(c)}, nil
	case "HTTP/1.1 under TLS":
		cfg.NextProtos = []string{"http/1.1"}
		c, err := secured(ctx, g.secure, cfg)
		if err != nil {
			return nil, err
		}
		return &plain{c: c, in: bufio.NewReader(c)}, nil
	case "HTTP/2", "HTTP/2 in clear":
		return g.framed(ctx, scheme(protocol), cfg)
	case "HTTP/3":
		return g.quicCall(ctx, cfg)
	}
	return nil, fmt.Errorf("there is no protocol %q", protocol)
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

func secured(ctx context.Context, address string, cfg *tls.Config) (net.Conn, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return t, nil
}

// plain speaks HTTP/1.1.
type plain struct {
	c  net.Conn
	in *bufio.Reader
}

func (p *plain) Do(r *http.Request) (*http.Response, []byte, error) {
	if err := p.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	written := make(chan error, 1)
	go func() { written <- r.Write(p.c) }()
	res, err := http.ReadResponse(p.in, r)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read: %w", err), p.c.Close(), <-written)
	}
	res, b, err := read(res)
	if err == nil && res.Close {
		err = p.c.Close() // what is still being written nobody reads
		<-written
		return res, b, err
	}
	return res, b, errors.Join(err, <-written)
}

func (p *plain) Close() error { return p.c.Close() }

func read(res *http.Response) (*http.Response, []byte, error) {
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("read the body: %w", err)
	}
	return res, b, res.Body.Close()
}

// shared speaks a protocol that carries many requests at a time.
type shared struct {
	http.RoundTripper
	close func() error
}

func (s *shared) Do(r *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	res, err := s.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	return read(res)
}

func (s *shared) Close() error { return s.close() }

// framed speaks HTTP/2.
func (g *gate) framed(ctx context.Context, scheme string, cfg *tls.Config) (caller, error) {
	address := g.secure
	if scheme == "http" {
		address = g.clear
	}
	t := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true, TLSClientConfig: cfg,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}
	t.Protocols.SetHTTP2(scheme == "https")
	t.Protocols.SetUnencryptedHTTP2(scheme == "http")
	c, err := t.NewClientConn(ctx, scheme, address)
	if err != nil {
		return nil, err
	}
	return &shared{RoundTripper: c, close: c.Close}, nil
}

// quicCall speaks HTTP/3.
func (g *gate) quicCall(ctx context.Context, cfg *tls.Config) (caller, error) {
	to, err := net.ResolveUDPAddr("udp", g.quic)
	if err != nil {
		return nil, err
	}
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	qt := &quic.Transport{Conn: pc}
	cfg.NextProtos = []string{http3.NextProtoH3}
	q, err := qt.Dial(ctx, to, cfg, &quic.Config{MaxIdleTimeout: patience, HandshakeIdleTimeout: patience / 2})
	if err != nil {
		return nil, errors.Join(err, qt.Close(), pc.Close())
	}
	tr := &http3.Transport{DisableCompression: true}
	return &shared{RoundTripper: tr.NewClientConn(q), close: sync.OnceValue(func() error {
		return errors.Join(q.CloseWithError(0, ""), tr.Close(), qt.Close(), pc.Close())
	})}, nil
}
