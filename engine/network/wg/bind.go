// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// readMessages is how many messages one system call reads. Each may be a train
	// of up to maxSegments datagrams that the kernel coalesced.
	readMessages = 8
	maxSegments  = 64 // the kernel's UDP_MAX_SEGMENTS
	// maxTrain bounds a train: the largest UDP payload of IPv4, less a margin.
	maxTrain = 65000

	maxDatagram  = 65535
	socketBuffer = 4 << 20
	// maxEndpoints bounds the cache of senders.
	maxEndpoints = 4096
)

// endpoint is where a peer is. One value serves all packets from an address.
type endpoint struct {
	at     netip.AddrPort
	udp    *net.UDPAddr
	src    source      // the local address the peer reached us at, if that matters
	anySrc atomic.Bool // src is no longer usable
	single atomic.Bool // the way there is too narrow for trains
}

var _ conn.Endpoint = (*endpoint)(nil)

func newEndpoint(at netip.AddrPort, src source) *endpoint {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return &endpoint{at: at, udp: net.UDPAddrFromAddrPort(at), src: src}
}

func (e *endpoint) ClearSrc()           { e.anySrc.Store(true) }
func (e *endpoint) SrcToString() string { return "" }
func (e *endpoint) DstToString() string { return e.at.String() }
func (e *endpoint) DstIP() netip.Addr   { return e.at.Addr() }
func (e *endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (e *endpoint) DstToBytes() []byte {
	b, _ := e.at.MarshalBinary() // never fails
	return b
}

// batchConn is what ipv4.PacketConn and ipv6.PacketConn share; their messages are
// one type.
type batchConn interface {
	ReadBatch([]ipv6.Message, int) (int, error)
	WriteBatch([]ipv6.Message, int) (int, error)
}

var _ ipv6.Message = ipv4.Message{}

// bind is the UDP side of a device: one socket at a given address.
type bind struct {
	want netip.AddrPort

	mu     sync.RWMutex // guards the fields below; not held while receiving
	sock   *socket
	opened bool
	port   uint16 // kept across Close, so that peers find us again
}

var _ conn.Bind = (*bind)(nil)

// socket is one open UDP socket.
type socket struct {
	c     *net.UDPConn
	pc    batchConn
	local netip.AddrPort
	gso   atomic.Bool // the kernel cuts trains for us
	gro   bool        // the kernel coalesces trains for us

	msgs sync.Pool // *[]ipv6.Message for sending

	// The receiver's own, used by one goroutine.
	rx      []ipv6.Message
	rxCount int // messages read
	rxMsg   int // the message being cut
	rxOff   int // and how far it is
	seen    map[sender]*endpoint
}

// sender identifies an endpoint in the cache.
type sender struct {
	at  netip.AddrPort
	src source
}

func newBind(want netip.AddrPort) (*bind, error) {
	b := &bind{want: want}
	s, err := listen(want)
	if err != nil {
		return nil, err
	}
	b.sock, b.port = s, s.local.Port()
	return b, nil
}

func listen(at netip.AddrPort) (*socket, error) {
	network := "udp"
	var la *net.UDPAddr
	switch a := at.Addr(); {
	case !a.IsValid():
		la = &net.UDPAddr{Port: int(at.Port())}
	case a.Unmap().Is4():
		network, la = "udp4", net.UDPAddrFromAddrPort(at)
	default:
		network, la = "udp6", net.UDPAddrFromAddrPort(at)
	}
	c, err := net.ListenUDP(network, la)
	if err != nil {
		return nil, err
	}
	bound, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("unexpected local address %v", c.LocalAddr())
	}
	s := &socket{c: c, local: bound.AddrPort(), seen: map[sender]*endpoint{}}
	if s.local.Addr().Is4() {
		s.pc = ipv4.NewPacketConn(c)
	} else {
		s.pc = ipv6.NewPacketConn(c)
	}
	// Best effort: the kernel caps what it grants.
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	gso, gro := setOptions(c, s.local.Addr())
	s.gso.Store(gso)
	s.gro = gro
	s.rx = make([]ipv6.Message, readMessages)
	for i := range s.rx {
		s.rx[i].Buffers = [][]byte{make([]byte, maxDatagram)}
		s.rx[i].OOB = make([]byte, controlSize)
	}
	s.msgs.New = func() any {
		m := make([]ipv6.Message, conn.IdealBatchSize)
		for i := range m {
			m[i].OOB = make([]byte, 0, controlSize)
		}
		return &m
	}
	return s, nil
}

func (b *bind) addr() netip.AddrPort {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.sock == nil {
		return netip.AddrPortFrom(b.want.Addr(), b.port)
	}
	return b.sock.local
}

// reaches reports whether the socket can send to a.
func (b *bind) reaches(a netip.Addr) bool {
	w := b.addr().Addr()
	return w.Is4() == a.Is4() || w.Is6() && w.IsUnspecified() && !b.want.Addr().IsValid()
}

// Open starts receiving. The port is the one given to New; the device's wish is
// not heeded.
func (b *bind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if b.sock == nil {
		s, err := listen(netip.AddrPortFrom(b.want.Addr(), b.port))
		if err != nil {
			return nil, 0, err
		}
		b.sock = s
	}
	b.opened = true
	return []conn.ReceiveFunc{b.sock.receive}, b.port, nil
}

// Close closes an opened socket. The device calls it before every Open too, so a
// socket that waits for its first Open stays.
func (b *bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.opened {
		return nil
	}
	b.opened = false
	err := b.sock.c.Close()
	b.sock = nil
	return err
}

// release closes the socket for good.
func (b *bind) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sock != nil {
		_ = b.sock.c.Close()
		b.sock = nil
	}
}

func (b *bind) SetMark(uint32) error { return nil }
func (b *bind) BatchSize() int       { return conn.IdealBatchSize }

func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return newEndpoint(at, source{}), nil
}

// Send sends datagrams to one endpoint.
func (b *bind) Send(bufs [][]byte, ep conn.Endpoint) error {
	e, ok := ep.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	b.mu.RLock()
	s := b.sock
	b.mu.RUnlock()
	if s == nil {
		return net.ErrClosed
	}
	return s.send(bufs, e)
}

func (s *socket) send(bufs [][]byte, e *endpoint) error {
	ms := s.msgs.Get().(*[]ipv6.Message)
	defer s.msgs.Put(ms)
	for len(bufs) > 0 {
		gso := s.gso.Load() && !e.single.Load()
		n, used := pack(*ms, bufs, e, gso)
		err := s.write((*ms)[:n])
		for i := range n {
			(*ms)[i].Buffers = nil
		}
		if err != nil {
			// Without trains from now on. What was sent already arrives twice and is
			// dropped as a replay.
			if gso && gsoRefused(err) {
				s.gso.Store(false)
				continue
			}
			if gso && trainTooWide(err) {
				e.single.Store(true) // others may have a wider way
				continue
			}
			if e.src != (source{}) && !e.anySrc.Swap(true) {
				continue // the local address may be gone
			}
			return err
		}
		bufs = bufs[used:]
	}
	return nil
}

func (s *socket) write(ms []ipv6.Message) error {
	for len(ms) > 0 {
		n, err := s.pc.WriteBatch(ms, 0)
		if err != nil {
			return err
		}
		ms = ms[n:]
	}
	return nil
}

// pack fills messages from bufs and returns how many messages it filled and how
// many bufs they hold. With gso, datagrams of one size, the last possibly shorter,
// become one message whose parts stay where they are.
func pack(ms []ipv6.Message, bufs [][]byte, e *endpoint, gso bool) (n, used int) {
	for n < len(ms) && used < len(bufs) {
		size := len(bufs[used])
		end, total := used+1, size
		if gso {
			for end < len(bufs) && end-used < maxSegments && len(bufs[end]) <= size && total+len(bufs[end]) <= maxTrain {
				total += len(bufs[end])
				end++
				if len(bufs[end-1]) < size {
					break
				}
			}
		}
		m := &ms[n]
		m.Buffers = bufs[used:end]
		m.Addr = e.udp
		m.OOB = appendSource(m.OOB[:0], e)
		if end-used > 1 {
			m.OOB = appendSegmentSize(m.OOB, size)
		}
		n++
		used = end
	}
	return n, used
}

// receive fills bufs with datagrams. Only one goroutine calls it.
func (s *socket) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if s.rxMsg == s.rxCount {
		n, err := s.pc.ReadBatch(s.rx, 0)
		if err != nil {
			return 0, err
		}
		s.rxCount, s.rxMsg, s.rxOff = n, 0, 0
	}
	n := 0
	for s.rxMsg < s.rxCount && n < len(bufs) {
		m := &s.rx[s.rxMsg]
		size, src := parseControl(m.OOB[:m.NN])
		if size <= 0 || !s.gro {
			size = m.N
		}
		from, ok := m.Addr.(*net.UDPAddr)
		if !ok {
			s.rxMsg, s.rxOff = s.rxMsg+1, 0
			continue
		}
		ep := s.endpoint(from.AddrPort(), src)
		for s.rxOff < m.N && n < len(bufs) {
			end := min(s.rxOff+size, m.N)
			sizes[n] = copy(bufs[n], m.Buffers[0][s.rxOff:end])
			eps[n] = ep
			s.rxOff = end
			n++
		}
		if s.rxOff >= m.N {
			s.rxMsg, s.rxOff = s.rxMsg+1, 0
		}
	}
	return n, nil
}

func (s *socket) endpoint(at netip.AddrPort, src source) *endpoint {
	k := sender{at: at, src: src}
	if e, ok := s.seen[k]; ok {
		e.anySrc.Store(false) // the peer reaches us there
		return e
	}
	if len(s.seen) >= maxEndpoints {
		clear(s.seen)
	}
	e := newEndpoint(at, src)
	s.seen[k] = e
	return e
}
