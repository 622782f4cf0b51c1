// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway serves HTTP on the addresses of Gateways and Endpoints. It
// ends TLS, asks decide/request what becomes of each request, and carries the
// answer out. It has no rules of its own.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/h2"
	"postern.dev/postern/engine/gateway/h3"
	"postern.dev/postern/engine/gateway/health"
	"postern.dev/postern/engine/gateway/integration"
	"postern.dev/postern/engine/gateway/meter"
	"postern.dev/postern/engine/gateway/observe/access"
	"postern.dev/postern/engine/gateway/observe/metric"
	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/internal/nowait"
	"postern.dev/postern/snapshot"
)

// Options is what an Engine is made of.
type Options struct {
	// Certificate returns the certificate for a host name, or for a wildcard
	// as it stands in certificates. It is asked in every handshake and keeps
	// what it makes.
	Certificate func(name string) (*tls.Certificate, error)
	// Dial opens a connection to a backend for a Gateway: inside a Network, or,
	// if network is empty, from the Gateway's own place. Leave it nil to have
	// those outside Networks dialled by this process under the snapshot's rules
	// of egress and all others refused. Its errors may be a *flow.Undelivered, a
	// *request.DialError, or wrap upstream's own.
	Dial func(ctx context.Context, gateway, network, host string, port uint16) (net.Conn, error)
	// Management and Configuration serve the connections of these components,
	// HTTP/1.1 whose TLS has ended; they return when a connection is done with.
	// What is nil is not served.
	Management, Configuration func(ctx context.Context, c net.Conn, o *snapshot.Origin)
	// Challenge answers those who prove for a certificate that a name is served
	// here; nil answers none.
	Challenge Challenge
	// Local answers requests that are for the process itself, before anything else
	// is asked; nil answers none.
	Local func(*exchange.Exchange) bool
	// Own lists the server's own addresses as they are now, which backends may
	// not be at; nil takes those of the snapshot.
	Own func() ([]netip.Addr, error)
	// Roots are trusted for backends; nil trusts the system's.
	Roots *x509.CertPool
	// Timeouts bound what clients, and calls to backends, may take.
	Timeouts h1.Timeouts
	Upstream upstream.Timeouts
	// AccessLog gets a line for each request; nil writes none. It stays its owner's.
	AccessLog *access.Log
	// Trace gets the spans of requests that are traced; nil traces none. It stays
	// its owner's.
	Trace *trace.Tracer
	// Failed is told of requests at which this engine failed while the connection
	// went on; nil: nobody.
	Failed func(o *snapshot.Origin, err error)
	// Recent is how many requests are remembered [4096].
	Recent int
	// Now is the clock that policies see; nil is the system's.
	Now func() time.Time
}

// Engine serves connections.
type Engine struct {
	o        Options
	system   bool // the clock is the system's
	snapshot atomic.Pointer[snapshot.Snapshot]
	server   h1.Server
	h2       h2.Server
	h3       h3.Server
	tls      *tls.Config
	plain    *tls.Config // where HTTP/1.1 alone is spoken
	asking   *tls.Config // for components that another serves
	runner   *integration.Runner
	health   *health.Prober
	limits   meter.Table
	shown    shownKeys
	recent   recent
	meter    *metric.Set
	applied  atomic.Int64 // Unix nanoseconds
}

// ErrNoSnapshot is returned for connections before the first Swap: a gateway
// without configuration answers nobody.
var ErrNoSnapshot = errors.New("gateway: there is no configuration yet")

// New returns an Engine. Close ends it.
func New(o Options) *Engine {
	system := o.Now == nil
	if system {
		o.Now = time.Now
	}
	if o.Recent <= 0 {
		o.Recent = 4096
	}
	e := &Engine{o: o, meter: metric.New(), system: system}
	e.recent.slots = make([]slot, o.Recent)
	e.shown.slots = make([]shownKey, o.Recent)
	dial := o.Dial
	if dial == nil {
		dial = e.Egress
	}
	e.health = health.New(health.Options{Dial: dial, Roots: o.Roots, Now: o.Now})
	e.runner = integration.New(integration.Config{Dial: dial, Roots: o.Roots, Timeouts: o.Upstream, Health: e.health})
	e.server.Handler = e.handle
	e.server.Opened = e.opened
	e.server.Prior = e.prior
	e.server.Refused = e.refused
	e.server.Timeouts = o.Timeouts
	e.h2.Handler, e.h2.Refused, e.h2.Timeouts = e.handle, e.refused, o.Timeouts
	e.tls = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         offersHTTP2,
		GetConfigForClient: e.greet,
		GetCertificate:     chosen,
	}
	e.plain = e.tls.Clone()
	e.plain.GetConfigForClient, e.plain.NextProtos = nil, offersHTTP1
	e.asking = ask(e.plain)
	e.h3.Handler, e.h3.Refused, e.h3.Timeouts = e.handle, e.refused, o.Timeouts
	e.h3.TLS, e.h3.Opened = e.tls, e.openedQUIC
	e.h3.Failed = func(v any, err error) {
		if o.Failed != nil {
			o.Failed(v.(*vouched).origin, err)
		}
	}
	return e
}

// Swap puts a snapshot in place. Connections and requests go on; the next
// request on each is judged by the new one. Pooled connections to backends
// whose flow is no longer allowed are closed.
func (e *Engine) Swap(s *snapshot.Snapshot) {
	e.limits.Apply(s) // before anybody is judged by s
	e.meter.Apply(s)
	e.snapshot.Store(s)
	e.applied.Store(e.o.Now().UnixNano())
	e.health.Apply(s)
	e.Review()
}

// configured returns the snapshot with what counts its requests.
func (e *Engine) configured() (*snapshot.Snapshot, []*limit.Meter) {
	for {
		s := e.snapshot.Load()
		if m, ok := e.limits.Of(s); ok {
			return s, m
		}
	}
}

// Meters returns what the requests of keys and Stages have used up by now, as
// the snapshot counts them. It is a copy.
func (e *Engine) Meters(s *snapshot.Snapshot) []*limit.Meter { return e.limits.Copy(s) }

// Limits returns what counts the requests of keys and Stages, by names that are
// the same wherever the same configuration is served: for who shares limits with
// other gateways. The map is not to be changed.
func (e *Engine) Limits() map[string]*limit.Meter { return e.limits.Live() }

// Restore has the quotas of the next snapshot count on from used, which Used
// returned before this process was started.
func (e *Engine) Restore(used map[string]limit.Count) { e.limits.Restore(used) }

// Used returns what was counted here of each quota that has counted something;
// false between Restore and the next snapshot.
func (e *Engine) Used() (map[string]limit.Count, bool) { return e.limits.Used() }

// portHTTP is where connections are in clear.
const portHTTP = 80

// ServeConn serves a connection until it ends, and closes it. The origin says
// which Endpoint it came through, or else, by the address that was called,
// which Gateway it is for; where that tells nothing because several Gateways
// share an address, the name in the TLS handshake does. Connections to port 80
// are in clear.
func (e *Engine) ServeConn(ctx context.Context, nc net.Conn, o *snapshot.Origin) error {
	if e.snapshot.Load() == nil {
		return errors.Join(ErrNoSnapshot, nc.Close())
	}
	defer e.connected(o, metric.HTTP1).Close()
	if o.Local.Port() == portHTTP {
		return e.server.ServeConn(ctx, nc, o)
	}
	v := &vouched{Conn: nowait.Wrap(nc), origin: o}
	return errors.Join(e.server.ServeConn(ctx, tls.Server(v, e.tls), o), v.failed)
}

// vouched carries the origin to where the handshake is answered, and what was
// decided there to where the connection is served.
type vouched struct {
	net.Conn
	origin *snapshot.Origin

	// Of the handshake.
	certificate *tls.Certificate
	component   snapshot.Component
	gateway     string // the Gateway's name
	// domain asked for a client certificate, and bundle is what verified it.
	domain, bundle string

	// failed is why serving its streams failed.
	failed error
}

// CloseWrite ends the sending side, where the connection can.
func (v *vouched) CloseWrite() error {
	if c, ok := v.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Connections reports how many connections are open.
func (e *Engine) Connections() int { return e.server.Connections() }

// Shutdown lets requests under way finish and closes everything; when ctx ends
// first it closes the rest at once.
func (e *Engine) Shutdown(ctx context.Context) error {
	quic := make(chan error, 1)
	go func() { quic <- e.h3.Shutdown(ctx) }()
	return errors.Join(e.h2.Shutdown(ctx), e.server.Shutdown(ctx), <-quic, e.health.Close(), e.runner.Close())
}

// Close closes everything at once and waits. Requests under way do not wait for
// backends any longer.
func (e *Engine) Close() error {
	calls := make(chan error, 1)
	go func() { calls <- e.runner.Close() }()
	return errors.Join(e.server.Close(), e.h3.Close(), <-calls, e.health.Close())
}

// gateway finds what was called: an Endpoint's Gateway, the owner of a public
// address, or whoever serves name where that is not known: shared says so.
func gateway(s *snapshot.Snapshot, o *snapshot.Origin, name string) (g *snapshot.Gateway, e *snapshot.Endpoint, shared bool) {
	if o.Endpoint != "" {
		p := s.Endpoints[o.Endpoint]
		if p == nil {
			return nil, nil, false
		}
		return p.Gateway, p, false
	}
	if o.Node != "" {
		return s.Gateways[o.Node], nil, false
	}
	if o.ServedBy != "" {
		for _, g := range s.Gateways {
			return g, nil, false // there is one
		}
		return nil, nil, false
	}
	if g := s.Internet.Gateways[o.Local.Addr().Unmap()]; g != nil {
		return g, nil, false
	}
	return serving(s, name), nil, true
}

// state is what a connection keeps from one request to the next.
func (e *Engine) state(x *exchange.Exchange) *state {
	if st, ok := x.State.(*state); ok {
		return st
	}
	st := &state{lookup: x.Request.Header.Lookup} // the Exchange stays the connection's
	x.State = st
	return st
}
