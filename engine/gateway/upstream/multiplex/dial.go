// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/upstream"
)

// protocol is HTTP/2's name in ALPN.
const protocol = "h2"

// readied carries a connection to where the transport would dial one.
type readied struct{}

var errNotReadied = errors.New("multiplex: the transport is not to dial")

// transport speaks HTTP/2 on connections that have been dialled and secured already. It keeps none by itself.
func transport(cfg *upstream.Config) *http.Transport {
	handOver := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if c, ok := ctx.Value(readied{}).(net.Conn); ok {
			return c, nil
		}
		return nil, errNotReadied
	}
	speaks := new(http.Protocols)
	speaks.SetHTTP2(true)
	speaks.SetUnencryptedHTTP2(true)
	return &http.Transport{
		DialContext:            handOver,
		DialTLSContext:         handOver,
		DisableCompression:     true,
		MaxResponseHeaderBytes: int64(cfg.Limits.Fields),
		Protocols:              speaks,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     window,
			MaxReceiveBufferPerConnection: maxStreams * window, // so that a client that reads slowly holds up no other
			// No pings: servers of gRPC take those that come often for an attack. A call that a connection leaves without
			// answer condemns it instead.
			WriteByteTimeout: 30 * time.Second,
		},
	}
}

// dial opens a connection for whoever waits for d. It does not end with the call that caused it: others may wait too.
func (p *Pool) dial(b *bucket, d *dialing, reviews uint64) {
	c, f := p.connect(b.target)
	p.mu.Lock()
	defer p.mu.Unlock()
	b.dialing = nil
	switch {
	case f != nil && errors.Is(f, ErrOldVersion):
		b.old = time.Now().Add(oldFor)
	case f == nil && p.closed:
		c.close()
		f = fail(b.target, upstream.Connecting, upstream.ErrClosed)
	case f == nil && p.reviews != reviews:
		// The configuration may have changed since the flow was judged. What waits is dialled for again.
		c.close()
	case f == nil:
		b.conns = append(b.conns, c)
	}
	d.f = f
	close(d.done)
}

func (p *Pool) connect(t upstream.Target) (*conn, *upstream.Failure) {
	ctx := p.ctx
	if d := p.cfg.Timeouts.Connect; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	under, err := p.cfg.Dial(ctx, t)
	if err != nil {
		return nil, fail(t, upstream.Connecting, err)
	}
	nc, scheme := under, "http"
	if secure(t) {
		scheme = "https"
		tc := tls.Client(under, p.tlsConfig(t))
		err := tc.HandshakeContext(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			err = context.Cause(ctx) // the handshake's own error only says that the connection was closed under it
		case err == nil && tc.ConnectionState().NegotiatedProtocol != protocol:
			err = ErrOldVersion
		}
		if err != nil {
			under.Close() // unused
			return nil, fail(t, upstream.Securing, err)
		}
		nc = tc
	}
	cc, err := p.tr.NewClientConn(context.WithValue(ctx, readied{}, nc), scheme, hostPort(t))
	if err != nil {
		under.Close() // unused
		return nil, fail(t, upstream.Connecting, err)
	}
	return &conn{cc: cc, under: under}, nil
}

func (p *Pool) tlsConfig(t upstream.Target) *tls.Config {
	var cfg *tls.Config
	if p.cfg.TLS != nil {
		cfg = p.cfg.TLS(t)
	}
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	} else {
		cfg = cfg.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = t.Host
	}
	// An https target may speak either version, and says which. One of gRPC has no choice.
	cfg.NextProtos = slices.Clip([]string{protocol, "http/1.1"})
	if t.Scheme == GRPCS {
		cfg.NextProtos = cfg.NextProtos[:1]
	}
	return cfg
}

// probes carries single requests of probes.
var probes = transport(&upstream.Config{Limits: grammar.Limits{Fields: 16 << 10}})

// Ask sends one request on a connection that has been opened, and secured where it is to be. Its caller closes the
// connection.
func Ask(c net.Conn, r *http.Request) (*http.Response, error) {
	cc, err := probes.NewClientConn(context.WithValue(r.Context(), readied{}, c), r.URL.Scheme, r.URL.Host)
	if err != nil {
		return nil, err
	}
	return cc.RoundTrip(r)
}
