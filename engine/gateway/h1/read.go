// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

// reader is the conn as its Source reads it.
type reader struct{ c *conn }

func (r reader) Read(p []byte) (int, error) { return r.c.read(p) }

// read reads from the wire under the deadline of the phase.
func (c *conn) read(p []byte) (int, error) {
	if c.inside || c.ahead {
		return 0, errOutside
	}
	if c.lost != nil {
		return 0, c.lost
	}
	c.arm()
	for {
		n, err := c.w.Read(p)
		if n > 0 {
			if c.phase == waiting {
				c.idle.Store(false)
				c.now = time.Now()
				c.phase = inHead
				if c.headBy.IsZero() {
					c.headBy = c.deadline(c.s.Timeouts.Head)
				}
			}
			return n, nil
		}
		if err == nil {
			return 0, nil
		}
		if err = c.late(err); err != nil {
			return 0, err
		}
	}
}

// late says what a failure to read means. It is nil if the deadline that has passed was not the one that counts: that
// one has been set.
func (c *conn) late(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	switch {
	case c.req.aborted.Load():
		return errAborted
	case c.phase == waiting && c.s.closing.Load():
		return errShutdown
	case c.readBy.IsZero() || time.Now().Before(c.readBy):
		// The deadline was an old one that was close enough, or Shutdown's, which is not meant for a request under way.
		c.armedR = c.readBy
		c.w.SetReadDeadline(c.readBy)
		if c.phase == waiting && c.s.closing.Load() || c.req.aborted.Load() {
			c.w.SetReadDeadline(longAgo)
		}
		return nil
	case c.phase == inHead:
		return grammar.ErrHeadTimeout
	case c.phase == inBody:
		return grammar.ErrBodyTimeout
	}
	return err
}

// arm sets the read deadline. Setting one costs about as much as parsing a request, so an earlier one that is near
// stays: should it pass, read looks at the clock.
func (c *conn) arm() {
	var d time.Duration
	switch c.phase {
	case waiting:
		c.idle.Store(true)
		if c.first {
			c.readBy = c.headBy
		} else {
			d = c.s.Timeouts.Idle
			c.readBy = c.deadline(d)
		}
	case inHead, lingering:
		c.readBy = c.headBy
	case inBody:
		if d = c.req.wait; d == 0 {
			d = c.s.Timeouts.Body
		}
		c.readBy = time.Time{}
		if d >= 0 {
			c.readBy = time.Now().Add(d) // not c.now: the response may be under way in another goroutine
		}
	}
	if near(c.armedR, c.readBy, d) {
		if c.phase != waiting || !c.s.closing.Load() {
			return
		}
	}
	c.armedR = c.readBy
	c.w.SetReadDeadline(c.readBy)
	if c.phase == waiting && c.s.closing.Load() || c.req.aborted.Load() {
		c.armedR = longAgo
		c.w.SetReadDeadline(longAgo)
	}
}

// near reports whether the deadline that is set will do for want, d from now.
func near(set, want time.Time, d time.Duration) bool {
	if set.IsZero() || want.IsZero() {
		return set.IsZero() && want.IsZero()
	}
	early := want.Sub(set)
	return early >= 0 && early <= d/4
}

// body is the request's body as the handler reads it. Another goroutine may still read it while the response is sent;
// what both look at is atomic.
type body struct {
	grammar.Body
	c       *conn
	wait    time.Duration
	due     bool         // 100 (Continue) is to be sent before the first read
	left    atomic.Int64 // as grammar.Body has it
	aborted atomic.Bool
	why     atomic.Pointer[grammar.Error]
}

func (b *body) reset(c *conn, r *exchange.Request, due bool) {
	b.c, b.due, b.wait = c, due, 0
	b.why.Store(nil)
	b.aborted.Store(false)
	kind := grammar.Sized
	if r.Length < 0 {
		kind = grammar.Chunked
	}
	b.Body.Reset(&c.src, kind, r.Length, &c.s.Limits, &r.Trailer)
	b.left.Store(b.Left())
	if kind == grammar.Sized && c.s.Limits.Body >= 0 && r.Length > c.s.Limits.Body {
		b.why.Store(grammar.ErrBodyTooLarge)
	}
}

// Read reads the body, asking the client for it first where it waits to be asked.
func (b *body) Read(p []byte) (int, error) {
	if b.due {
		b.due = false
		if b.c.src.Buffered() == 0 {
			if err := b.c.write(continueLine); err != nil {
				return 0, err
			}
		}
	}
	n, err := b.Body.Read(p)
	b.c.e.Received += int64(n)
	b.left.Store(b.Left())
	if why, ok := err.(*grammar.Error); ok {
		b.why.Store(why)
	}
	return n, err
}

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// Abort interrupts a Read under way in another goroutine and fails all later ones.
func (b *body) Abort() {
	b.aborted.Store(true)
	b.c.w.SetReadDeadline(longAgo)
}

// Wait sets how long each read may wait for the client.
func (b *body) Wait(d time.Duration) { b.wait = d }

// refused is why the body cannot be read on, where that is the client's doing.
func (b *body) refused() *grammar.Error { return b.why.Load() }

// blocks reports whether what is left of the body stands in the way of a next request. A client that still waits to be
// asked for the body may send it or not.
func (b *body) blocks(limit int64) bool {
	left := b.left.Load()
	return left != 0 && (b.due || left > limit || b.aborted.Load())
}

// abandons reports whether a body of unknown length, of which nobody reads more, has not come as a whole. Whether it will
// within bounds only waiting would tell, and the client is told now whether it may ask again: else it would, and be closed
// upon.
func (c *conn) abandons() bool {
	if c.req.left.Load() >= 0 {
		return false
	}
	rs := &c.e.Response
	if _, ok := rs.Body.(exchange.Settler); ok {
		return false // somebody may be reading, until the response is out
	}
	if b, ok := rs.Body.(exchange.Buffered); !ok || int64(b.Buffered()) != rs.Length {
		return false
	}
	c.ahead = true
	done := c.req.drain(c.s.Drain)
	c.ahead = false
	return !done
}

// drain reads what the handler left of the body, and reports whether the next request can follow.
func (b *body) drain(limit int64) bool {
	if b.aborted.Load() || b.blocks(limit) {
		return false
	}
	room := b.c.out[:cap(b.c.out)]
	for !b.Done() && limit >= 0 {
		n, err := b.Body.Read(room)
		limit -= int64(n)
		if err != nil {
			break
		}
	}
	return b.Done()
}
