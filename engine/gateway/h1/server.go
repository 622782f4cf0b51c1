// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package h1 serves HTTP/1.1 on any connection. One goroutine, the caller's, carries a connection through its requests;
// a keep-alive request with a small answer costs one read, one write and no allocation.
package h1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/snapshot"
)

// Timeouts bound how long a client may take. A zero field takes its default, a negative one is no bound.
type Timeouts struct {
	Head   time.Duration // from a request's first byte (or the connection's begin) to the end of its head [10 s]
	Body   time.Duration // each wait for more of the body [30 s]
	Idle   time.Duration // between requests [75 s]
	Write  time.Duration // each write; a write may fail from three quarters of it on [30 s]
	Linger time.Duration // reading on after the last response, so that the client gets to read it [1 s]
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Head, 10*time.Second)
	set(&t.Body, 30*time.Second)
	set(&t.Idle, 75*time.Second)
	set(&t.Write, 30*time.Second)
	set(&t.Linger, time.Second)
	return t
}

// Server carries connections. Its fields are set before the first connection and left alone afterwards.
type Server struct {
	// Handler makes the response. It runs on the connection's goroutine; a panic in it ends the connection.
	Handler func(*exchange.Exchange)
	// Opened, where set, is called on a connection's goroutine before its first request, and after the handshake of
	// one with TLS: nc is then the TLS connection. It may set the exchange's State. If it reports true, the connection
	// has been seen to otherwise and is closed. Handlers do not close nc, they set Response.Reset.
	Opened func(ctx context.Context, nc net.Conn, e *exchange.Exchange) bool
	// Prior, where set, carries a connection in clear whose client speaks HTTP/2 without asking first (RFC 9113 3.3). It
	// reads all that the client has sent, and its connection is closed when it returns.
	Prior func(ctx context.Context, nc net.Conn, e *exchange.Exchange) error
	// Refused, where set, is called for a request that the engine answers by itself: one that breaks the grammar, one
	// whose handler panicked, one whose response cannot be sent. The response is ready and may be changed; of the request
	// there is what had been understood.
	Refused  func(e *exchange.Exchange, why *grammar.Error)
	Limits   grammar.Limits
	Timeouts Timeouts
	// Drain is how many bytes of a body that the handler left are read to keep the connection [64 KiB].
	Drain int64

	once    sync.Once
	closing atomic.Bool
	killed  atomic.Bool // whatever is open has been ended

	mu    sync.Mutex // guards conns and empty
	conns map[*conn]struct{}
	empty chan struct{} // closed when closing and the last connection has ended
}

// ErrClosed is returned for connections that come after Shutdown.
var ErrClosed = errors.New("h1: the server is shut down")

// PanicError is returned by ServeConn when the handler panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the panic's value; the stack stands in Stack.
func (p *PanicError) Error() string { return fmt.Sprintf("h1: the handler panicked: %v", p.Value) }

func (s *Server) init() {
	s.Limits = s.Limits.WithDefaults()
	s.Timeouts = s.Timeouts.withDefaults()
	if s.Drain == 0 {
		s.Drain = 64 << 10
	}
	s.conns = make(map[*conn]struct{})
	s.empty = make(chan struct{})
}

// ServeConn carries one connection until it ends, and closes it. It returns nil when that was orderly; otherwise a
// *grammar.Error (answered already), a *PanicError, or what the connection said. When ctx ends the connection is closed
// at once.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, o *snapshot.Origin) error {
	s.once.Do(s.init)
	c := conns.Get().(*conn)
	c.reset(ctx, s, nc, o)
	if !s.track(c) {
		conns.Put(c)
		return errors.Join(ErrClosed, nc.Close())
	}
	stop := context.AfterFunc(ctx, func() { kill(nc) })
	err := c.serve()
	if !stop() {
		err = context.Cause(ctx)
	}
	nc.Close() // what was to be said has been said: how the socket goes down changes nothing
	s.untrack(c)
	c.release()
	return err
}

func (s *Server) track(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) untrack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.closing.Load() && len(s.conns) == 0 {
		close(s.empty)
	}
}

// Connections reports how many connections are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown lets every request under way finish, closes idle connections and waits until all have ended. When ctx ends
// first it closes the rest and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.killAll()
	return ctx.Err()
}

// Close closes every connection and waits until all have ended.
func (s *Server) Close() error {
	s.stop()
	s.killAll()
	<-s.empty
	return nil
}

func (s *Server) killAll() {
	s.killed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		kill(c.nc)
	}
}

// kill ends a connection that another goroutine serves. To close a TCP connection would be to wait for the step under
// way (see ride), which may be waiting for a backend; without its two directions it is of no more use either.
func kill(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.CloseRead()
		t.CloseWrite()
		return
	}
	nc.Close()
}

func (s *Server) stop() {
	s.once.Do(s.init)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Swap(true) {
		return
	}
	if len(s.conns) == 0 {
		close(s.empty)
	}
	for c := range s.conns {
		// Order: closing is set before the state is read here; a connection sets its state, its deadline, and then reads
		// closing. So either it sees closing or this deadline comes after its own.
		if c.idle.Load() {
			c.w.SetReadDeadline(longAgo)
		}
	}
}

var longAgo = time.Unix(1, 0)
