// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 net/http serves listeners, not a connection that was decrypted and looked at already

// Package h2 serves HTTP/2 on connections that agreed on it. The protocol is carried by golang.org/x/net/http2; in front
// of it a guard reads every frame first, refuses what that server lets pass, and counts what costs the client nothing.
package h2

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/stream"
)

// The bounds of a connection.
const (
	maxStreams       = 100 // at a time
	uploadConnection = 256 << 10
	uploadStream     = 128 << 10
	maxFrame         = 16 << 10
)

// Server carries connections. Its fields are set before the first connection and left alone afterwards.
type Server struct {
	// Handler makes the responses. It runs on a goroutine for each stream.
	Handler func(*exchange.Exchange)
	// Refused is as that of h1.Server.
	Refused  func(e *exchange.Exchange, why *grammar.Error)
	Limits   grammar.Limits
	Timeouts h1.Timeouts

	once    sync.Once
	carrier stream.Carrier
	base    *http.Server
	h2      *http2.Server
	closing atomic.Bool
}

func (s *Server) init() {
	s.Limits, s.Timeouts = s.Limits.WithDefaults(), s.Timeouts.WithDefaults()
	s.carrier = stream.Carrier{Handler: s.Handler, Refused: s.Refused, Limits: s.Limits, Timeouts: s.Timeouts}
	s.base = &http.Server{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what clients do is told by ServeConn
		// Past what the grammar answers, the library does: with a bare 431.
		MaxHeaderBytes: s.Limits.Target + s.Limits.Fields + 32*(s.Limits.Count+8) + 4<<10,
	}
	s.h2 = &http2.Server{
		MaxConcurrentStreams:         maxStreams,
		MaxReadFrameSize:             maxFrame,
		IdleTimeout:                  positive(s.Timeouts.Idle),
		ReadIdleTimeout:              positive(s.Timeouts.Idle), // whoever waits for an answer is asked whether it is there
		WriteByteTimeout:             positive(s.Timeouts.Write),
		MaxUploadBufferPerConnection: uploadConnection,
		MaxUploadBufferPerStream:     uploadStream,
	}
	if err := http2.ConfigureServer(s.base, s.h2); err != nil {
		panic(err) // only of a TLS configuration, and there is none
	}
}

func positive(d time.Duration) time.Duration { return max(d, 0) }

// conn is one connection.
type conn struct {
	s     *Server
	ctx   context.Context
	proto stream.Conn

	mu    sync.Mutex
	over  bool
	wait  sync.WaitGroup // for the streams
	fault error          // of ours
}

// ServeConn carries one connection, whose handshake is over if it has TLS, until it ends, and closes it. When ctx ends the connection
// is closed at once. It returns an *h1.PanicError if a handler panicked, else why the guard ended the connection.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, p stream.Conn) error {
	s.once.Do(s.init)
	p.Proto, p.Reset = exchange.HTTP2, func() { reset(nc) }
	c := &conn{s: s, ctx: ctx, proto: p}
	g := newGuard(nc, s)
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	var seen net.Conn = g
	if t, ok := nc.(stater); ok {
		seen = &secured{g, t}
	}
	s.h2.ServeConn(seen, &http2.ServeConnOpts{Context: ctx, BaseConfig: s.base, Handler: c})
	stop()
	nc.Close() // what was to be said has been said
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.wait.Wait()
	if c.fault != nil {
		return c.fault
	}
	return g.err()
}

// secured is a guard before a connection with TLS: the server looks how well it is protected.
type secured struct {
	*guard
	stater
}

// ServeHTTP carries one request.
func (c *conn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	if c.over { // the connection has ended before its last stream has begun
		c.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	c.wait.Add(1)
	c.mu.Unlock()
	defer c.wait.Done()
	abort, err := c.s.carrier.Serve(&c.proto, w, r)
	if p, ok := errors.AsType[*h1.PanicError](err); ok {
		c.mu.Lock()
		c.fault = p
		c.mu.Unlock()
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// Shutdown tells every client to open no more streams. Each connection ends after its last stream, which who serves it
// may wait for.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.init)
	s.closing.Store(true)
	return s.base.Shutdown(ctx)
}

// reset closes a connection so that its client sees it refused.
func reset(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // else it is closed in the usual way
	}
	_ = c.Close()
}
