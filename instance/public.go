// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"postern.dev/postern/snapshot"
)

// public offers the Gateways' published ports on real sockets. All Gateways
// share the one address; the name in the TLS handshake tells them apart.
type public struct {
	i         *Instance
	ctx       context.Context // ends with close
	cancel    context.CancelFunc
	mu        sync.Mutex
	listeners map[uint16]net.Listener // by published port
	wait      sync.WaitGroup
}

func newPublic(i *Instance) *public {
	p := &public{i: i, listeners: map[uint16]net.Listener{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// apply opens the sockets of ports that are published now and closes those of
// ports that no longer are. A socket that cannot be opened is tried again with
// the next change.
func (p *public) apply(s *snapshot.Snapshot) {
	want := map[uint16]bool{}
	for _, g := range s.Gateways {
		for port := range g.PublicPorts {
			want[port] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for port, l := range p.listeners {
		if !want[port] {
			if err := l.Close(); err != nil {
				p.i.opts.Log.Warn("close a published port", "port", port, "error", err)
			}
			delete(p.listeners, port)
		}
	}
	for port := range want {
		if p.listeners[port] != nil {
			continue
		}
		if err := p.open(port); err != nil {
			p.i.opts.Log.Error("a published port is not served; free it, or move it with --public-ports", "port", port, "error", err)
		}
	}
}

func (p *public) open(port uint16) error {
	real := port
	if moved, ok := p.i.opts.PublicPorts[port]; ok {
		real = moved
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(p.i.opts.Public, real).String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.listeners[port] = l
	p.wait.Go(func() { p.serve(l, port) })
	return nil
}

func (p *public) serve(l net.Listener, port uint16) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		o := &snapshot.Origin{Local: netip.AddrPortFrom(p.i.opts.Public, port)}
		if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			a := t.AddrPort()
			o.Source = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		p.wait.Go(func() { p.i.serveConn(p.ctx, c, o) })
	}
}

// addr is the real address of a published port; the zero AddrPort if it is not
// open.
func (p *public) addr(port uint16) netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[port]
	if l == nil {
		return netip.AddrPort{}
	}
	if t, ok := l.Addr().(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

func (p *public) close() error {
	p.cancel()
	p.mu.Lock()
	var errs []error
	for _, l := range p.listeners {
		errs = append(errs, l.Close())
	}
	p.mu.Unlock()
	p.wait.Wait()
	return errors.Join(errs...)
}
