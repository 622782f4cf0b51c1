// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// A Service accepts connections and carries them to the other side of the tunnel.
type Service struct {
	c      *Client
	l      net.Listener
	handle func(context.Context, net.Conn)
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup
}

// serve starts a service. It takes over l.
func (c *Client) serve(l net.Listener, handle func(context.Context, net.Conn)) (*Service, error) {
	s := &Service{c: c, l: l, handle: handle, slots: make(chan struct{}, c.opts.MaxConns)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.cancel()
		return nil, errors.Join(net.ErrClosed, l.Close())
	}
	c.services[s] = struct{}{}
	s.wg.Go(s.run)
	return s, nil
}

// Addr returns the address that the service listens on.
func (s *Service) Addr() net.Addr { return s.l.Addr() }

// Close ends the service and its connections and waits.
func (s *Service) Close() error {
	s.c.mu.Lock()
	delete(s.c.services, s)
	s.c.mu.Unlock()
	s.cancel()
	err := s.l.Close()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// run accepts while there is room; callers beyond that wait in the backlog.
func (s *Service) run() {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		conn, err := s.l.Accept()
		if err != nil {
			if s.ctx.Err() == nil {
				s.c.log.Warn("join: listener ended", "address", s.l.Addr(), "error", err)
			}
			return
		}
		s.wg.Go(func() {
			defer func() { <-s.slots }()
			stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
			defer stop()
			s.handle(s.ctx, conn)
		})
	}
}

// Forward listens on a local address, such as "127.0.0.1:8443", and carries each
// connection through the tunnel to remote, "host:port".
func (c *Client) Forward(local, remote string) (*Service, error) {
	if _, _, err := net.SplitHostPort(remote); err != nil {
		return nil, fmt.Errorf("join: forward to %q: %w", remote, err)
	}
	l, err := net.Listen("tcp", local)
	if err != nil {
		return nil, fmt.Errorf("join: forward: %w", err)
	}
	return c.serve(l, func(ctx context.Context, in net.Conn) {
		ctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
		out, err := c.Dial(ctx, "tcp", remote)
		cancel()
		c.pass(in, out, err, "forward", remote)
	})
}

// Offer listens on a port of the Host's own addresses and carries each connection
// to a local address, such as "127.0.0.1:8080".
func (c *Client) Offer(port uint16, local string) (*Service, error) {
	if _, _, err := net.SplitHostPort(local); err != nil {
		return nil, fmt.Errorf("join: offer %q: %w", local, err)
	}
	l, err := c.Listen(port)
	if err != nil {
		return nil, fmt.Errorf("join: offer: %w", err)
	}
	d := net.Dialer{Timeout: c.opts.DialTimeout}
	// Nobody but this Host knows why its callers are reset, so it is told of
	// by itself; once, for probes would repeat it without end.
	var told atomic.Bool
	return c.serve(l, func(ctx context.Context, in net.Conn) {
		out, err := d.DialContext(ctx, "tcp", local)
		switch {
		case err == nil:
			told.Store(false)
		case ctx.Err() == nil && told.CompareAndSwap(false, true):
			c.log.Error("join: nothing answers at "+local+", so callers of the offered port are reset; start what is offered there", "port", port, "error", err)
			reset(in)
			return
		}
		c.pass(in, out, err, "offer", local)
	})
}

// pass joins two connections, or, when the second could not be made, resets the
// first: the caller must not take a failure for an empty answer.
func (c *Client) pass(in, out net.Conn, err error, what, to string) {
	if err != nil {
		c.log.Info("join: "+what+" failed", "to", to, "error", err)
		reset(in)
		return
	}
	splice(in, out)
}

// splice copies both ways until both ends are done. A half-close passes on as a
// half-close and a reset as a reset.
func splice(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { half(a, b) })
	half(b, a)
	wg.Wait()
	_, _ = a.Close(), b.Close() // the ends were passed on already
}

func half(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if err == nil {
		if h, ok := dst.(interface{ CloseWrite() error }); ok && h.CloseWrite() == nil {
			return
		}
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EPIPE) {
		reset(dst)
		reset(src)
		return
	}
	_, _ = dst.Close(), src.Close() // err says why, and the copy was all there was to do
}

// reset closes conn with RST.
func reset(conn net.Conn) {
	if l, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = conn.Close()
}
