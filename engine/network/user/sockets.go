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
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

const (
	// dnsInFlight bounds the queries that one Network's resolver works on, and
	// dnsConns its connections. One Host or Link may have dnsShare of either.
	dnsInFlight = 256
	dnsConns    = 128
	dnsShare    = 4
	// dnsTimeout bounds one query, dnsIdle a silent DNS connection.
	dnsTimeout = 5 * time.Second
	dnsIdle    = 10 * time.Second
)

// socketSet is what listens on one address of a stack.
type socketSet struct {
	ports   map[uint16]io.Closer // what a Gateway publishes, by port
	closers []io.Closer
	release func()
}

func (s *socketSet) close() {
	for _, c := range s.closers {
		_ = c.Close() // a listener that is closed twice is closed
	}
	for _, c := range s.ports {
		_ = c.Close()
	}
	s.release()
}

// applySockets listens on the Endpoints' addresses and the resolver's, and
// stops where they are gone.
func (h *hub) applySockets(n *snapshot.Network) error {
	want := map[netip.Addr]func(*socketSet, netip.Addr) error{}
	for a, i := range n.Interfaces {
		if i.Endpoint != nil {
			want[a] = h.listenEndpoint
		}
	}
	for _, a := range n.Resolver {
		want[a] = h.listenResolver
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
			if err = listen(s, a); err == nil {
				h.sockets[a] = s
				continue
			}
			s.close() // to be tried again with the next change
		}
		errs = append(errs, fmt.Errorf("listen on %s in Network/%s: %w", a, h.name, err))
	}
	return errors.Join(errs...)
}

// open makes st own a.
func open(st *stack.Stack, a netip.Addr) (*socketSet, error) {
	if err := st.AddAddress(a); err != nil {
		return nil, err
	}
	return &socketSet{ports: map[uint16]io.Closer{}, release: func() { _ = st.RemoveAddress(a) }}, nil
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
// cannot be vouched for and is closed; so is one whose caller has too many.
func serve(f *Fabric, l net.Listener, t *table) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		remote, local := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
		o, ok := vouched(t, packet.TCP, remote, local)
		if !ok {
			f.complain("closed a connection of an unknown flow", "from", remote, "to", local)
			reset(c)
			continue
		}
		who := caller(o)
		if !f.serving.Enter(who, f.connShare(who)) {
			f.complain("too many connections are open; further ones are reset", "from", who, "to", local)
			reset(c)
			continue
		}
		f.conns.Go(func() {
			defer f.serving.Leave(who)
			f.opts.Serve(c, o)
		})
	}
}

// connShare is how many connections one caller may have.
func (f *Fabric) connShare(who model.Ref) int {
	switch who.Kind {
	case model.KindHost:
		return max(f.opts.MaxConns/8, 1)
	case model.KindLink:
		return max(f.opts.MaxConns/2, 1)
	}
	return f.opts.MaxConns
}

// reset closes a connection so that its caller sees it at once, and nothing of it
// stays.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // else it is closed in the usual way
	}
	_ = c.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (h *hub) listenResolver(s *socketSet, a netip.Addr) error {
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
	h.wait.Go(func() { h.resolveUDP(u, at) })
	h.wait.Go(func() { h.resolveTCP(l) })
	return nil
}

// resolveUDP answers datagrams. When too many are being worked on, in all or for
// one sender, further ones are dropped, and asked again by their sender.
func (h *hub) resolveUDP(u *stack.PacketConn, at netip.AddrPort) {
	slots := limited.NewParties[model.Ref](dnsInFlight)
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
		who := caller(o)
		if !slots.Enter(who, dnsInFlight/dnsShare) {
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		wait.Go(func() {
			defer slots.Leave(who)
			if answer := h.ask(o, query, false); answer != nil {
				_, _ = u.WriteToAddrPort(answer, from) // lost like any datagram
			}
		})
	}
}

func (h *hub) ask(o *snapshot.Origin, query []byte, tcp bool) []byte {
	ctx, cancel := context.WithTimeout(h.ctx, dnsTimeout)
	defer cancel()
	return h.f.opts.Resolve(ctx, h.name, o, query, tcp)
}

func (h *hub) resolveTCP(l net.Listener) {
	slots := limited.NewParties[model.Ref](dnsConns)
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		o, ok := vouched(h.flows, packet.TCP, addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()))
		if !ok || !slots.Enter(caller(o), dnsConns/dnsShare) {
			reset(c)
			continue
		}
		wait.Go(func() {
			defer slots.Leave(caller(o))
			stop := context.AfterFunc(h.ctx, func() { _ = c.Close() })
			defer stop()
			defer c.Close()
			h.resolveConn(c, o)
		})
	}
}

// resolveConn answers the queries of one connection in turn (RFC 7766).
func (h *hub) resolveConn(c net.Conn, o *snapshot.Origin) {
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
		answer := h.ask(o, query, true)
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
// addresses. Ports that stay published are not touched.
func (g *segment) applySockets(s *snapshot.Snapshot) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a, set := range g.sockets {
		gw := s.Internet.Gateways[a]
		if gw == nil {
			set.close()
			delete(g.sockets, a)
			continue
		}
		for port, l := range set.ports {
			if _, ok := gw.Ports(a)[port]; !ok {
				_ = l.Close() // nothing more comes of it
				delete(set.ports, port)
			}
		}
	}
	var errs []error
	for a, gw := range s.Internet.Gateways {
		set := g.sockets[a]
		if set == nil {
			var err error
			if set, err = open(g.stack, a); err != nil {
				errs = append(errs, fmt.Errorf("public address %s of Gateway/%s: %w", a, gw.Name, err))
				continue
			}
			g.sockets[a] = set
		}
		for port := range gw.Ports(a) {
			if set.ports[port] != nil {
				continue
			}
			l, err := g.stack.ListenTCP(netip.AddrPortFrom(a, port))
			if err != nil {
				errs = append(errs, fmt.Errorf("port %d of %s, Gateway/%s: %w", port, a, gw.Name, err))
				continue
			}
			set.ports[port] = l
			g.wait.Go(func() { serve(g.f, l, g.flows) })
		}
	}
	return errors.Join(errs...)
}
