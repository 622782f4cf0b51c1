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

	"postern.dev/postern/engine/network/stack"
)

// A Service accepts connections and carries them to the other side of the tunnel.
type Service struct {
	c      *Client
	addr   net.Addr
	end    func() error    // closes what the service listens on
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup
}

// newService makes a service that is not yet the client's.
func (c *Client) newService() *Service {
	s := &Service{c: c, slots: make(chan struct{}, c.opts.MaxConns)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// start makes a service that listens the client's, unless that is closed.
func (s *Service) start(addr net.Addr, end func() error) error {
	s.c.mu.Lock()
	s.addr, s.end = addr, end
	closed := s.c.closed
	if !closed {
		s.c.services[s] = struct{}{}
	}
	s.c.mu.Unlock()
	if closed {
		s.cancel()
		return errors.Join(net.ErrClosed, end())
	}
	return nil
}

// serve starts a service of a listener, which it takes over.
func (c *Client) serve(l net.Listener, handle func(context.Context, net.Conn)) (*Service, error) {
	s := c.newService()
	// Before the client can close the service and wait for it.
	s.wg.Add(1)
	if err := s.start(l.Addr(), l.Close); err != nil {
		s.wg.Done()
		return nil, err
	}
	go func() {
		defer s.wg.Done()
		s.run(l, handle)
	}()
	return s, nil
}

// Addr returns the address that the service listens on.
func (s *Service) Addr() net.Addr { return s.addr }

// Close ends the service and its connections and waits.
func (s *Service) Close() error {
	s.c.mu.Lock()
	delete(s.c.services, s)
	s.c.mu.Unlock()
	s.cancel()
	err := s.end()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// run accepts while there is room; callers beyond that wait in the backlog.
func (s *Service) run(l net.Listener, handle func(context.Context, net.Conn)) {
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		conn, err := l.Accept()
		if err != nil {
			if s.ctx.Err() == nil {
				s.c.log.Warn("join: listener ended", "address", s.addr, "error", err)
			}
			return
		}
		s.wg.Go(func() {
			defer func() { <-s.slots }()
			stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
			defer stop()
			handle(s.ctx, conn)
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

// Offer offers a local address, such as "127.0.0.1:8080", at a port of the Host's
// own addresses. A caller's handshake is completed only once the local address has
// answered: where that refuses, so does the offered port, as a closed one, and
// where it is silent, so is the port. A listener here would look alive whatever
// is behind it.
func (c *Client) Offer(port uint16, local string) (*Service, error) {
	if _, _, err := net.SplitHostPort(local); err != nil {
		return nil, fmt.Errorf("join: offer %q: %w", local, err)
	}
	s := c.newService()
	// Nobody but this Host knows why its callers are turned away, so it is told of
	// by itself; once, for probes would repeat it without end.
	var told atomic.Bool
	o, err := c.st.OfferTCP(port, func(r stack.TCPRequest) { s.offer(r, port, local, &told) })
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("join: offer: %w", err)
	}
	at := &net.TCPAddr{IP: c.addrs[0].AsSlice(), Port: int(o.Port())}
	if err := s.start(at, o.Close); err != nil {
		return nil, err
	}
	return s, nil
}

// offer decides about one caller of an offered port. Callers beyond the limit wait
// for their answer; the stack bounds them.
func (s *Service) offer(r stack.TCPRequest, port uint16, local string, told *atomic.Bool) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-s.ctx.Done():
		r.Refuse()
		return
	}
	d := net.Dialer{Timeout: s.c.opts.DialTimeout}
	out, err := d.DialContext(s.ctx, "tcp", local)
	if err != nil {
		if s.ctx.Err() == nil && told.CompareAndSwap(false, true) {
			s.c.log.Error("join: nothing answers at "+local+", so callers of the offered port are turned away; start what is offered there", "port", port, "error", err)
		}
		if Symptom(err) == "timeout" {
			r.Drop()
		} else {
			r.Refuse()
		}
		return
	}
	told.Store(false)
	in, err := r.Accept()
	if err != nil {
		s.c.log.Info("join: offer failed", "to", local, "error", err)
		_ = out.Close() // nothing was sent
		return
	}
	stop := context.AfterFunc(s.ctx, func() { _ = in.Close() })
	defer stop()
	splice(in, out)
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
