// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

// errAborted says that Abort interrupted a read.
var errAborted = errors.New("stream: reading the request body was given up")

// body is the request's body as the handler reads it. Another goroutine may still read it while the response is sent;
// what both look at is atomic.
type body struct {
	s     *stream
	in    io.ReadCloser
	left  int64 // bytes that may still come
	ahead [1]byte
	peek  bool // ahead holds a byte

	wait    time.Duration // of each read; 0 is the connection's own
	watch   watch         // over the read under way
	late    atomic.Bool
	aborted atomic.Bool
	why     atomic.Pointer[grammar.Error]
}

// begin sets up the request's body.
func (b *body) begin() *grammar.Error {
	q := &b.s.e.Request
	b.in, b.peek, b.wait = b.s.r.Body, false, 0
	b.late.Store(false)
	b.aborted.Store(false)
	b.why.Store(nil)
	limit := b.s.c.Limits.Body
	if limit >= 0 && q.Length > limit {
		return grammar.ErrBodyTooLarge
	}
	b.left = limit
	if q.Length < 0 && b.s.conn.Proto == exchange.HTTP3 && seldom(q.Method) {
		// Whether there is a body the stream tells only by its end.
		switch n, err := b.timed(b.ahead[:]); {
		case n > 0:
			b.peek = true
		case err == io.EOF:
			q.Length = 0
		default:
			return b.fault()
		}
	}
	if q.Length == 0 {
		q.Body = exchange.NoBody
		return nil
	}
	q.Body = b
	return nil
}

// seldom tells the methods that seldom have a body, and whose callers do not wait for an answer before they send one.
func seldom(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "DELETE", "TRACE":
		return true
	}
	return false
}

// Read reads the body.
func (b *body) Read(p []byte) (int, error) {
	if why := b.why.Load(); why != nil {
		return 0, why
	}
	if b.aborted.Load() {
		return 0, errAborted
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := 0, error(nil)
	if b.peek {
		b.peek = false
		n = copy(p, b.ahead[:])
	} else {
		n, err = b.timed(p)
	}
	b.s.e.Received += int64(n)
	if b.left >= 0 {
		if int64(n) > b.left {
			b.why.Store(grammar.ErrBodyTooLarge)
			return 0, grammar.ErrBodyTooLarge
		}
		b.left -= int64(n)
	}
	switch {
	case err == nil:
	case err == io.EOF:
		if why := b.trailer(); why != nil {
			b.why.Store(why)
			return n, why
		}
	case b.aborted.Load():
		err = errAborted
	default:
		why := b.fault()
		b.why.Store(why)
		return n, why
	}
	return n, err
}

// fault is what a failed read comes to.
func (b *body) fault() *grammar.Error {
	if b.late.Load() {
		return grammar.ErrBodyTimeout
	}
	return grammar.ErrLengthInvalid // it ended too early or late, or was reset, when nobody reads the answer
}

// timed reads from the stream, for no longer than the time-out.
func (b *body) timed(p []byte) (int, error) {
	d := b.wait
	if d == 0 {
		d = b.s.c.Timeouts.Body
	}
	b.watch.arm(d)
	n, err := b.in.Read(p)
	b.watch.disarm()
	return n, err
}

// giveUp ends a read that took too long.
func (b *body) giveUp() {
	b.late.Store(true)
	b.in.Close()
}

// trailer takes over the trailer section, which is complete now.
func (b *body) trailer() *grammar.Error {
	t := &b.s.e.Request.Trailer
	for name, values := range b.s.r.Trailer {
		for _, v := range values {
			if why := grammar.AddTrailer(t, name, v, &b.s.c.Limits); why != nil {
				return why
			}
		}
	}
	return nil
}

// Wait sets how long each read may wait for the client.
func (b *body) Wait(d time.Duration) { b.wait = d }

// Abort interrupts a Read under way in another goroutine and fails all later ones.
func (b *body) Abort() {
	b.aborted.Store(true)
	b.in.Close()
}
