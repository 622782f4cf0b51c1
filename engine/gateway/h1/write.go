// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/internal/nowait"
)

const bigOut = 128 << 10

// outs are the buffers of bodies that do not fit beside their head.
var outs = sync.Pool{New: func() any { return new([bigOut]byte) }}

// write writes to the wire under the write deadline.
func (c *conn) write(p []byte) error {
	if c.inside {
		n, e := nowait.Send(c.fd, p)
		switch {
		case e != 0 && e != syscall.EAGAIN:
			return os.NewSyscallError("send", e)
		case n == len(p):
			c.now = time.Now()
			c.e.Ended = c.now
			return nil
		}
		p = p[n:] // the rest takes the way that waits
	}
	c.e.Ended = time.Time{} // nobody looks at the clock after the wait
	if d := c.s.Timeouts.Write; d >= 0 {
		c.now = time.Now()
		if by := c.now.Add(d); !near(c.armedW, by, d) {
			c.armedW = by
			c.w.SetWriteDeadline(by)
		}
	}
	_, err := c.w.Write(p)
	return err
}

// respond sends the response. kept says that the connection is fit for another request.
func (c *conn) respond(closing bool) (kept bool, err error) {
	e := &c.e
	rs := &e.Response
	if rs.Status == 0 {
		rs.Status = 500
	}
	old := e.Request.Proto == exchange.HTTP10
	hasBody := e.Request.Method != "HEAD" && grammar.BodyAllowed(rs.Status)
	if rs.Body == nil && e.Request.Method != "HEAD" {
		rs.Length = 0
	}
	a := grammar.Answer{Status: rs.Status, Header: &rs.Header, Length: rs.Length, Close: closing}
	switch {
	case !grammar.BodyAllowed(rs.Status) || !hasBody && rs.Length < 0:
		a.Length = grammar.NoLength
	case rs.Length < 0 && old: // the end of the connection is the end of the body
		a.Length, a.Close = grammar.NoLength, true
	}
	a.KeepAlive = old && !a.Close
	a.Date = c.dateNow()
	out, bad := grammar.AppendResponse(c.out[:0], &a)
	if bad != nil {
		return false, join(bad, c.instead(grammar.ErrUnsendable))
	}
	if !hasBody || rs.Body == nil || rs.Length == 0 {
		c.keep(out)
		return !a.Close, c.write(out)
	}
	sent, err := c.stream(out, a.Length == -1)
	if err != nil && !sent {
		// Not a byte is out: the client can still learn that it failed.
		err = join(err, c.instead(grammar.ErrBroken))
	}
	return !a.Close && err == nil, err
}

// interim sends a response of 1xx. HTTP/1.0 has none.
func (c *conn) interim(status int, h *exchange.Header) error {
	if c.e.Request.Proto == exchange.HTTP10 || status < 100 || status > 199 || status == 101 {
		return nil
	}
	out, bad := grammar.AppendResponse(c.out[:0], &grammar.Answer{Status: status, Header: h, Length: grammar.NoLength})
	if bad != nil {
		return bad
	}
	c.keep(out)
	if err := c.write(out); err != nil {
		kill(c.nc) // a part may be out: nothing can follow it
		return err
	}
	return nil
}

// instead sends a bare status in place of a response that cannot be sent.
func (c *conn) instead(why *grammar.Error) error {
	e := &c.e
	c.hurryReply(why)
	out, bad := grammar.AppendResponse(c.out[:0], &grammar.Answer{
		Status: e.Response.Status, Header: &e.Response.Header, Length: e.Response.Length, Close: true, Date: c.dateNow(),
	})
	if bad != nil {
		return bad
	}
	if e.Request.Method != "HEAD" {
		out = append(out, messages[why.Status]...)
		e.Sent = e.Response.Length
	}
	return c.write(out)
}

// keep holds on to an output buffer that has grown, within bounds.
func (c *conn) keep(out []byte) {
	if cap(out) <= 4*keptOut {
		c.out = out[:0]
	}
}

// stream sends head and body, and reports whether anything was sent. What is at hand goes out in one write; nothing
// that has been read waits for what has not.
func (c *conn) stream(out []byte, chunked bool) (sent bool, err error) {
	e := &c.e
	rs := &e.Response
	c.keep(out)
	if rs.Length < 0 || rs.Length > int64(cap(out)-len(out)) {
		big := outs.Get().(*[bigOut]byte)
		defer outs.Put(big)
		out = append(big[:0], out...)
	}
	ahead, _ := rs.Body.(exchange.Buffered)
	eager, _ := rs.Body.(exchange.Eager)
	left, more := rs.Length, false // -1 where unknown; more: there is something to send, and there may be more to go with it
	flush := func() error {
		if len(out) == 0 {
			return nil
		}
		sent = true
		err := c.write(out)
		out = out[:0]
		return err
	}
	if left < 0 && (ahead == nil || ahead.Buffered() == 0) {
		if err := flush(); err != nil { // an event stream may take its time over the first event
			return sent, err
		}
	}
	for {
		at, room := len(out), cap(out)-len(out)
		if chunked {
			room -= grammar.ChunkHead + 2
		}
		if room < 512 && (left < 0 || int64(room) < left) {
			if err := flush(); err != nil {
				return sent, err
			}
			continue
		}
		if left >= 0 {
			room = int(min(int64(room), left))
		}
		from := at
		if chunked {
			from += grammar.ChunkHead
		}
		p := out[from : from+room]
		var n int
		var err error
		if more {
			more = false
			if n = eager.ReadNow(p); n == 0 {
				if err := flush(); err != nil {
					return sent, err
				}
				continue
			}
		} else {
			n, err = rs.Body.Read(p)
		}
		e.Sent += int64(n)
		switch {
		case n > 0 && chunked:
			out = grammar.AppendChunkHead(out, n)
			out = append(out, p[:n]...) // moves down to its place
			out = append(out, '\r', '\n')
		case n > 0:
			out = out[:at+n]
			if left > 0 {
				left -= int64(n)
			}
		}
		switch {
		case left == 0:
			err = flush()
			return true, err
		case err == io.EOF && left < 0:
			return true, c.end(out, chunked)
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			if !sent {
				e.Sent = 0
				return false, err
			}
			return true, join(err, flush())
		}
		if ahead != nil && ahead.Buffered() > 0 {
			continue
		}
		if more = eager != nil && !chunked; !more {
			if err := flush(); err != nil {
				return sent, err
			}
		}
	}
}

// end finishes a body of unknown length.
func (c *conn) end(out []byte, chunked bool) error {
	if chunked {
		trailer := &c.e.Response.Trailer
		if !c.e.Request.AcceptsTrailers {
			trailer = nil
		}
		ended, bad := grammar.AppendLastChunk(out, trailer)
		if bad != nil {
			return bad
		}
		out = ended
	}
	if len(out) == 0 {
		return nil
	}
	return c.write(out)
}

// dateNow is the value of Date, made once a second.
func (c *conn) dateNow() []byte {
	if sec := c.now.Unix(); sec != c.dateOf {
		c.dateOf = sec
		c.now.UTC().AppendFormat(c.date[:0], dateFormat)
	}
	return c.date[:]
}
