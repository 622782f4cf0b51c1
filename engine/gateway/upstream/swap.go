// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bytes"
	"io"
	"os"
	"syscall"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/internal/nowait"
)

// swap sends a request and receives the first of the response within one RawConn.Read, so that nothing is received in
// vain: one send, one wait, one receive.
//
// Go's poller remembers that something has come to a socket since somebody last waited, and RawConn.Read forgets that
// when it begins. Whatever the poller has forgotten, then, had come before the request was sent: it is no answer to
// it, and look finds it. The answer comes after, and is remembered.
type swap struct {
	c    *conn
	turn func(fd uintptr) bool // c.turned, made once

	due    []byte        // the request, until it has been sent
	big    *[bigOut]byte // where due stands, if that is not the connection's own memory
	stale  bool          // the connection was found spoilt, and nothing has been sent
	unsent []byte        // the request, if the connection is stale
	failed error         // sending failed; the backend may have answered all the same

	in   []byte
	n    int
	err  error
	now  bool // nothing is to be waited for
	full bool // the last receive filled its room: there may be more
}

func (s *swap) init(c *conn) {
	s.c, s.turn = c, s.turned
}

// swaps reports whether the connection can swap: the socket is the kernel's, and in clear.
func (c *conn) swaps() bool { return c.raw != nil && !c.tls }

// whole reports whether a request can go out in one piece: nothing has to be waited for.
func whole(o *grammar.Outgoing, e *exchange.Exchange) bool {
	if o.Length <= 0 || o.Length > bigOut/2 {
		return o.Length == 0
	}
	ahead, ok := e.Request.Body.(exchange.Buffered)
	return ok && int64(ahead.Buffered()) >= o.Length
}

// receive reads into p what there is. That there is nothing, or will be nothing any more, is for carry to tell.
func (s *swap) receive(p []byte) int {
	s.now = true
	n, _ := s.carry(p)
	s.now = false
	return n
}

// carry sends what is due and reads into p what comes.
func (s *swap) carry(p []byte) (int, error) {
	s.in, s.n, s.err = p, 0, nil
	err := s.c.raw.Read(s.turn)
	s.in = nil
	if err == nil {
		err = s.err
	}
	return s.n, err
}

// turned is called by RawConn.Read: at once, and whenever something may have come.
func (s *swap) turned(fd uintptr) bool {
	if s.due != nil {
		if s.c.reused && !quiet(fd) {
			s.unsent, s.due, s.stale, s.err = bytes.Clone(s.due), nil, true, io.EOF
			return true
		}
		n, e := nowait.Send(fd, s.due)
		rest := s.due[n:]
		s.due = nil
		switch {
		case e != 0 && e != syscall.EAGAIN:
			s.failed = os.NewSyscallError("send", e)
		case len(rest) > 0:
			s.failed = s.c.write(rest) // waits for room; what comes meanwhile is remembered
		}
		if s.failed == nil {
			return false
		}
	}
	n, e := nowait.Receive(fd, s.in)
	s.full = n == len(s.in)
	switch {
	case e == syscall.EAGAIN:
		return s.now
	case e != 0:
		s.err = os.NewSyscallError("recv", e)
	case n == 0:
		s.err = io.EOF
	}
	s.n = n
	return true
}

// end lets go of what the call needed.
func (s *swap) end() {
	s.due, s.failed = nil, nil
	if s.big != nil {
		outs.Put(s.big)
		s.big = nil
	}
}
