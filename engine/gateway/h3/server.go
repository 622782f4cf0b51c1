// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package h3 serves HTTP/3 on UDP sockets. QUIC and the protocol are carried by github.com/quic-go/quic-go, without early
// data (0-RTT), which could be replayed.
package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/qlogwriter"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/stream"
)

// The bounds of a connection, and of those whose addresses nobody has proved yet.
const (
	maxStreams       = 100 // at a time, those included that are still worked on when the client has given them up
	maxUniStreams    = 8
	uploadConnection = 256 << 10
	uploadStream     = 128 << 10
	maxUnproved      = 64
)

// Server carries connections. Its fields are set before the first socket and left alone afterwards.
type Server struct {
	// Handler makes the responses. It runs on a goroutine for each stream.
	Handler func(*exchange.Exchange)
	// Refused is as that of h1.Server.
	Refused func(e *exchange.Exchange, why *grammar.Error)
	// TLS answers handshakes; its callbacks find the connection with Accepted.
	TLS *tls.Config
	// Opened tells what the streams of a connection have in common, once its handshake is over. v is what the socket's
	// Accept returned.
	Opened func(v any, t *exchange.TLS) stream.Conn
	// Failed is told of a fault of ours: an *h1.PanicError.
	Failed   func(v any, err error)
	Limits   grammar.Limits
	Timeouts h1.Timeouts

	once    sync.Once
	carrier stream.Carrier

	mu      sync.Mutex // guards sockets and closing
	sockets map[*socket]struct{}
	closing bool
}

// Accept decides over a new connection from an address. It returns what is to be found of it later, and what to call
// when it has ended; ok is false if it is refused.
type Accept func(from netip.AddrPort) (v any, leave func(), ok bool)

// ErrClosed is returned for sockets that come after Close.
var ErrClosed = errors.New("h3: the server is shut down")

type contextKey struct{}

// Accepted is what Accept returned for the connection that a context belongs to; nil if none.
func Accepted(ctx context.Context) any { return ctx.Value(contextKey{}) }

func (s *Server) init() {
	s.Limits, s.Timeouts = s.Limits.WithDefaults(), s.Timeouts.WithDefaults()
	s.carrier = stream.Carrier{Handler: s.Handler, Refused: s.Refused, Limits: s.Limits, Timeouts: s.Timeouts}
	s.sockets = make(map[*socket]struct{})
}

// socket is one UDP socket.
type socket struct {
	s        *Server
	accept   Accept
	http3    *http3.Server
	unproved atomic.Int64 // handshakes under way

	shut sync.WaitGroup // for Shutdown, which begins by ending the listener
	left sync.WaitGroup // for connections to be let go

	mu   sync.Mutex
	over bool
	wait sync.WaitGroup // for the streams
}

// Serve serves a socket until ctx or the server ends, and closes it.
func (s *Server) Serve(ctx context.Context, pc net.PacketConn, accept Accept) error {
	s.once.Do(s.init)
	k := &socket{s: s, accept: accept}
	k.http3 = &http3.Server{
		Handler:        k,
		IdleTimeout:    max(s.Timeouts.Idle, 0),
		MaxHeaderBytes: s.Limits.Target + s.Limits.Fields + 32*(s.Limits.Count+8) + 4<<10,
		ConnContext:    k.opened,
		Logger:         slog.New(slog.DiscardHandler), // what clients do is not for the log
	}
	t := &quic.Transport{Conn: pc, ConnContext: k.accepted, VerifySourceAddress: func(net.Addr) bool { return k.unproved.Load() > maxUnproved }}
	l, err := t.Listen(http3.ConfigureTLSConfig(s.TLS), &quic.Config{
		HandshakeIdleTimeout:           s.handshake(),
		MaxIdleTimeout:                 s.idle(),
		InitialStreamReceiveWindow:     uploadStream,
		MaxStreamReceiveWindow:         uploadStream,
		InitialConnectionReceiveWindow: uploadConnection,
		MaxConnectionReceiveWindow:     uploadConnection,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          maxUniStreams,
		Tracer: func(ctx context.Context, _ bool, _ quic.ConnectionID) qlogwriter.Trace {
			return ctx.Value(connKey{}).(*conn).guard
		},
	})
	if err != nil {
		return errors.Join(fmt.Errorf("h3: listen: %w", err), pc.Close())
	}
	if !s.track(k) {
		return errors.Join(ErrClosed, l.Close(), t.Close(), pc.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = k.http3.Close() }) // says what went wrong below
	err = k.http3.ServeListener(l)
	stop()
	k.shut.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	err = errors.Join(err, k.http3.Close(), l.Close(), t.Close())
	_ = pc.Close() // the transport may have closed it
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
	k.wait.Wait()
	k.left.Wait()
	s.untrack(k)
	return err
}

func (s *Server) handshake() time.Duration {
	if d := s.Timeouts.Head; d > 0 {
		return d / 2 // quic-go gives the whole twice that
	}
	return 0
}

func (s *Server) idle() time.Duration {
	if d := s.Timeouts.Idle; d > 0 {
		return d
	}
	return 0
}

func (s *Server) track(k *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.sockets[k] = struct{}{}
	}
	return !s.closing
}

func (s *Server) untrack(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, k)
}

// accepted is asked for each new connection.
func (k *socket) accepted(ctx context.Context, i *quic.ClientInfo) (context.Context, error) {
	a, ok := i.RemoteAddr.(*net.UDPAddr)
	if !ok {
		return nil, errRefused
	}
	from := a.AddrPort()
	v, leave, ok := k.accept(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	if !ok {
		return nil, errRefused
	}
	k.unproved.Add(1)
	c := &conn{v: v}
	excess, exceed := context.WithCancel(context.Background())
	c.guard, c.excess = newGuard(exceed), excess
	k.left.Add(1)
	context.AfterFunc(ctx, func() {
		defer k.left.Done()
		c.proved(k)
		leave()
	})
	return context.WithValue(context.WithValue(ctx, contextKey{}, v), connKey{}, c), nil
}

var errRefused = errors.New("h3: too many connections")

type connKey struct{}

// conn is one connection.
type conn struct {
	v      any
	once   sync.Once
	stream stream.Conn
	guard  *guard
	excess context.Context // ends when the guard finds too much
}

// proved counts a handshake that is over, or has failed.
func (c *conn) proved(k *socket) { c.once.Do(func() { k.unproved.Add(-1) }) }

// opened is called when the handshake is over.
func (k *socket) opened(ctx context.Context, q *quic.Conn) context.Context {
	c := ctx.Value(connKey{}).(*conn)
	c.proved(k)
	st := q.ConnectionState().TLS
	c.stream = k.s.Opened(c.v, &exchange.TLS{
		ServerName: st.ServerName, Version: st.Version, CipherSuite: st.CipherSuite, Protocol: st.NegotiatedProtocol,
		PeerCertificates: st.PeerCertificates, VerifiedChains: st.VerifiedChains,
	})
	c.stream.Proto = exchange.HTTP3
	end := func(code http3.ErrCode) {
		_ = q.CloseWithError(quic.ApplicationErrorCode(code), "") // it is over either way
	}
	c.stream.Reset = func() { end(http3.ErrCodeNoError) }
	context.AfterFunc(c.excess, func() { end(http3.ErrCodeExcessiveLoad) })
	return ctx
}

// ServeHTTP carries one request.
func (k *socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	if k.over { // the socket has ended before its last stream has begun
		k.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	k.wait.Add(1)
	k.mu.Unlock()
	defer k.wait.Done()
	c := r.Context().Value(connKey{}).(*conn)
	c.guard.served()
	abort, err := k.s.carrier.Serve(&c.stream, w, r)
	if p, ok := errors.AsType[*h1.PanicError](err); ok && k.s.Failed != nil {
		k.s.Failed(c.v, p)
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// Shutdown lets requests under way finish and closes everything; when ctx ends first it closes the rest at once.
func (s *Server) Shutdown(ctx context.Context) error {
	return s.each(func(k *socket) error {
		k.shut.Add(1)
		defer k.shut.Done()
		return k.http3.Shutdown(ctx)
	})
}

// Close closes every connection at once. Who serves a socket waits for the end.
func (s *Server) Close() error { return s.each(func(k *socket) error { return k.http3.Close() }) }

func (s *Server) each(f func(*socket) error) error {
	s.once.Do(s.init)
	s.mu.Lock()
	s.closing = true
	var sockets []*socket
	for k := range s.sockets {
		sockets = append(sockets, k)
	}
	s.mu.Unlock()
	errs := make([]error, len(sockets))
	var wait sync.WaitGroup
	for i, k := range sockets {
		wait.Go(func() { errs[i] = f(k) })
	}
	wait.Wait()
	return errors.Join(errs...)
}
