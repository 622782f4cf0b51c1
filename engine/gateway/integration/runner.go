// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration carries out operations: it answers what a request asked
// for once decide/request has let it through, from a backend, from a template,
// or from the example's own data.
package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/health"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/engine/gateway/upstream/multiplex"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// The codes of the backend layer.
const (
	CodeOK        = request.CodeBackendOK
	CodeNone      = request.CodeBackendNone
	CodeRefused   = request.CodeBackendRefused
	CodeTimeout   = request.CodeBackendTimeout
	CodeTLS       = request.CodeBackendTLS
	CodeUnhealthy = request.CodeBackendUnhealthy
)

// Config is what a Runner is made of.
type Config struct {
	// Dial opens a connection to a backend for a Gateway: from inside a Network,
	// or, if that is empty, from the Gateway's own place.
	Dial func(ctx context.Context, gateway, network, host string, port uint16) (net.Conn, error)
	// Health tells which targets are out; nil: none.
	Health *health.Prober
	// Roots are trusted for backends; nil trusts the system's.
	Roots *x509.CertPool
	// Timeouts bound the calls; zero fields take the defaults of upstream.
	Timeouts upstream.Timeouts
}

// Runner carries out operations. It keeps connections to backends.
type Runner struct {
	pool   *upstream.Pool
	multi  *multiplex.Pool // of backends that speak HTTP/2
	health *health.Prober
}

// insecure marks a zone whose certificates are not verified. No Network's name
// ends so.
const insecure = "!"

// New returns a Runner. Close ends it.
func New(c Config) *Runner {
	if c.Timeouts.Connect == 0 {
		c.Timeouts.Connect = request.ConnectTimeout
	}
	cfg := upstream.Config{
		Timeouts: c.Timeouts,
		Dial: func(ctx context.Context, t upstream.Target) (net.Conn, error) {
			return c.Dial(ctx, t.From, strings.TrimSuffix(t.Zone, insecure), t.Host, t.Port)
		},
		TLS: func(t upstream.Target) *tls.Config {
			return &tls.Config{
				MinVersion: tls.VersionTLS12, RootCAs: c.Roots,
				InsecureSkipVerify: strings.HasSuffix(t.Zone, insecure), // as the operation's tlsConfig asks
			}
		},
	}
	return &Runner{health: c.Health, pool: upstream.New(cfg), multi: multiplex.New(cfg)}
}

// Review closes the pooled connections that no longer stand. Calls under way
// finish.
func (r *Runner) Review(stands func(gateway, network, host string, c net.Conn) bool) {
	drop := func(t upstream.Target, c net.Conn) bool {
		return !stands(t.From, strings.TrimSuffix(t.Zone, insecure), t.Host, c)
	}
	r.pool.Review(drop)
	r.multi.Review(drop)
}

// Close closes every connection to a backend and waits for the calls to end.
func (r *Runner) Close() error { return errors.Join(r.pool.Close(), r.multi.Close()) }

// Job is one operation to be carried out, with memory that the next one on the
// same connection uses again.
type Job struct {
	Snapshot *snapshot.Snapshot
	Arrival  *request.Arrival
	Verdict  *request.Verdict
	Exchange *exchange.Exchange
	// Now is the time; zero where it has to be asked for, because something has been
	// waited for or the Gateway's clock is not the system's.
	Now time.Time
	// Failed is why a backend could not be called, if it could not.
	Failed error
	// Called tells of the call to a backend.
	Called Called
	// Parent is sent to the backend as traceparent in place of the caller's, and
	// State as tracestate, unless Parent is empty. They are set for each request.
	Parent, State string

	call   upstream.Call
	header exchange.Header
	// path, query and text hold what is put together for the call.
	path, query, text []byte
	forwarded         []byte
	hops              []netip.Addr
	early             exchange.Header
	informs           func(int, *exchange.Header) // j.interim, made once
	body              []byte
	read              bool
}

// Begin makes the Job ready for another request.
func (j *Job) Begin(s *snapshot.Snapshot, e *exchange.Exchange) {
	j.Snapshot, j.Exchange, j.Failed, j.Called, j.Now = s, e, nil, Called{}, time.Time{}
	j.header.Reset()
}

// End lets go of what only this request needed: a connection may be idle for
// long, and a body is large.
func (j *Job) End() {
	j.body, j.read = nil, false
	j.call.Reset()
	for _, b := range [...]*[]byte{&j.path, &j.query, &j.text} {
		if cap(*b) > maxKept {
			*b = nil
		}
	}
}

// maxKept bounds each buffer that a Job keeps for the next request.
const maxKept = 16 << 10

// Run carries out the operation of an allowed verdict. The response is in the
// exchange afterwards unless answer says otherwise: then that is the answer, and
// the exchange is untouched. code is that of the backend layer.
func (r *Runner) Run(j *Job) (code string, answer *request.Response) {
	op := j.Verdict.Operation()
	switch in := &op.Integration; in.Kind {
	case operation.Petstore:
		petstore(j)
		return CodeOK, nil
	case operation.Mock:
		return mock(j, in)
	case operation.HTTPProxy:
		return r.proxy(j, in)
	case operation.HTTP:
		return r.mapped(j, in)
	}
	return CodeNone, &request.ConfigurationError
}
