// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	backlog       = 1024
	keepaliveIdle = 30 * time.Second
	keepaliveStep = 15 * time.Second
)

// Conn is a TCP connection.
type Conn struct {
	ep            tcpip.Endpoint
	wq            *waiter.Queue
	local, remote *net.TCPAddr
	closed        atomic.Bool

	rmu sync.Mutex // one reader at a time; guards dst
	dst tcpip.SliceWriter
	in  signal

	wmu sync.Mutex // one writer at a time; guards src
	src bytes.Reader
	out signal
}

var _ net.Conn = (*Conn)(nil)

func newConn(ep tcpip.Endpoint, wq *waiter.Queue) *Conn {
	c := &Conn{ep: ep, wq: wq}
	c.in.init(wq, waiter.ReadableEvents, &c.closed)
	c.out.init(wq, waiter.WritableEvents, &c.closed)
	if a, err := ep.GetLocalAddress(); err == nil {
		c.local = net.TCPAddrFromAddrPort(fromFull(a))
	}
	if a, err := ep.GetRemoteAddress(); err == nil {
		c.remote = net.TCPAddrFromAddrPort(fromFull(a))
	}
	ep.SocketOptions().SetKeepAlive(true)
	idle, step := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveStep)
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&step)
	return c
}

// Read reads what has arrived.
func (c *Conn) Read(b []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if err := c.in.check(); err != nil {
			return 0, c.fail("read", err)
		}
		c.dst = b
		res, err := c.ep.Read(&c.dst, tcpip.ReadOptions{})
		c.dst = nil
		switch err.(type) {
		case nil:
			c.ep.ModerateRecvBuf(res.Count)
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			c.in.wait()
		case *tcpip.ErrClosedForReceive:
			return 0, io.EOF
		default:
			return 0, c.fail("read", c.cause(err))
		}
	}
}

// Write sends all of b.
func (c *Conn) Write(b []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	done := 0
	for {
		if err := c.out.check(); err != nil {
			return done, c.fail("write", err)
		}
		if done == len(b) {
			return done, nil
		}
		c.src.Reset(b[done:])
		n, err := c.ep.Write(&c.src, tcpip.WriteOptions{})
		c.src.Reset(nil)
		done += int(n)
		switch err.(type) {
		case nil:
			if done == len(b) {
				return done, nil
			}
		case *tcpip.ErrWouldBlock:
			c.out.wait()
		default:
			return done, c.fail("write", c.cause(err))
		}
	}
}

// cause maps err; after Close it is net.ErrClosed whatever the stack says.
func (c *Conn) cause(err tcpip.Error) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return errno(err)
}

func (c *Conn) fail(op string, err error) error {
	return opError(op, "tcp", c.LocalAddr(), c.RemoteAddr(), err)
}

// Close closes both directions; what was written is still sent.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return c.fail("close", net.ErrClosed)
	}
	c.ep.Close()
	c.in.stop(c.wq)
	c.out.stop(c.wq)
	return nil
}

// CloseRead shuts the reading side.
func (c *Conn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

// CloseWrite sends FIN; the other direction stays open.
func (c *Conn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

func (c *Conn) shutdown(how tcpip.ShutdownFlags) error {
	if err := c.ep.Shutdown(how); err != nil {
		return c.fail("shutdown", c.cause(err))
	}
	return nil
}

// SetLinger is that of net.TCPConn: with zero seconds Close sends RST.
func (c *Conn) SetLinger(sec int) error {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec >= 0, Timeout: time.Duration(max(sec, 0)) * time.Second})
	return nil
}

// SetNoDelay is that of net.TCPConn. It is on from the start.
func (c *Conn) SetNoDelay(on bool) error {
	c.ep.SocketOptions().SetDelayOption(!on)
	return nil
}

// LocalAddr returns the local *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return addrOrNil(c.local) }

// RemoteAddr returns the remote *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return addrOrNil(c.remote) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(t)
	c.out.setDeadline(t)
	return nil
}

// SetReadDeadline sets the deadline of Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

// SetWriteDeadline sets the deadline of Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(t)
	return nil
}

// addrOrNil avoids a non-nil net.Addr that holds a nil pointer.
func addrOrNil(a *net.TCPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// Listener accepts TCP connections.
type Listener struct {
	s      *Stack
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	addr   *net.TCPAddr
	closed atomic.Bool
	mu     sync.Mutex // one Accept at a time
	in     signal
}

// ListenTCP listens on an address. The unspecified address of a family means any
// address of that family; the zero Addr any at all. Port zero picks one.
func (s *Stack) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	want := net.TCPAddrFromAddrPort(at)
	fail := func(err error) (net.Listener, error) { return nil, opError("listen", "tcp", nil, want, err) }
	wq := new(waiter.Queue)
	proto := netProto(at.Addr().Unmap())
	if !at.Addr().IsValid() {
		proto = ipv6.ProtocolNumber // takes both families
	}
	ep, err := s.st.NewEndpoint(tcp.ProtocolNumber, proto, wq)
	if err != nil {
		return fail(errno(err))
	}
	if at.Addr().Is6() {
		ep.SocketOptions().SetV6Only(true)
	}
	// Connections that an earlier listener accepted do not keep the port; another
	// listener does.
	ep.SocketOptions().SetReuseAddress(true)
	if err = ep.Bind(full(at)); err == nil {
		err = ep.Listen(backlog)
	}
	if err != nil {
		ep.Close()
		return fail(errno(err))
	}
	l := &Listener{s: s, ep: ep, wq: wq, addr: want}
	if a, err := ep.GetLocalAddress(); err == nil {
		l.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), a.Port))
	}
	l.in.init(wq, waiter.ReadableEvents, &l.closed)
	if !s.track(l) {
		_ = l.Close()
		return fail(errClosed)
	}
	return l, nil
}

// Accept returns the next connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := l.in.check(); err != nil {
			return nil, opError("accept", "tcp", nil, l.addr, err)
		}
		ep, wq, err := l.ep.Accept(nil)
		switch err.(type) {
		case nil:
			return newConn(ep, wq), nil
		case *tcpip.ErrWouldBlock:
			l.in.wait()
		default:
			cause := errno(err)
			if l.closed.Load() {
				cause = net.ErrClosed
			}
			return nil, opError("accept", "tcp", nil, l.addr, cause)
		}
	}
}

// Close stops listening. Connections that were not accepted are reset.
func (l *Listener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.s.untrack(l)
	l.ep.Close()
	l.in.stop(l.wq)
	return nil
}

// Addr returns the *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return l.addr }

// SetDeadline bounds Accept, as net.TCPListener does.
func (l *Listener) SetDeadline(t time.Time) error {
	l.in.setDeadline(t)
	return nil
}

// DialTCP connects to remote. The zero local means any owned address and port; in
// a promiscuous stack local may be any address.
func (s *Stack) DialTCP(ctx context.Context, local, remote netip.AddrPort) (net.Conn, error) {
	to := net.TCPAddrFromAddrPort(remote)
	var from net.Addr
	if local.IsValid() {
		from = net.TCPAddrFromAddrPort(local)
	}
	fail := func(err error) (net.Conn, error) { return nil, opError("dial", "tcp", from, to, err) }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	wq := new(waiter.Queue)
	ep, err := s.st.NewEndpoint(tcp.ProtocolNumber, netProto(remote.Addr().Unmap()), wq)
	if err != nil {
		return fail(errno(err))
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if local.Addr().IsValid() || local.Port() != 0 {
		if err := ep.Bind(full(local)); err != nil {
			ep.Close()
			return fail(errno(err))
		}
	}
	err = ep.Connect(full(remote))
	if _, started := err.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			ep.Close()
			return fail(ctx.Err())
		case <-s.done:
			ep.Close()
			return fail(net.ErrClosed)
		case <-ready:
		}
		err = ep.LastError()
	}
	if err != nil {
		ep.Close()
		return fail(errno(err))
	}
	return newConn(ep, wq), nil
}
