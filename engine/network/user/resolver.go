// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"encoding/binary"
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
