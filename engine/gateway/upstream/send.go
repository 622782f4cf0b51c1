// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"io"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

const (
	bigOut = 64 << 10
	// inline is how much of a body is sent before the response is looked for. A larger one is sent on by a goroutine:
	// a backend may answer, and even insist on being read, before it has all of it.
	inline = 64 << 10
	// grace is how long a complete response waits for the request's last write to return.
	grace = 50 * time.Millisecond
)

var outs = sync.Pool{New: func() any { return new([bigOut]byte) }}

// sender copies a request body to a connection, with the framing that the head has announced.
type sender struct {
	c    *conn
	body io.Reader
	left int64 // -1: chunked
	out  []byte
	sent int64
	hold bool // what is at hand when the body is complete is for the swap
}

// step reads once and writes what is at hand. done says that the body is complete and written.
func (s *sender) step() (done bool, readErr, writeErr error) {
	at, room := len(s.out), cap(s.out)-len(s.out)
	from := at
	if s.left < 0 {
		from += grammar.ChunkHead
		room -= grammar.ChunkHead + 2 + len("0\r\n\r\n")
	}
	if room < 512 && (s.left < 0 || int64(room) < s.left) {
		return false, nil, s.flush()
	}
	if s.left >= 0 {
		room = int(min(int64(room), s.left))
	}
	p := s.out[from : from+room]
	n, err := s.body.Read(p)
	s.sent += int64(n)
	if n > 0 {
		if s.left < 0 {
			s.out = grammar.AppendChunkHead(s.out, n)
			s.out = append(s.out, p[:n]...) // moves down to its place
			s.out = append(s.out, '\r', '\n')
		} else {
			s.out = s.out[:at+n]
			s.left -= int64(n)
		}
	}
	switch {
	case s.left == 0:
		return true, nil, s.flush()
	case err == io.EOF && s.left < 0:
		s.out = append(s.out, "0\r\n\r\n"...)
		return true, nil, s.flush()
	case err == io.EOF:
		return false, io.ErrUnexpectedEOF, nil
	case err != nil:
		return false, err, nil
	}
	if ahead, ok := s.body.(exchange.Buffered); !ok || ahead.Buffered() == 0 {
		return false, nil, s.flush()
	}
	return false, nil, nil
}

// waits reports whether the client of a body of unknown length has not sent more of it yet. One that waits to be asked
// for it is asked first: that writes to its connection, which the answer will do too.
func (s *sender) waits() bool {
	if s.left >= 0 || s.sent == 0 && s.c.e.Request.Continue {
		return false
	}
	ahead, ok := s.body.(exchange.Buffered)
	return !ok || ahead.Buffered() == 0
}

func (s *sender) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	if s.hold && s.left == 0 {
		s.c.swap.due = s.out
		return nil
	}
	s.hold = false
	err := s.c.write(s.out)
	s.out = s.out[:0]
	return err
}

// send sends the head and the body, or its begin. werr means that the backend has stopped reading.
func (c *conn) send(head []byte, length int64) (f *Failure, werr error) {
	if length == 0 {
		if c.lazy {
			c.swap.due = head
			return nil, nil
		}
		return nil, c.write(head)
	}
	s := sender{c: c, body: c.e.Request.Body, left: length, out: head, hold: c.lazy}
	var big *[bigOut]byte
	switch {
	case c.lazy && int64(len(head))+length > bigOut: // in one piece all the same
		s.out = append(make([]byte, 0, int64(len(head))+length), head...)
	case length < 0 || length > int64(cap(head)-len(head)):
		big = outs.Get().(*[bigOut]byte)
		s.out = append(big[:0], head...)
	}
	for {
		if s.waits() {
			// What comes next may hang on the answer: both directions from here on.
			if werr := s.flush(); werr != nil {
				outs.Put(big)
				return nil, werr
			}
			c.pump = &pump{c: c, s: s, big: big, done: make(chan struct{})}
			go c.pump.run()
			return nil, nil
		}
		done, rerr, werr := s.step()
		switch {
		case rerr != nil:
			f = &Failure{Kind: RequestBody, Phase: Sending, Target: c.b.target, Reused: c.reused, Err: rerr}
		case !done && werr == nil && s.sent >= inline:
			c.pump = &pump{c: c, s: s, big: big, done: make(chan struct{})}
			go c.pump.run()
			return nil, nil
		case !done && werr == nil:
			continue
		}
		if c.swap.due != nil {
			c.swap.big = big
		} else if big != nil {
			outs.Put(big)
		}
		return f, werr
	}
}

// pump sends the rest of a large body while the response is awaited and read. It ends with settle.
type pump struct {
	c    *conn
	s    sender
	big  *[bigOut]byte
	done chan struct{}

	// After done.
	readErr error
	err     error
}

func (p *pump) run() {
	defer close(p.done)
	for {
		done, rerr, werr := p.s.step()
		switch {
		case rerr != nil:
			p.readErr, p.err = rerr, rerr
			p.c.nc.Close() // the backend must not take what it has for the whole
		case werr != nil:
			p.err = werr // the backend may answer all the same
		case !done:
			continue
		}
		return
	}
}

// ended reports whether the pump has ended, or is about to.
func (p *pump) ended() bool {
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// settle waits for the pump's end, and brings it about where it does not come by itself.
func (p *pump) settle(complete bool) {
	if complete {
		p.ended()
	}
	select {
	case <-p.done:
	default:
		p.c.last = true
		p.c.nc.Close()
		if a, ok := p.s.body.(exchange.Aborter); ok {
			a.Abort()
		}
		<-p.done
	}
	if p.big != nil {
		outs.Put(p.big)
		p.big = nil
	}
}
