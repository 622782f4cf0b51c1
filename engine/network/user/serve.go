// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"net"
	"net/netip"

	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/model"
)

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
	case model.KindLink, model.KindGateway:
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
