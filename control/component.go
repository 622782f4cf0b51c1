// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/model"
)

// maxComponent bounds the connections that a Gateway's component is served on,
// eachComponent those from one address; further ones are closed.
const (
	maxComponent  = 512
	eachComponent = maxComponent / 8
)

// handed is a listener of connections that another has accepted, one for each
// component of the Gateways that this plane serves. TLS has ended there.
type handed struct {
	conns  chan *handedConn
	open   *limited.Parties[netip.Addr]
	once   sync.Once
	closed chan struct{}
	log    *slog.Logger
	warned atomic.Int64 // when it was last told that there are too many, Unix seconds
}

func newHanded(log *slog.Logger) *handed {
	return &handed{log: log, conns: make(chan *handedConn), open: limited.NewParties[netip.Addr](maxComponent), closed: make(chan struct{})}
}

// serve hands c over and waits until it is closed.
func (h *handed) serve(ctx context.Context, c net.Conn) {
	from := address(c.RemoteAddr())
	if !h.open.Enter(from, eachComponent) {
		_ = c.Close() // there is nobody to tell
		if now := time.Now().Unix(); h.warned.Swap(now) != now {
			h.log.Warn("too many connections to a Gateway's component are open; further ones are closed", "from", c.RemoteAddr())
		}
		return
	}
	hc := &handedConn{Conn: c, Place: limited.NewPlace(func() { h.open.Leave(from) }), done: make(chan struct{})}
	defer hc.Place.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	select {
	case h.conns <- hc:
		<-hc.done
	case <-h.closed:
		_ = c.Close() // the plane has ended
	case <-ctx.Done():
	}
}

// address is that of a caller, zero if it is none of TCP.
func address(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Accept waits for a connection.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is that of no socket.
func (h *handed) Addr() net.Addr { return handedAddr{} }

type handedAddr struct{}

func (handedAddr) Network() string { return "postern" }
func (handedAddr) String() string  { return "a Gateway's component" }

// handedConn tells when it is closed.
type handedConn struct {
	net.Conn
	*limited.Place
	once sync.Once
	done chan struct{}
}

// Close closes the connection.
func (c *handedConn) Close() error {
	err := c.Conn.Close()
	c.Place.Close()
	c.once.Do(func() { close(c.done) })
	return err
}

// ServeComponents serves what is handed to ServeManagement and
// ServeConfiguration until ctx ends, as Serve does what it accepts. It is called
// once.
func (s *Server) ServeComponents(ctx context.Context) error {
	var wait sync.WaitGroup
	wait.Go(func() { s.follow(ctx) })
	errs := make([]error, 2)
	for i, c := range []struct {
		conns   *handed
		handler http.Handler
	}{{s.management, s.Handler()}, {s.configuration, s.configurationHandler()}} {
		srv := s.server(c.handler)
		wait.Go(func() { errs[i] = serve(ctx, srv, func() error { return srv.Serve(c.conns) }) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// ServeManagement serves the API on a connection to a Gateway's management host
// name, whose TLS has ended, until that is closed. ServeComponents has to run.
func (s *Server) ServeManagement(ctx context.Context, c net.Conn) { s.management.serve(ctx, c) }

// ServeConfiguration serves self-hosted gateways' configuration on a connection
// to a Gateway's configuration host name, as ServeManagement does.
func (s *Server) ServeConfiguration(ctx context.Context, c net.Conn) { s.configuration.serve(ctx, c) }

// configurationHandler serves the configuration host names.
func (s *Server) configurationHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ServiceStatus", func(w http.ResponseWriter, r *http.Request) {
		s.answer(&call{Server: s, w: w, r: r, id: rand.Text()}, http.StatusOK, wire.Health{Status: "ok"})
	})
	mux.HandleFunc("GET "+configuration.Path, s.serveStream)
	mux.HandleFunc("POST "+configuration.EnrolPath, s.serveEnrol)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(&call{Server: s, w: w, r: r, id: rand.Text()}, &model.Error{Kind: model.NotFound, Msg: "there is no " + quote(r.URL.Path) + " for self-hosted gateways"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			s.refuse(&call{Server: s, w: w, r: r, id: rand.Text()}, errBusy)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

var errBusy = &model.Error{Kind: model.Limited, Msg: "too many requests are in progress; try again in a moment"}
