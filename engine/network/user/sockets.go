// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/snapshot"
)

const (
	// dnsInFlight bounds the queries that one Network's resolver works on.
	dnsInFlight = 256
	// dnsTimeout bounds one query, dnsIdle a silent DNS connection.
	dnsTimeout = 5 * time.Second
	dnsIdle    = 10 * time.Second
	// dnsConns bounds the DNS connections of one Network.
	dnsConns = 128
)

// socketSet is what listens on one address of a stack.
type socketSet struct {
	ports   map[uint16]bool
	closers []io.Closer
	release func()
}

func (s *socketSet) close() {
	for _, c := range s.closers {
		_ = c.Close() // a listener that is closed twice is closed
	}
	s.release()
}

// applySockets listens on the Endpoints' addresses and the resolver's, and
// stops where they are gone.
func (h *hub) applySockets(ctx context.Context, n *snapshot.Network) error {
	want := map[netip.Addr]func(*socketSet, netip.Addr) error{}
	for a, i := range n.Interfaces {
		if i.Endpoint != nil {
			want[a] = h.listenEndpoint
		}
	}
	for _, a := range n.Resolver {
		want[a] = func(s *socketSet, a netip.Addr) error { return h.listenResolver(ctx, s, a) }
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for a, s := range h.sockets {
		if want[a] == nil {
			s.close()
			delete(h.sockets, a)
		}
	}
	var errs []error
	for a, listen := range want {
		if h.sockets[a] != nil {
			continue
		}
		s, err := open(h.stack, a)
		if err == nil {
			h.sockets[a] = s
			err = listen(s, a)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("listen on %s in Network/%s: %w", a, h.name, err))
		}
	}
	return errors.Join(errs...)
}

// open makes st own a.
func open(st *stack.Stack, a netip.Addr) (*socketSet, error) {
	if err := st.AddAddress(a); err != nil {
		return nil, err
	}
	return &socketSet{ports: map[uint16]bool{}, release: func() { _ = st.RemoveAddress(a) }}, nil
}

func (h *hub) listenEndpoint(s *socketSet, a netip.Addr) error {
	l, err := h.stack.ListenTCP(netip.AddrPortFrom(a, flow.EndpointPort))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l)
	h.wait.Go(func() { serve(h.f, l, h.flows) })
	return nil
}

// serve hands each connection on with its Origin. One whose flow is not known
// cannot be vouched for and is closed.
func serve(f *Fabric, l net.Listener, t *table) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		remote, local := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
		o, ok := vouched(t, packet.TCP, remote, local)
		if !ok {
			f.opts.Log.Warn("closed a connection of an unknown flow", "from", remote, "to", local)
			_ = c.Close()
			continue
		}
		f.conns.Go(func() { f.opts.Serve(c, o) })
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (h *hub) listenResolver(ctx context.Context, s *socketSet, a netip.Addr) error {
	at := netip.AddrPortFrom(a, flow.ResolverPort)
	u, err := h.stack.ListenUDP(at)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, u)
	l, err := h.stack.ListenTCP(at)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l)
	h.wait.Go(func() { h.resolveUDP(ctx, u, at) })
	h.wait.Go(func() { h.resolveTCP(ctx, l) })
	return nil
}

// resolveUDP answers datagrams. When too many are being worked on further ones
// are dropped, and asked again by their sender.
func (h *hub) resolveUDP(ctx context.Context, u *stack.PacketConn, at netip.AddrPort) {
	slots := make(chan struct{}, dnsInFlight)
	var wait sync.WaitGroup
	defer wait.Wait()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := u.ReadFromAddrPort(buf)
		if err != nil {
			return // the socket was closed
		}
		o, ok := vouched(h.flows, packet.UDP, from, at)
		if !ok {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		wait.Go(func() {
			defer func() { <-slots }()
			if answer := h.ask(ctx, o, query, false); answer != nil {
				_, _ = u.WriteToAddrPort(answer, from) // lost like any datagram
			}
		})
	}
}

func (h *hub) ask(ctx context.Context, o *snapshot.Origin, query []byte, tcp bool) []byte {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	return h.f.opts.Resolve(ctx, h.name, o, query, tcp)
}

func (h *hub) resolveTCP(ctx context.Context, l net.Listener) {
	slots := make(chan struct{}, dnsConns)
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		o, ok := vouched(h.flows, packet.TCP, addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()))
		select {
		case slots <- struct{}{}:
		default:
			ok = false
		}
		if !ok {
			_ = c.Close()
			continue
		}
		wait.Go(func() {
			defer func() { <-slots }()
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stop()
			defer c.Close()
			h.resolveConn(ctx, c, o)
		})
	}
}

// resolveConn answers the queries of one connection in turn (RFC 7766).
func (h *hub) resolveConn(ctx context.Context, c net.Conn, o *snapshot.Origin) {
	var head [2]byte
	for {
		if err := c.SetDeadline(time.Now().Add(dnsIdle)); err != nil {
			return
		}
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		answer := h.ask(ctx, o, query, true)
		if answer == nil || len(answer) > 1<<16-1 {
			return
		}
		out := binary.BigEndian.AppendUint16(nil, uint16(len(answer))) //nolint:gosec // checked above
		if _, err := c.Write(append(out, answer...)); err != nil {
			return
		}
	}
}

// applySockets listens on the published ports of the Gateways' public
// addresses.
func (g *segment) applySockets(s *snapshot.Snapshot) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a, set := range g.sockets {
		if gw := s.Internet.Gateways[a]; gw == nil || !samePorts(set.ports, gw) {
			set.close()
			delete(g.sockets, a)
		}
	}
	var errs []error
	for a, gw := range s.Internet.Gateways {
		if g.sockets[a] != nil {
			continue
		}
		set, err := open(g.stack, a)
		if err != nil {
			errs = append(errs, fmt.Errorf("public address %s of Gateway/%s: %w", a, gw.Name, err))
			continue
		}
		g.sockets[a] = set
		for port := range gw.PublicPorts {
			l, err := g.stack.ListenTCP(netip.AddrPortFrom(a, port))
			if err != nil {
				errs = append(errs, fmt.Errorf("port %d of %s, Gateway/%s: %w", port, a, gw.Name, err))
				continue
			}
			set.ports[port] = true
			set.closers = append(set.closers, l)
			g.wait.Go(func() { serve(g.f, l, g.flows) })
		}
	}
	return errors.Join(errs...)
}

func samePorts(open map[uint16]bool, gw *snapshot.Gateway) bool {
	if len(open) != len(gw.PublicPorts) {
		return false
	}
	for p := range gw.PublicPorts {
		if !open[p] {
			return false
		}
	}
	return true
}
