// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stream carries one request of a version of HTTP that has streams, HTTP/2 or HTTP/3, as the servers of the
// standard library and of quic-go hand it out. The grammar is that of HTTP/1.1, and so is what a handler sees.
package stream

import (
	"context"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/snapshot"
)

// Carrier carries requests. Its fields are set before the first and left alone afterwards.
type Carrier struct {
	// Handler makes the response. It runs on the stream's goroutine.
	Handler func(*exchange.Exchange)
	// Refused, where set, is called for a request that is answered without the handler, or in its place, as
	// h1.Server.Refused is.
	Refused func(e *exchange.Exchange, why *grammar.Error)
	// Limits and Timeouts have their defaults filled in.
	Limits   grammar.Limits
	Timeouts h1.Timeouts

	pool sync.Pool // of *stream
}

// Conn is what the streams of one connection have in common.
type Conn struct {
	Origin *snapshot.Origin
	TLS    *exchange.TLS
	Proto  exchange.Proto
	// Begin, where set, is called for each request before anything else; End when it is over. The exchange's State is
	// from an earlier one, of any connection.
	Begin, End func(*exchange.Exchange)
	// Reset ends the connection as exchange.Response.Reset asks for.
	Reset func()
}

// stream is one request. It is used again for other requests, with its buffers.
type stream struct {
	e    exchange.Exchange
	c    *Carrier
	conn *Conn
	w    http.ResponseWriter
	r    *http.Request
	body body

	begun bool  // the head of the response is final
	watch watch // over the write under way
	names []string
	text  []byte
}

// Serve carries one request. abort says that the stream has to be reset, because the response was cut short; the error
// is an *h1.PanicError, a *grammar.Error (answered already), or what cut it short.
func (c *Carrier) Serve(conn *Conn, w http.ResponseWriter, r *http.Request) (abort bool, err error) {
	s, _ := c.pool.Get().(*stream)
	if s == nil {
		s = &stream{}
		s.body.s = s
		s.e.Interim = s.interim
		s.watch.fire, s.body.watch.fire = s.expire, s.body.giveUp
	}
	s.c, s.conn, s.w, s.r, s.begun = c, conn, w, r, false
	e := &s.e
	e.Begin(r.Context(), time.Now())
	e.Origin, e.TLS = conn.Origin, conn.TLS
	e.Request.Proto = conn.Proto
	if conn.Begin != nil {
		conn.Begin(e)
	}
	abort, err = s.carry()
	if err != nil && e.Failure == nil {
		e.Failure = err
	}
	if ferr := e.Finish(); err == nil {
		err = ferr
	}
	if conn.End != nil {
		conn.End(e)
	}
	if !abort {
		s.lastWrite()
	}
	s.release()
	return abort, err
}

// release gives s back for another request. Whoever reads its body has ended: Finish has waited for them.
func (s *stream) release() {
	c := s.c
	s.e.Begin(context.Background(), time.Time{})
	s.e.Origin, s.e.TLS = nil, nil
	s.c, s.conn, s.w, s.r, s.body.in = nil, nil, nil, nil, nil
	if cap(s.text) > 16<<10 {
		s.text = nil
	}
	c.pool.Put(s)
}

func (s *stream) carry() (abort bool, err error) {
	if why := s.read(); why != nil {
		return s.refuse(why)
	}
	if why := s.body.begin(); why != nil {
		return s.refuse(why)
	}
	if err := s.handle(); err != nil {
		s.e.Failure = err
		abort, _ := s.refuse(grammar.ErrHandler)
		return abort, err
	}
	if s.e.Response.Reset {
		s.conn.Reset()
		return true, nil
	}
	if why := s.body.why.Load(); why != nil {
		return s.refuse(why)
	}
	return s.respond()
}

func (s *stream) handle() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = h1.NewPanicError(v, debug.Stack())
		}
	}()
	s.c.Handler(&s.e)
	return nil
}

// read makes the exchange's request of net/http's.
func (s *stream) read() *grammar.Error {
	r, q := s.r, &s.e.Request
	s.names = s.names[:0]
	for name := range r.Header {
		s.names = append(s.names, name)
	}
	sortNames(s.names) // a map has no order, and callers are to get the same answer twice
	for _, name := range s.names {
		values := r.Header[name]
		if name == "Cookie" && len(values) > 1 {
			q.Header.Add(name, strings.Join(values, "; ")) // RFC 9113 8.2.3
			continue
		}
		for _, v := range values {
			q.Header.Add(name, v)
		}
	}
	clear(s.names)
	if len(r.Trailer) > 0 { // the servers take the field Trailer for themselves
		s.names = s.names[:0]
		for name := range r.Trailer {
			s.names = append(s.names, name)
		}
		sortNames(s.names)
		q.Header.Add("Trailer", strings.Join(s.names, ", "))
	}
	clear(s.names)
	p := grammar.Pseudo{
		Method: r.Method, Scheme: "https", Authority: r.Host, Path: r.RequestURI,
		Ended: s.conn.Proto == exchange.HTTP2 && r.ContentLength == 0,
	}
	if r.TLS == nil {
		p.Scheme = "http"
	}
	if why := grammar.SetRequest(q, &p, &s.c.Limits); why != nil {
		return why
	}
	if q.Scheme == "https" != (s.conn.TLS != nil) {
		return grammar.ErrScheme
	}
	return nil
}

// sortNames sorts by insertion: there are few.
func sortNames(names []string) {
	for i := 1; i < len(names); i++ {
		for j := i; j > 0 && names[j] < names[j-1]; j-- {
			names[j], names[j-1] = names[j-1], names[j]
		}
	}
}

// refuse answers a request without, or in place of, the handler.
func (s *stream) refuse(why *grammar.Error) (abort bool, err error) {
	if s.e.Failure == nil {
		s.e.Failure = why
	}
	abort, err = s.instead(why)
	if err == nil {
		err = why
	}
	return abort, err
}

// instead sends a bare status in place of a response that did not come about.
func (s *stream) instead(why *grammar.Error) (abort bool, err error) {
	e := &s.e
	h1.Instead(e, why)
	// The stream is the unit here: the connection goes on, unless the fault is the handler's.
	e.Response.Close = why == grammar.ErrHandler
	if s.c.Refused != nil {
		s.c.Refused(e, why)
	}
	return s.respond()
}
