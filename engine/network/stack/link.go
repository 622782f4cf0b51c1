// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"net"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/stack/gro"
)

// groFlushes is how often Flush must run to empty a GRO: each run takes one packet
// from every bucket, and a bucket holds eight.
const groFlushes = 8

// link is the stack's only interface. Outbound packets wait in a bounded ring
// until ReadBatch copies them straight into its caller's buffers, so a packet is
// copied once between TCP's buffer and the cipher. TCP hands over super-segments
// that are cut into packets in one go (GSO); inbound batches are coalesced (GRO).
type link struct {
	mtu    uint32
	verify bool
	filter bool // drop ICMPv6 echoes to addresses that are not owned
	s      *Stack
	disp   gstack.NetworkDispatcher // set once, before any packet
	gros   sync.Pool

	mu      sync.Mutex
	cond    sync.Cond // waits on mu for packets
	ring    []queued
	head, n int
	waiting int
	closed  bool
	dropped uint64
}

// queued is a packet that waits for ReadBatch.
type queued struct {
	*gstack.PacketBuffer
	injected bool
}

var (
	_ gstack.LinkEndpoint = (*link)(nil)
	_ gstack.GSOEndpoint  = (*link)(nil)
)

func newLink(s *Stack, o Options) *link {
	l := &link{
		mtu: uint32(o.MTU), verify: o.VerifyChecksums, filter: o.Promiscuous, s: s,
		ring: make([]queued, o.Queue),
	}
	l.cond.L = &l.mu
	l.gros.New = func() any {
		g := new(gro.GRO)
		g.Init(true)
		g.Dispatcher = l.disp
		return g
	}
	return l
}

func (l *link) MTU() uint32                    { return l.mtu }
func (l *link) SetMTU(uint32)                  {}
func (l *link) MaxHeaderLength() uint16        { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress) {
}

func (l *link) Capabilities() gstack.LinkEndpointCapabilities {
	if l.verify {
		return gstack.CapabilityNone
	}
	return gstack.CapabilityRXChecksumOffload
}

// Attach is called with nil when the interface is removed, which happens only
// after Close has stopped deliveries.
func (l *link) Attach(d gstack.NetworkDispatcher) {
	if d != nil {
		l.disp = d
	}
}
func (l *link) IsAttached() bool                        { return l.disp != nil }
func (l *link) Wait()                                   {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*gstack.PacketBuffer)          {}
func (l *link) ParseHeader(*gstack.PacketBuffer) bool   { return true }
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) GSOMaxSize() uint32                      { return gstack.GVisorGSOMaxSize }
func (l *link) SupportedGSO() gstack.SupportedGSO       { return gstack.GVisorGSOSupported }

// WritePackets queues packets. It never blocks: it runs under locks of TCP and,
// where a hub loops packets back, on the goroutine that empties the queue.
func (l *link) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, &tcpip.ErrClosedForSend{}
	}
	n := 0
	for _, p := range pkts.AsSlice() {
		if !l.push(queued{PacketBuffer: p}) {
			break
		}
		p.IncRef()
		n++
	}
	l.wake()
	l.mu.Unlock()
	if n == 0 && pkts.Len() > 0 {
		return 0, &tcpip.ErrNoBufferSpace{}
	}
	return n, nil
}

// push appends p to the ring. The caller holds mu.
func (l *link) push(p queued) bool {
	if l.n == len(l.ring) {
		l.dropped++
		return false
	}
	at := l.head + l.n
	if at >= len(l.ring) {
		at -= len(l.ring)
	}
	l.ring[at] = p
	l.n++
	return true
}

// wake wakes a reader if one waits. The caller holds mu.
func (l *link) wake() {
	if l.waiting > 0 && l.n > 0 {
		l.cond.Signal()
	}
}

func (l *link) read(bufs [][]byte, sizes []int, own []bool, off int) (int, error) {
	var take [BatchSize]queued
	want := min(len(bufs), len(sizes), len(take))
	l.mu.Lock()
	for l.n == 0 && !l.closed {
		l.waiting++
		l.cond.Wait()
		l.waiting--
	}
	if l.n == 0 {
		l.mu.Unlock()
		return 0, net.ErrClosed
	}
	n := min(l.n, want)
	for i := range n {
		take[i] = l.ring[l.head]
		l.ring[l.head] = queued{}
		if l.head++; l.head == len(l.ring) {
			l.head = 0
		}
	}
	l.n -= n
	l.wake() // for another reader, if packets are left
	l.mu.Unlock()
	for i, p := range take[:n] {
		sizes[i] = 0
		if k := p.Size(); off+k <= len(bufs[i]) {
			b := bufs[i][off:]
			for _, s := range p.AsSlices() {
				b = b[copy(b, s):]
			}
			sizes[i] = k
		}
		if own != nil {
			own[i] = !p.injected
		}
		p.DecRef()
	}
	return n, nil
}

func (l *link) inject(bufs [][]byte, off int) int {
	n := 0
	for _, b := range bufs {
		p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b[off:])})
		l.mu.Lock()
		ok := !l.closed && l.push(queued{PacketBuffer: p, injected: true})
		l.mu.Unlock()
		if !ok {
			p.DecRef()
			break
		}
		n++
	}
	l.mu.Lock()
	l.wake()
	l.mu.Unlock()
	return n
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.cond.Broadcast()
	l.mu.Unlock()
}

// deliver hands packets to the stack.
func (l *link) deliver(bufs [][]byte, off int) {
	if len(bufs) == 1 || l.verify {
		// A coalesced packet has no valid header checksum, so none can be verified.
		for _, b := range bufs {
			if p := l.packet(b[off:]); p != nil {
				l.disp.DeliverNetworkPacket(p.NetworkProtocolNumber, p)
				p.DecRef()
			}
		}
		return
	}
	g := l.gros.Get().(*gro.GRO)
	for _, b := range bufs {
		if p := l.packet(b[off:]); p != nil {
			g.Enqueue(p)
			p.DecRef()
		}
	}
	for range groFlushes {
		g.Flush()
	}
	l.gros.Put(g)
}

// packet copies b into a packet buffer. It returns nil for what is not IP.
func (l *link) packet(b []byte) *gstack.PacketBuffer {
	var proto tcpip.NetworkProtocolNumber
	switch {
	case len(b) >= header.IPv4MinimumSize && b[0]>>4 == 4:
		proto = header.IPv4ProtocolNumber
	case len(b) >= header.IPv6MinimumSize && b[0]>>4 == 6:
		proto = header.IPv6ProtocolNumber
		if l.filter && b[6] == uint8(header.ICMPv6ProtocolNumber) && l.strayEcho(b) {
			return nil
		}
	default:
		return nil
	}
	p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	p.NetworkProtocolNumber = proto
	p.RXChecksumValidated = !l.verify
	return p
}

// strayEcho reports whether b is an ICMPv6 echo request to an address that is not
// owned, which a promiscuous interface would answer (for IPv4 it does not).
func (l *link) strayEcho(b []byte) bool {
	h := header.IPv6(b)
	return len(b) > header.IPv6MinimumSize &&
		header.ICMPv6Type(b[header.IPv6MinimumSize]) == header.ICMPv6EchoRequest &&
		!l.s.Owns(fromAddress(h.DestinationAddress()))
}

// ReadBatch waits for outbound packets and copies each into bufs[i][off:], its
// length into sizes[i]. A packet that does not fit is dropped and has size 0. It
// returns net.ErrClosed once the stack is closed and its queue is empty.
func (s *Stack) ReadBatch(bufs [][]byte, sizes []int, off int) (int, error) {
	return s.link.read(bufs, sizes, nil, off)
}

// ReadOwn is ReadBatch that tells in own[i] whether the stack itself sent a packet
// or Inject put it there.
func (s *Stack) ReadOwn(bufs [][]byte, sizes []int, own []bool, off int) (int, error) {
	return s.link.read(bufs, sizes, own, off)
}

// WriteBatch gives the stack the inbound packets bufs[i][off:]. It copies them.
func (s *Stack) WriteBatch(bufs [][]byte, off int) (int, error) {
	s.link.mu.Lock()
	closed := s.link.closed
	s.link.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	s.link.deliver(bufs, off)
	return len(bufs), nil
}

// Deliver is WriteBatch without an offset; packets for a closed stack vanish.
func (s *Stack) Deliver(packets [][]byte) { _, _ = s.WriteBatch(packets, 0) }

// Inject queues copies of raw packets bufs[i][off:] for ReadBatch, as if the stack
// had sent them, and returns how many the queue took. A hub forwards from peer to
// peer with it, so that one reader and one bounded queue serve all packets.
func (s *Stack) Inject(bufs [][]byte, off int) int { return s.link.inject(bufs, off) }

// Dropped counts the packets that found the queue full.
func (s *Stack) Dropped() uint64 {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.link.dropped
}
