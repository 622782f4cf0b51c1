// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// PacketConn is a UDP socket. It is a net.PacketConn and, once connected, a
// net.Conn.
type PacketConn struct {
	s             *Stack
	ep            tcpip.Endpoint
	wq            *waiter.Queue
	local, remote *net.UDPAddr
	closed        atomic.Bool
	onClose       func() // may be nil
	rmu           sync.Mutex
	in            signal
	out           signal
}

var (
	_ net.Conn       = (*PacketConn)(nil)
	_ net.PacketConn = (*PacketConn)(nil)
)

func (s *Stack) newPacketConn(ep tcpip.Endpoint, wq *waiter.Queue) *PacketConn {
	c := &PacketConn{s: s, ep: ep, wq: wq}
	c.in.init(wq, waiter.ReadableEvents, &c.closed)
	c.out.init(wq, waiter.WritableEvents, &c.closed)
	if a, err := ep.GetLocalAddress(); err == nil {
		c.local = net.UDPAddrFromAddrPort(fromFull(a))
	}
	if a, err := ep.GetRemoteAddress(); err == nil {
		c.remote = net.UDPAddrFromAddrPort(fromFull(a))
	}
	return c
}

// ListenUDP opens an unconnected socket. Addresses are as in ListenTCP.
func (s *Stack) ListenUDP(at netip.AddrPort) (*PacketConn, error) {
	return s.udp("listen", at, netip.AddrPort{})
}

// DialUDP opens a connected socket; an ICMP port unreachable becomes
// syscall.ECONNREFUSED. Addresses are as in DialTCP.
func (s *Stack) DialUDP(local, remote netip.AddrPort) (*PacketConn, error) {
	return s.udp("dial", local, remote)
}

func (s *Stack) udp(op string, local, remote netip.AddrPort) (*PacketConn, error) {
	var to net.Addr
	if remote.IsValid() {
		to = net.UDPAddrFromAddrPort(remote)
	}
	fail := func(err error) (*PacketConn, error) {
		return nil, opError(op, "udp", net.UDPAddrFromAddrPort(local), to, err)
	}
	proto := netProto(local.Addr().Unmap())
	switch {
	case remote.IsValid():
		proto = netProto(remote.Addr().Unmap())
	case !local.Addr().IsValid():
		proto = ipv6.ProtocolNumber // takes both families
	}
	wq := new(waiter.Queue)
	ep, err := s.st.NewEndpoint(udp.ProtocolNumber, proto, wq)
	if err != nil {
		return fail(errno(err))
	}
	if local.Addr().Is6() {
		ep.SocketOptions().SetV6Only(true)
	}
	if op == "listen" || local.Addr().IsValid() || local.Port() != 0 {
		err = ep.Bind(full(local))
	}
	if err == nil && remote.IsValid() {
		err = ep.Connect(full(remote))
	}
	if err != nil {
		ep.Close()
		return fail(errno(err))
	}
	c := s.newPacketConn(ep, wq)
	if !s.track(c) {
		_ = c.Close()
		return fail(errClosed)
	}
	return c, nil
}

// ReadFromAddrPort reads one datagram and its sender. What exceeds b is lost.
func (c *PacketConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	for {
		if err := c.in.check(); err != nil {
			return 0, netip.AddrPort{}, c.fail("read", nil, err)
		}
		w := tcpip.SliceWriter(b)
		res, err := c.ep.Read(&w, tcpip.ReadOptions{NeedRemoteAddr: true})
		switch err.(type) {
		case nil:
			return res.Count, fromFull(res.RemoteAddr), nil
		case *tcpip.ErrWouldBlock:
			c.in.wait()
		case *tcpip.ErrClosedForReceive:
			return 0, netip.AddrPort{}, io.EOF
		default:
			return 0, netip.AddrPort{}, c.fail("read", nil, c.cause(err))
		}
	}
}

// WriteToAddrPort sends one datagram. The zero address means the connected one.
func (c *PacketConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	var opts tcpip.WriteOptions
	if to.IsValid() {
		f := full(to)
		opts.To = &f
	}
	for {
		if err := c.out.check(); err != nil {
			return 0, c.fail("write", to, err)
		}
		var r bytes.Reader
		r.Reset(b)
		n, err := c.ep.Write(&r, opts)
		switch err.(type) {
		case nil:
			return int(n), nil
		case *tcpip.ErrWouldBlock:
			c.out.wait()
		default:
			return 0, c.fail("write", to, c.cause(err))
		}
	}
}

func (c *PacketConn) cause(err tcpip.Error) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return errno(err)
}

func (c *PacketConn) fail(op string, to any, err error) error {
	dst := c.RemoteAddr()
	if a, ok := to.(netip.AddrPort); ok && a.IsValid() {
		dst = net.UDPAddrFromAddrPort(a)
	}
	return opError(op, "udp", c.LocalAddr(), dst, err)
}

// Read reads one datagram.
func (c *PacketConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFromAddrPort(b)
	return n, err
}

// Write sends one datagram to the connected address.
func (c *PacketConn) Write(b []byte) (int, error) { return c.WriteToAddrPort(b, netip.AddrPort{}) }

// ReadFrom reads one datagram and its sender, a *net.UDPAddr.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo sends one datagram to a *net.UDPAddr.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: net.InvalidAddrError("not a *net.UDPAddr")}
	}
	p := a.AddrPort()
	return c.WriteToAddrPort(b, netip.AddrPortFrom(p.Addr().Unmap(), p.Port()))
}

// Close closes the socket.
func (c *PacketConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.s.untrack(c)
	c.ep.Close()
	c.in.stop(c.wq)
	c.out.stop(c.wq)
	if c.onClose != nil {
		c.onClose()
	}
	return nil
}

// LocalAddr returns the local *net.UDPAddr.
func (c *PacketConn) LocalAddr() net.Addr { return udpAddrOrNil(c.local) }

// RemoteAddr returns the connected *net.UDPAddr, or nil.
func (c *PacketConn) RemoteAddr() net.Addr { return udpAddrOrNil(c.remote) }

func udpAddrOrNil(a *net.UDPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// SetDeadline sets both deadlines.
func (c *PacketConn) SetDeadline(t time.Time) error {
	c.in.setDeadline(t)
	c.out.setDeadline(t)
	return nil
}

// SetReadDeadline sets the deadline of reads.
func (c *PacketConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

// SetWriteDeadline sets the deadline of writes.
func (c *PacketConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(t)
	return nil
}
