// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// An Offer is a TCP port at the stack's own addresses that decides about every
// caller before its handshake is completed. A listener could not say no.
type Offer struct {
	s    *Stack
	port uint16
	ep   tcpip.Endpoint // keeps the port from others and never listens
	f    *tcp.Forwarder

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup // Add only under mu while not closed
}

// OfferTCP hands the SYNs to a port of the owned addresses to handle; port zero
// picks one. Every request runs on its own goroutine; beyond Options.MaxInFlight
// undecided ones further SYNs are dropped. The handler may keep the connection
// that it accepts.
func (s *Stack) OfferTCP(port uint16, handle func(TCPRequest)) (*Offer, error) {
	fail := func(err error) (*Offer, error) {
		return nil, opError("listen", "tcp", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.Addr{}, port)), err)
	}
	// IPv6 takes both families.
	ep, err := s.st.NewEndpoint(tcp.ProtocolNumber, ipv6.ProtocolNumber, new(waiter.Queue))
	if err != nil {
		return fail(errno(err))
	}
	if err := ep.Bind(tcpip.FullAddress{NIC: nicID, Port: port}); err != nil {
		ep.Close()
		return fail(errno(err))
	}
	at, err := ep.GetLocalAddress()
	if err != nil {
		ep.Close()
		return fail(errno(err))
	}
	o := &Offer{s: s, port: at.Port, ep: ep}
	o.f = s.newForwarder(s.opts.MaxInFlight, o.begin, o.done, handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ep.Close()
		return fail(errClosed)
	}
	s.editOffers(func(m map[uint16]*Offer) { m[o.port] = o })
	return o, nil
}

// editOffers changes the offers. The caller holds mu.
func (s *Stack) editOffers(edit func(map[uint16]*Offer)) {
	next := maps.Clone(*s.offers.Load())
	edit(next)
	s.offers.Store(&next)
}

// Port returns the port that is offered.
func (o *Offer) Port() uint16 { return o.port }

// begin registers a handler that Close waits for, and the stack's Close too.
func (o *Offer) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.s.begin() {
		return false
	}
	o.handlers.Add(1)
	return true
}

func (o *Offer) done() {
	o.handlers.Done()
	o.s.tasks.Done()
}

// stop ends new requests.
func (o *Offer) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		o.ep.Close()
	}
}

// Close closes the port, ends the handshakes that are under way and waits for the
// handlers. Connections that were accepted stay.
func (o *Offer) Close() error {
	o.s.mu.Lock()
	o.s.editOffers(func(m map[uint16]*Offer) {
		if m[o.port] == o {
			delete(m, o.port)
		}
	})
	o.s.mu.Unlock()
	o.stop()
	done := make(chan struct{})
	go func() {
		o.handlers.Wait()
		close(done)
	}()
	again := time.NewTicker(abortAgain)
	defer again.Stop()
	for {
		// A handshake would wait a minute for a caller that is gone.
		o.abort()
		select {
		case <-done:
			return nil
		case <-again.C:
		}
	}
}

// abort ends the handshakes at the port.
func (o *Offer) abort() {
	for _, e := range o.s.st.RegisteredEndpoints() {
		ep, ok := e.(tcpip.Endpoint)
		if !ok || tcp.EndpointState(ep.State()) != tcp.StateSynRecv {
			continue
		}
		if at, err := ep.GetLocalAddress(); err == nil && at.Port == o.port {
			e.Abort()
		}
	}
}
