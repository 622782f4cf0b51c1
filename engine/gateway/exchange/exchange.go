// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package exchange holds the one type that the gateway's filters and handlers see: a request, its response and where it
// came from, whichever version of HTTP carried it. An Exchange belongs to a connection (or stream) and is used again for
// the next request, so that serving one allocates nothing; what it hands out is valid until the exchange is finished.
package exchange

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"postern.dev/postern/snapshot"
)

// TLS describes the client's TLS session.
type TLS struct {
	ServerName       string
	Version          uint16
	CipherSuite      uint16
	Protocol         string // ALPN
	PeerCertificates []*x509.Certificate
	VerifiedChains   [][]*x509.Certificate
}

// HasPeerCertificate reports whether the client presented a certificate.
func (t *TLS) HasPeerCertificate() bool { return t != nil && len(t.PeerCertificates) > 0 }

// Exchange is one request and its response.
type Exchange struct {
	Request  Request
	Response Response
	// Origin is where the connection comes from, as the network engine vouches for it.
	Origin *snapshot.Origin
	// TLS is nil on a connection in clear.
	TLS *TLS
	// Start is when the first byte of the request was seen.
	Start time.Time
	// Ended is when the last of the response was written; zero where that is not known.
	Ended time.Time
	// State belongs to the gateway. It survives from one exchange of a connection to the next, so that its owner can
	// use the same memory again.
	State any

	// Interim sends a response of 1xx ahead of the response, to a client that can have one. The engine sets it; nil is
	// no way to do so. It is called on the goroutine of the handler, before the handler returns.
	Interim func(status int, h *Header) error

	// Received and Sent count the bytes of the two bodies, Failure says why the response was cut short. They are
	// complete when the functions given to OnDone run.
	Received int64
	Sent     int64
	Failure  error

	ctx     context.Context
	id      [36]byte
	hasID   bool
	done    []func(*Exchange)
	closers []io.Closer
}

// Context is that of the connection: it ends when the connection or the engine is closed by force.
func (e *Exchange) Context() context.Context {
	if e.ctx == nil {
		return context.Background()
	}
	return e.ctx
}

// ID returns the request id, a random UUID made when first asked for.
func (e *Exchange) ID() string {
	if !e.hasID {
		e.hasID = true
		hi, lo := rand.Uint64(), rand.Uint64()
		hi = hi&^0xf000 | 0x4000
		lo = lo&^(3<<62) | 2<<62
		var raw [16]byte
		binary.BigEndian.PutUint64(raw[:8], hi)
		binary.BigEndian.PutUint64(raw[8:], lo)
		e.id[8], e.id[13], e.id[18], e.id[23] = '-', '-', '-', '-'
		hex.Encode(e.id[:8], raw[:4])
		hex.Encode(e.id[9:13], raw[4:6])
		hex.Encode(e.id[14:18], raw[6:8])
		hex.Encode(e.id[19:23], raw[8:10])
		hex.Encode(e.id[24:], raw[10:])
	}
	return view(e.id[:])
}

// Reply makes the response: status, fields and a body of known length. What the response was before is dropped. The
// fields are copied, the body is not.
func (e *Exchange) Reply(status int, fields []Field, body []byte) {
	r := &e.Response
	e.drop()
	r.Header.Reset()
	r.Trailer.Reset()
	r.Status, r.Length, r.Takeover = status, int64(len(body)), nil
	r.Header.fields = append(r.Header.fields, fields...)
	r.inline.b = body
	r.Body = &r.inline
}

// SetBody makes body, of the given length or -1, the response's body. The body it replaces is closed when the exchange
// ends, not before: fields that are still in use may be views of its memory.
func (e *Exchange) SetBody(body io.ReadCloser, length int64) {
	e.drop()
	e.Response.Body, e.Response.Length = body, length
}

func (e *Exchange) drop() {
	r := &e.Response
	if r.Body != nil && r.Body != io.ReadCloser(&r.inline) {
		e.closers = append(e.closers, r.Body)
	}
	r.Body = nil
}

// Took is how long the exchange has taken: up to the last of a response that is out, or until now.
func (e *Exchange) Took() time.Duration {
	if e.Ended.IsZero() || e.Failure != nil {
		return time.Since(e.Start)
	}
	return e.Ended.Sub(e.Start)
}

// OnDone has f called when the response has been sent or has failed, last registered first. The exchange is still
// whole then. To stay free of allocation, give it a function value made once.
func (e *Exchange) OnDone(f func(*Exchange)) { e.done = append(e.done, f) }

// Begin makes the exchange ready for a new request. It is for engines.
func (e *Exchange) Begin(ctx context.Context, start time.Time) {
	e.Request.reset()
	e.Response.reset()
	e.ctx, e.Start, e.Ended = ctx, start, time.Time{}
	e.Received, e.Sent, e.Failure, e.hasID = 0, 0, nil, false
}

// Finish ends the exchange: it settles the bodies, runs what OnDone registered, and closes the response's bodies. It is
// for engines.
func (e *Exchange) Finish() error {
	e.drop()
	for _, c := range e.closers {
		if s, ok := c.(Settler); ok {
			s.Settle()
		}
	}
	for i := len(e.done) - 1; i >= 0; i-- {
		e.done[i](e)
	}
	var err error
	for _, c := range e.closers {
		err = errors.Join(err, c.Close())
	}
	clear(e.done)
	clear(e.closers)
	e.done, e.closers = e.done[:0], e.closers[:0]
	e.Request.Body, e.Response.inline.b = NoBody, nil // the connection may be idle for long, and a body in memory is large
	return err
}
