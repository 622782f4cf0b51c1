// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stack is a userspace TCP/IP stack. Its packet side reads and writes
// batches of raw IP packets, so that it can sit directly under a WireGuard device
// or under a hub that routes and filters; its socket side offers the connections,
// listeners and packet connections of package net.
package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	// BatchSize is the largest number of packets that ReadBatch returns and the
	// number that callers do well to read and write at once.
	BatchSize = 128
	// DefaultMTU is WireGuard's: 1500 less 80 bytes for IPv6, UDP and its header.
	DefaultMTU = 1420

	minMTU = 1280 // RFC 8200 section 5
	maxMTU = 65535

	nicID = 1

	defaultQueue = 4096
	// defaultBuffer and maxBuffer bound what one connection may hold. maxBuffer's
	// worth of segments fits into defaultQueue, so one flow cannot overflow it.
	defaultBuffer = 1 << 20
	maxBuffer     = 4 << 20
	minBuffer     = 4 << 10

	defaultInFlight = 1024

	abortAgain = 20 * time.Millisecond

	// timeWait is how long the port of a closed connection is kept from others.
	// The usual minute would bound a Gateway to 800 connections a second, and the
	// hubs forget a closed connection after as long.
	timeWait = 10 * time.Second
)

// Options configures a Stack.
type Options struct {
	// MTU is the largest IP packet the stack sends. Zero means DefaultMTU.
	MTU int
	// Queue bounds the packets that wait for ReadBatch. What does not fit is
	// dropped, as a router would. Zero means 4096.
	Queue int
	// Promiscuous makes the stack accept packets to addresses it does not own (for
	// ForwardTCP and ForwardUDP) and send from them (DialTCP with any local
	// address). A listener on an unspecified address then also takes packets to
	// addresses that the stack does not own: listen on owned ones.
	Promiscuous bool
	// VerifyChecksums makes the stack verify the transport checksums of packets it
	// is given. It is off because a tunnel has authenticated them.
	VerifyChecksums bool
	// MaxBuffer bounds each direction of one TCP connection. Zero means 4 MiB.
	MaxBuffer int
	// MaxInFlight bounds the forwarded TCP handshakes and, separately, the
	// forwarded UDP flows. Zero means 1024.
	MaxInFlight int
}

// A Stack is a TCP/IP stack. Its methods may be called concurrently.
type Stack struct {
	opts Options
	st   *gstack.Stack
	link *link

	owned atomic.Pointer[map[netip.Addr]struct{}] // copied on write under mu

	tcpForward atomic.Pointer[tcpForwarder]
	udpForward atomic.Pointer[udpForwarder]
	offers     atomic.Pointer[map[uint16]*Offer] // by port; copied on write under mu

	mu      sync.Mutex
	closed  bool
	sockets map[closer]struct{} // listeners and UDP sockets, which Abort does not wake
	tasks   sync.WaitGroup      // forwarder handlers; Add only under mu while not closed
	done    chan struct{}
}

type closer interface{ Close() error }

// errClosed is what sockets of a closed stack return when they are created.
var errClosed = errors.New("stack: closed")

// New makes a stack without an address.
func New(o Options) (*Stack, error) {
	if o.MTU == 0 {
		o.MTU = DefaultMTU
	}
	if o.MTU < minMTU || o.MTU > maxMTU {
		return nil, fmt.Errorf("stack: MTU %d is not within %d..%d", o.MTU, minMTU, maxMTU)
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.MaxBuffer <= 0 {
		o.MaxBuffer = maxBuffer
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = defaultInFlight
	}
	s := &Stack{opts: o, sockets: map[closer]struct{}{}, done: make(chan struct{})}
	s.owned.Store(&map[netip.Addr]struct{}{})
	s.offers.Store(&map[uint16]*Offer{})
	s.st = gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		// HandleLocal stays false: a packet from one owned address to another
		// leaves by ReadBatch too, so nothing gets round the packet filter.
	})
	s.link = newLink(s, o)
	if err := s.configure(); err != nil {
		s.st.Destroy()
		return nil, err
	}
	return s, nil
}

func (s *Stack) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	// RACK costs more than it brings on a link that rarely reorders.
	recovery := tcpip.TCPRecovery(0)
	congestion := tcpip.CongestionControlOption("cubic")
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	buffer := min(defaultBuffer, s.opts.MaxBuffer)
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: buffer, Max: s.opts.MaxBuffer}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: buffer, Max: s.opts.MaxBuffer}
	closed := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &congestion, &moderate, &rcv, &snd, &closed} {
		if err := s.st.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("stack: set TCP option %T: %w", o, errno(err))
		}
	}
	if err := s.st.CreateNIC(nicID, s.link); err != nil {
		return fmt.Errorf("stack: create interface: %w", errno(err))
	}
	if s.opts.Promiscuous {
		if err := s.st.SetPromiscuousMode(nicID, true); err != nil {
			return fmt.Errorf("stack: set promiscuous mode: %w", errno(err))
		}
		if err := s.st.SetSpoofing(nicID, true); err != nil {
			return fmt.Errorf("stack: allow any source address: %w", errno(err))
		}
	}
	if err := s.st.SetPortRange(16384, 65535); err != nil {
		return fmt.Errorf("stack: set port range: %w", errno(err))
	}
	s.st.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	s.st.SetTransportProtocolHandler(tcp.ProtocolNumber, s.handleTCP)
	s.st.SetTransportProtocolHandler(udp.ProtocolNumber, s.handleUDP)
	return nil
}

// MTU returns the largest packet the stack sends.
func (s *Stack) MTU() int { return s.opts.MTU }

// AddAddress makes the stack own a. Adding an owned address does nothing.
func (s *Stack) AddAddress(a netip.Addr) error {
	a = a.Unmap()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.Owns(a) {
		return nil
	}
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return fmt.Errorf("stack: add address: %v is not a unicast address", a)
	}
	pa := tcpip.ProtocolAddress{Protocol: netProto(a), AddressWithPrefix: address(a).WithPrefix()}
	if err := s.st.AddProtocolAddress(nicID, pa, gstack.AddressProperties{}); err != nil {
		// In promiscuous mode an address in use as a spoofed source is there already
		// and becomes permanent; any other error is one.
		return fmt.Errorf("stack: add address %v: %w", a, errno(err))
	}
	s.editOwned(func(m map[netip.Addr]struct{}) { m[a] = struct{}{} })
	return nil
}

// RemoveAddress makes the stack give up a. Its connections stay until they time
// out, its listeners hear nothing more. Removing an address that is not owned does
// nothing.
func (s *Stack) RemoveAddress(a netip.Addr) error {
	a = a.Unmap()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Owns(a) || s.closed {
		return nil
	}
	if err := s.st.RemoveAddress(nicID, address(a)); err != nil {
		return fmt.Errorf("stack: remove address %v: %w", a, errno(err))
	}
	s.editOwned(func(m map[netip.Addr]struct{}) { delete(m, a) })
	return nil
}

// Owns reports whether the stack owns a.
func (s *Stack) Owns(a netip.Addr) bool {
	_, ok := (*s.owned.Load())[a]
	return ok
}

func (s *Stack) editOwned(edit func(map[netip.Addr]struct{})) {
	old := *s.owned.Load()
	next := make(map[netip.Addr]struct{}, len(old)+1)
	for a := range old {
		next[a] = struct{}{}
	}
	edit(next)
	s.owned.Store(&next)
}

// begin registers a task that Close waits for. It reports false once closed.
func (s *Stack) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tasks.Add(1)
	return true
}

// track registers a socket that Close closes. It reports false once closed.
func (s *Stack) track(c closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sockets[c] = struct{}{}
	return true
}

func (s *Stack) untrack(c closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, c)
}

// Close resets every connection, closes every socket, makes ReadBatch return
// net.ErrClosed and waits until all of the stack's goroutines have ended.
func (s *Stack) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	open := make([]closer, 0, len(s.sockets))
	for c := range s.sockets {
		open = append(open, c)
	}
	s.mu.Unlock()
	var errs []error
	for _, c := range open {
		errs = append(errs, c.Close())
	}
	for _, o := range *s.offers.Load() {
		o.stop()
	}
	if f := s.udpForward.Load(); f != nil {
		f.close()
	}
	s.st.Close()
	s.finish()
	s.st.Wait()
	s.link.close()
	close(s.done)
	return errors.Join(errs...)
}

// finish waits for the forwarders' handlers. One of them may have begun a handshake
// just after everything was aborted, and would then wait a minute for its caller.
func (s *Stack) finish() {
	done := make(chan struct{})
	go func() {
		s.tasks.Wait()
		close(done)
	}()
	again := time.NewTicker(abortAgain)
	defer again.Stop()
	for {
		select {
		case <-done:
			return
		case <-again.C:
			for _, e := range s.st.RegisteredEndpoints() {
				e.Abort()
			}
		}
	}
}

func address(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func fromAddress(a tcpip.Address) netip.Addr {
	switch a.Len() {
	case 4:
		return netip.AddrFrom4(a.As4())
	case 16:
		return netip.AddrFrom16(a.As16())
	}
	return netip.Addr{}
}

func netProto(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// full converts an address. An unspecified address becomes the empty one, which
// is how the stack spells "any".
func full(a netip.AddrPort) tcpip.FullAddress {
	f := tcpip.FullAddress{NIC: nicID, Port: a.Port()}
	if ip := a.Addr().Unmap(); ip.IsValid() && !ip.IsUnspecified() {
		f.Addr = address(ip)
	}
	return f
}

func fromFull(f tcpip.FullAddress) netip.AddrPort {
	return netip.AddrPortFrom(fromAddress(f.Addr).Unmap(), f.Port)
}
