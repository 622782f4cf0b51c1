// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
)

const (
	// egressConnect bounds the dial of a host's connection beyond the segment.
	egressConnect = 15 * time.Second
	// egressIdle ends a UDP exchange beyond the segment.
	egressIdle = 2 * time.Minute
	// maxEgress bounds the sockets that are open beyond the segment for all
	// hosts, and egressEach those for one.
	maxEgress  = 4096
	egressEach = maxEgress / 8
)

// Dialer dials through the server's own stack. It refuses, after the name is
// resolved and just before the socket connects, every address that
// decide/flow.Egress refuses.
func (f *Fabric) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: egressConnect, ControlContext: f.checkEgress}
}

// ErrEgress is why a dial beyond the segment was refused.
var ErrEgress = errors.New("not to be dialled from the server: it is loopback, private, link-local or the server's own; --allow-egress CIDR allows it")

func (f *Fabric) checkEgress(_ context.Context, _, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	in := f.snap.Load().Internet
	if f.opts.Own != nil {
		// The machine may have gained an address since it was compiled.
		if in.Own, err = f.opts.Own(); err != nil {
			return fmt.Errorf("dial %s: %w", address, err)
		}
	}
	if !flow.Egress(&in, a.Addr()) {
		return fmt.Errorf("%s: %w", a.Addr(), ErrEgress)
	}
	return nil
}

// leave takes a place for a flow beyond the segment. It reports false if the flow
// is not known, or whose it is has too many already.
func (g *segment) leave(proto packet.Proto, from, to netip.AddrPort) (done func(), ok bool) {
	o, ok := vouched(g.flows, proto, from, to)
	if !ok {
		return nil, false
	}
	who := caller(o)
	if !g.f.egress.Enter(who, egressEach) {
		g.f.complain("too many connections beyond the internet segment are open; further ones are dropped", "from", who)
		return nil, false
	}
	return func() { g.f.egress.Leave(who) }, true
}

// egressTCP carries on a host's connection to an address beyond the segment.
func (g *segment) egressTCP(r stack.TCPRequest) {
	done, ok := g.leave(packet.TCP, r.Src(), r.Dst())
	if !ok {
		r.Drop()
		return
	}
	defer done()
	out, err := g.f.Dialer().DialContext(g.f.ctx, "tcp", r.Dst().String())
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			r.Refuse()
		} else {
			r.Drop()
		}
		return
	}
	in, err := r.Accept()
	if err != nil {
		_ = out.Close() // the caller is gone; there is nobody to tell
		return
	}
	g.f.splice(in, out)
}

// egressUDP carries on a host's datagrams to an address beyond the segment.
func (g *segment) egressUDP(r stack.UDPRequest) {
	done, ok := g.leave(packet.UDP, r.Src(), r.Dst())
	if !ok {
		r.Drop()
		return
	}
	defer done()
	out, err := g.f.Dialer().DialContext(g.f.ctx, "udp", r.Dst().String())
	if err != nil {
		r.Drop()
		return
	}
	in, err := r.Accept()
	if err != nil {
		_ = out.Close() // the caller is gone; there is nobody to tell
		return
	}
	g.f.splice(idle{in}, idle{out})
}

// splice copies both ways until one side ends, and closes both.
func (f *Fabric) splice(a, b net.Conn) {
	stop := context.AfterFunc(f.ctx, func() { _, _ = a.Close(), b.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(a, b)
	}()
	copyHalf(b, a)
	<-done
	_, _ = a.Close(), b.Close() // both ends are done
}

// copyHalf copies from src to dst and passes the end on. A failed copy ends the
// connection for the other direction too.
func copyHalf(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if c, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		if c.CloseWrite() == nil {
			return
		}
	}
	_, _ = dst.Close(), src.Close()
}

// idle is a connection that fails when nothing came for egressIdle.
type idle struct{ net.Conn }

// Read reads one datagram.
func (i idle) Read(b []byte) (int, error) {
	if err := i.SetReadDeadline(time.Now().Add(egressIdle)); err != nil {
		return 0, err
	}
	return i.Conn.Read(b)
}
