// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/observe/metric"
	"postern.dev/postern/engine/gateway/stream"
	"postern.dev/postern/snapshot"
)

// The protocols that a handshake may agree on.
const (
	protocolHTTP1 = "http/1.1"
	protocolHTTP2 = "h2"
)

var (
	offersHTTP2 = []string{protocolHTTP2, protocolHTTP1}
	offersHTTP1 = []string{protocolHTTP1}
)

// offers are the protocols that a handshake for a component is offered: one that
// another serves speaks HTTP/1.1, and so does an Endpoint that is not told to
// speak more.
func (e *Engine) offers(c snapshot.Component, endpoint *snapshot.Endpoint) []string {
	if c != snapshot.ComponentGateway || endpoint != nil && !endpoint.HTTP2 {
		return offersHTTP1
	}
	return offersHTTP2
}

// speak serves a connection that agreed on HTTP/2. It reports whether it was one.
func (e *Engine) speak(ctx context.Context, nc *tls.Conn, v *vouched, x *exchange.Exchange) bool {
	if x.TLS.Protocol != protocolHTTP2 {
		return false
	}
	defer e.recounted(x.Origin)()
	v.failed = e.h2.ServeConn(ctx, nc, e.streams(x))
	return true
}

// prior serves a connection in clear whose client speaks HTTP/2 without asking.
func (e *Engine) prior(ctx context.Context, nc net.Conn, x *exchange.Exchange) error {
	defer e.recounted(x.Origin)()
	return e.h2.ServeConn(ctx, nc, e.streams(x))
}

// recounted counts a connection that had been counted as one of HTTP/1.1, before
// more was known, as one of HTTP/2 until what it returns is called.
func (e *Engine) recounted(o *snapshot.Origin) func() {
	l := metric.ListenerOf(o)
	old, c := e.meter.Connections(l, metric.HTTP1), e.meter.Connections(l, metric.HTTP2)
	old.Lend(c)
	return func() { old.Return(c) }
}

// ServeSocket serves HTTP/3 on a UDP socket until ctx or the Engine ends, and
// closes it. accept is asked for each new connection: it returns its origin, and
// what to call when it has ended.
func (e *Engine) ServeSocket(ctx context.Context, pc net.PacketConn, accept func(from netip.AddrPort) (o *snapshot.Origin, leave func(), ok bool)) error {
	if e.snapshot.Load() == nil {
		return errors.Join(ErrNoSnapshot, pc.Close())
	}
	return e.h3.Serve(ctx, pc, func(from netip.AddrPort) (any, func(), bool) {
		o, leave, ok := accept(from)
		if !ok {
			return nil, nil, false
		}
		c := e.connected(o, metric.HTTP3)
		return &vouched{origin: o}, func() {
			c.Close()
			leave()
		}, true
	})
}

// openedQUIC sees a connection with HTTP/3 before its first request.
func (e *Engine) openedQUIC(a any, t *exchange.TLS) stream.Conn {
	v := a.(*vouched)
	x := &exchange.Exchange{Origin: v.origin, TLS: t}
	st := e.state(x)
	st.component, st.admitted = v.component, v.gateway
	st.show(t, v)
	return e.streams(x)
}

// reset closes a connection whose caller is to see it refused. One with QUIC is
// refused by failing its handshake.
func (v *vouched) reset() {
	if v.Conn != nil {
		reset(v.Conn)
	}
}

// streams is what the streams of a connection have in common. Its exchange was
// opened as that of any connection, and is left alone while they are served.
func (e *Engine) streams(x *exchange.Exchange) stream.Conn {
	own := e.state(x)
	return stream.Conn{
		Origin: x.Origin, TLS: x.TLS,
		Begin: func(y *exchange.Exchange) { e.state(y).follow(own) },
		End:   func(y *exchange.Exchange) { e.state(y).follow(&state{}) },
	}
}

// follow makes st the state of a stream of the connection whose state is c.
func (st *state) follow(c *state) {
	st.component, st.admitted = c.component, c.admitted
	st.listening, st.components = c.listening, c.components
	st.cert, st.chain, st.bundle = c.cert, c.chain, c.bundle
	st.slot, st.watch.cert = nil, nil
}
