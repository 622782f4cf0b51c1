// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

// buffers are what bodies are copied through.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// writer is what the servers' response writers can do beside http.ResponseWriter.
type writer interface {
	FlushError() error
	SetWriteDeadline(time.Time) error
}

// respond sends the response but for its end, which is sent when the server gets the stream back. abort says that it has
// to be reset instead.
func (s *stream) respond() (abort bool, err error) {
	e := &s.e
	rs := &e.Response
	if rs.Status == 0 {
		rs.Status = 500
	}
	head := e.Request.Method == "HEAD"
	hasBody := !head && grammar.BodyAllowed(rs.Status)
	if rs.Body == nil && !head {
		rs.Length = 0
	}
	if rs.Status < 200 || rs.Status > 999 || s.fields() != nil {
		if e.Failure == grammar.ErrUnsendable {
			return true, e.Failure // not even the answer in its place can be sent
		}
		e.Failure = grammar.ErrUnsendable
		clear(s.w.Header())
		return s.refuse(grammar.ErrUnsendable)
	}
	if rs.Length >= 0 && grammar.BodyAllowed(rs.Status) {
		s.w.Header()["Content-Length"] = []string{strconv.FormatInt(rs.Length, 10)}
	}
	switch {
	case hasBody && rs.Body != nil && rs.Length != 0:
		return s.stream()
	case head && rs.Length < 0 && s.conn.Proto == exchange.HTTP3:
		return false, s.flush() // quic-go would say that the length is 0
	}
	s.start()
	return s.trailer()
}

// interim sends a response of 1xx. It is not counted on: what cannot be sent is left out.
func (s *stream) interim(status int, fields *exchange.Header) error {
	if s.begun || status < 100 || status > 199 || status == 101 {
		return nil
	}
	h := s.w.Header()
	defer clear(h)
	for f := range fields.All() {
		ok, why := grammar.Sent(f)
		if why != nil {
			return why
		}
		if ok {
			h.Add(canonical(f.Name), strings.Clone(f.Value))
		}
	}
	s.w.WriteHeader(status)
	return nil
}

// start makes the head final. It goes out with what comes first, or with the end.
func (s *stream) start() {
	if !s.begun {
		s.begun = true
		s.w.WriteHeader(s.e.Response.Status)
	}
}

// fields hands the response's fields to the server. The strings are copied: the server sends the last of them when the
// exchange is over.
func (s *stream) fields() *grammar.Error {
	rs := &s.e.Response
	h := s.w.Header()
	s.text = s.text[:0]
	for i := range rs.Header.Len() {
		s.text = append(s.text, rs.Header.At(i).Value...)
	}
	text := string(s.text)
	values := make([]string, rs.Header.Len())
	at := 0
	for i := range rs.Header.Len() {
		f := rs.Header.At(i)
		v := text[at : at+len(f.Value)]
		at += len(f.Value)
		ok, why := grammar.Sent(f)
		if why != nil {
			return why
		}
		if !ok {
			continue
		}
		name := canonical(f.Name)
		if have := h[name]; have != nil {
			h[name] = append(have, v)
			continue
		}
		values[i] = v
		h[name] = values[i : i+1 : i+1]
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // not to be guessed from the body
	}
	if rs.Close && s.conn.Proto == exchange.HTTP2 {
		h["Connection"] = []string{"close"} // the server's word for GOAWAY
	}
	return nil
}

// stream sends the body. Nothing that has been read waits for what has not.
func (s *stream) stream() (abort bool, err error) {
	e := &s.e
	rs := &e.Response
	ahead, _ := rs.Body.(exchange.Buffered)
	left := rs.Length // -1 where unknown
	if left < 0 && (ahead == nil || ahead.Buffered() == 0) {
		if err := s.flush(); err != nil { // an event stream may take its time over the first event
			return true, err
		}
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		p := buf[:]
		if left >= 0 && left < int64(len(p)) {
			p = p[:left]
		}
		n, err := rs.Body.Read(p)
		if n > 0 {
			if werr := s.write(p[:n], left == int64(n)); werr != nil {
				return true, werr
			}
			e.Sent += int64(n)
			if left > 0 {
				left -= int64(n)
			}
		}
		switch {
		case left == 0, err == io.EOF && left < 0:
			return s.trailer()
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			if !s.begun { // the client can still learn that it failed
				e.Failure = err
				clear(s.w.Header())
				abort, werr := s.instead(grammar.ErrBroken)
				if werr != nil {
					err = werr
				}
				return abort, err
			}
			return true, err
		}
		if n > 0 && (ahead == nil || ahead.Buffered() == 0) {
			if err := s.flush(); err != nil {
				return true, err
			}
		}
	}
}

// expire fails the write under way.
func (s *stream) expire() {
	if c, ok := s.w.(writer); ok {
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // else the connection's own bounds hold
	}
}

// write writes to the stream. The last part, if small, waits in the server's buffer for the end.
func (s *stream) write(p []byte, last bool) error {
	s.start()
	if last && len(p) < 4<<10 {
		_, err := s.w.Write(p)
		return err
	}
	s.watch.arm(s.c.Timeouts.Write)
	_, err := s.w.Write(p)
	s.watch.disarm()
	return err
}

func (s *stream) flush() error {
	s.start()
	c, ok := s.w.(writer)
	if !ok {
		return nil
	}
	s.watch.arm(s.c.Timeouts.Write)
	err := c.FlushError()
	s.watch.disarm()
	return err
}

// lastWrite bounds what the server does when it gets the stream back.
func (s *stream) lastWrite() {
	if d := s.c.Timeouts.Write; d >= 0 {
		if c, ok := s.w.(writer); ok {
			_ = c.SetWriteDeadline(time.Now().Add(d)) // else the connection's own bounds hold
		}
	}
}

// trailer hands over the response's trailer section, and ends the response.
func (s *stream) trailer() (abort bool, err error) {
	t := &s.e.Response.Trailer
	if s.e.Request.Method == "HEAD" || t.Len() == 0 {
		return false, nil
	}
	h := s.w.Header()
	for i := range t.Len() {
		f := t.At(i)
		if why := grammar.SentTrailer(f); why != nil {
			return true, why
		}
		name := http.TrailerPrefix + canonical(f.Name)
		h[name] = append(h[name], strings.Clone(f.Value))
	}
	return false, nil
}
