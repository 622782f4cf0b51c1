// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"net"
	"net/netip"
	"sync"

	"postern.dev/postern/engine/network/packet"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TCPRequest is a SYN to an address that the stack does not own, or to a port that
// it offers. Its handler must call exactly one of Accept, Refuse and Drop; returning without is Drop.
type TCPRequest interface {
	// Src is the caller, Dst the address it wants.
	Src() netip.AddrPort
	Dst() netip.AddrPort
	// Accept completes the handshake.
	Accept() (net.Conn, error)
	// Refuse answers with RST.
	Refuse()
	// Drop does not answer. The caller will ask again.
	Drop()
}

// UDPRequest is the first datagram of a flow to an address that the stack does not
// own. Its handler must call exactly one of Accept, Refuse and Drop; returning
// without is Drop.
type UDPRequest interface {
	// Src is the caller, Dst the address it wants.
	Src() netip.AddrPort
	Dst() netip.AddrPort
	// Accept opens a socket connected to the caller, whose first read returns the
	// first datagram. The flow counts against Options.MaxInFlight until closed.
	Accept() (net.Conn, error)
	// Refuse answers with ICMP port unreachable.
	Refuse()
	// Drop does not answer.
	Drop()
}

type tcpForwarder struct{ f *tcp.Forwarder }

// ForwardTCP sets the handler of SYNs to addresses that the stack does not own;
// nil, the default, drops them. It needs Options.Promiscuous. Every request runs on
// its own goroutine; beyond Options.MaxInFlight undecided ones further SYNs are
// dropped.
func (s *Stack) ForwardTCP(handle func(TCPRequest)) {
	if handle == nil {
		s.tcpForward.Store(nil)
		return
	}
	s.tcpForward.Store(&tcpForwarder{f: s.newForwarder(s.opts.MaxInFlight, s.begin, s.tasks.Done, handle)})
}

// newForwarder makes a forwarder whose handlers run between begin, which may say
// no, and end.
func (s *Stack) newForwarder(most int, begin func() bool, end func(), handle func(TCPRequest)) *tcp.Forwarder {
	return tcp.NewForwarder(s.st, 0, most, func(r *tcp.ForwarderRequest) {
		q := &tcpRequest{s: s, r: r, id: r.ID()}
		if !begin() {
			q.Drop()
			return
		}
		defer end()
		handle(q)
		q.Drop()
	})
}

// handleTCP sees the segments that no socket took. It reports false to have them
// answered with RST.
func (s *Stack) handleTCP(id gstack.TransportEndpointID, p *gstack.PacketBuffer) bool {
	if s.Owns(fromAddress(id.LocalAddress)) {
		o := (*s.offers.Load())[id.LocalPort]
		return o != nil && o.f.HandlePacket(id, p)
	}
	f := s.tcpForward.Load()
	if f == nil {
		return true
	}
	return f.f.HandlePacket(id, p)
}

type tcpRequest struct {
	s    *Stack
	r    *tcp.ForwarderRequest
	id   gstack.TransportEndpointID
	once sync.Once
}

func (q *tcpRequest) Src() netip.AddrPort { return remoteOf(q.id) }
func (q *tcpRequest) Dst() netip.AddrPort { return localOf(q.id) }

func (q *tcpRequest) Accept() (net.Conn, error) {
	c, err := net.Conn(nil), error(net.ErrClosed)
	q.once.Do(func() {
		wq := new(waiter.Queue)
		ep, terr := q.r.CreateEndpoint(wq)
		q.r.Complete(false)
		if terr != nil {
			err = opError("accept", "tcp", net.TCPAddrFromAddrPort(q.Src()), net.TCPAddrFromAddrPort(q.Dst()), errno(terr))
			return
		}
		c, err = newConn(ep, wq), nil
	})
	return c, err
}

func (q *tcpRequest) Refuse() { q.once.Do(func() { q.r.Complete(true) }) }
func (q *tcpRequest) Drop()   { q.once.Do(func() { q.r.Complete(false) }) }

func remoteOf(id gstack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(fromAddress(id.RemoteAddress), id.RemotePort)
}

func localOf(id gstack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(fromAddress(id.LocalAddress), id.LocalPort)
}

// maxPending bounds the datagrams of one flow that wait for its handler.
const maxPending = 16

// udpForwarder holds the flows whose handler has not decided and counts those it
// accepted.
type udpForwarder struct {
	s      *Stack
	handle func(UDPRequest)

	mu      sync.Mutex
	flows   int // undecided and accepted
	pending map[gstack.TransportEndpointID]*udpRequest
	closed  bool
}

// ForwardUDP sets the handler of datagrams to addresses that the stack does not
// own; nil, the default, drops them. It needs Options.Promiscuous. Every flow's
// handler runs on its own goroutine; beyond Options.MaxInFlight flows datagrams are
// dropped.
func (s *Stack) ForwardUDP(handle func(UDPRequest)) {
	var next *udpForwarder
	if handle != nil {
		next = &udpForwarder{s: s, handle: handle, pending: map[gstack.TransportEndpointID]*udpRequest{}}
	}
	if old := s.udpForward.Swap(next); old != nil {
		old.close()
	}
}

// handleUDP sees the datagrams that no socket took. It reports false to have them
// answered with ICMP port unreachable.
func (s *Stack) handleUDP(id gstack.TransportEndpointID, p *gstack.PacketBuffer) bool {
	if s.Owns(fromAddress(id.LocalAddress)) {
		return false
	}
	if f := s.udpForward.Load(); f != nil {
		f.take(id, p)
	}
	return true
}

func (f *udpForwarder) take(id gstack.TransportEndpointID, p *gstack.PacketBuffer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	if q, ok := f.pending[id]; ok {
		if len(q.packets) < maxPending {
			q.packets = append(q.packets, p.Clone())
		}
		return
	}
	if f.flows >= f.s.opts.MaxInFlight || !f.s.begin() {
		return
	}
	f.flows++
	q := &udpRequest{f: f, id: id, packets: []*gstack.PacketBuffer{p.Clone()}}
	f.pending[id] = q
	go func() {
		defer f.s.tasks.Done()
		f.handle(q)
		q.Drop()
	}()
}

func (f *udpForwarder) release() {
	f.mu.Lock()
	f.flows--
	f.mu.Unlock()
}

func (f *udpForwarder) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
}

type udpRequest struct {
	f       *udpForwarder
	id      gstack.TransportEndpointID
	once    sync.Once
	packets []*gstack.PacketBuffer // guarded by f.mu while pending
}

func (q *udpRequest) Src() netip.AddrPort { return remoteOf(q.id) }
func (q *udpRequest) Dst() netip.AddrPort { return localOf(q.id) }

func (q *udpRequest) Accept() (net.Conn, error) {
	c, err := net.Conn(nil), error(net.ErrClosed)
	q.once.Do(func() {
		wq := new(waiter.Queue)
		// The lock is held until the waiting datagrams are in the socket, so that
		// none can overtake them.
		q.f.mu.Lock()
		first := q.packets[0]
		ep, terr := udp.NewForwarderRequest(q.f.s.st, q.id, first.Clone()).CreateEndpoint(wq)
		if terr == nil {
			for _, p := range q.packets[1:] {
				ep.(gstack.TransportEndpoint).HandlePacket(q.id, p)
			}
		}
		q.forget()
		q.f.mu.Unlock()
		if terr != nil {
			q.f.release()
			err = opError("accept", "udp", net.UDPAddrFromAddrPort(q.Src()), net.UDPAddrFromAddrPort(q.Dst()), errno(terr))
			return
		}
		u := q.f.s.newPacketConn(ep, wq)
		u.onClose = q.f.release
		if !q.f.s.track(u) {
			_ = u.Close()
			return
		}
		c, err = u, nil
	})
	return c, err
}

// forget drops the waiting datagrams. The caller holds f.mu.
func (q *udpRequest) forget() {
	delete(q.f.pending, q.id)
	for _, p := range q.packets {
		p.DecRef()
	}
	q.packets = nil
}

func (q *udpRequest) Refuse() {
	q.once.Do(func() {
		q.f.mu.Lock()
		raw := raw(q.packets[0])
		q.forget()
		q.f.mu.Unlock()
		q.f.release()
		if i, err := packet.Parse(raw); err == nil {
			if b := packet.AppendUnreachable(nil, raw, &i, packet.Port, netip.Addr{}); b != nil {
				q.f.s.Inject([][]byte{b}, 0)
			}
		}
	})
}

func (q *udpRequest) Drop() {
	q.once.Do(func() {
		q.f.mu.Lock()
		q.forget()
		q.f.mu.Unlock()
		q.f.release()
	})
}

// raw returns a parsed packet's bytes from the network header on.
func raw(p *gstack.PacketBuffer) []byte {
	b := make([]byte, 0, header.UDPMinimumSize+p.Size())
	b = append(b, p.NetworkHeader().Slice()...)
	b = append(b, p.TransportHeader().Slice()...)
	return append(b, p.Data().AsRange().ToSlice()...)
}
