// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/engine/network/packet"
)

// closes fails the test if Close does not return soon.
func closes(t *testing.T, s *Stack) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Close hangs")
	}
}

func TestCloseDoesNotWaitForASilentPeer(t *testing.T) {
	var silent atomic.Bool
	a, b := pair(t, Options{}, func([]byte) bool { return silent.Load() })
	l, err := b.ListenTCP(netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, write := range []bool{true, false} {
		silent.Store(false)
		c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(b4, 80))
		if err != nil {
			t.Fatal(err)
		}
		silent.Store(true)
		if write {
			if _, err := c.Write(make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Close() // FIN_WAIT1: the peer never answers
	}
	closes(t, a)
	closes(t, b)
}

func TestCloseEndsForwardedHandshakes(t *testing.T) {
	s := newStack(t, Options{Promiscuous: true}, a4)
	asked, ended := make(chan struct{}), make(chan error, 1)
	s.ForwardTCP(func(r TCPRequest) {
		close(asked)
		_, err := r.Accept() // the caller never completes it
		ended <- err
	})
	s.Deliver([][]byte{syn(t, 1, netip.MustParseAddrPort("203.0.113.9:80"))})
	<-asked
	closes(t, s)
	if err := <-ended; err == nil {
		t.Error("a handshake without its last packet was accepted")
	}
}

func TestCloseEndsHandshakesOfAnOffer(t *testing.T) {
	for _, stack := range []bool{false, true} {
		s := newStack(t, Options{}, a4)
		asked, ended := make(chan struct{}), make(chan error, 1)
		o, err := s.OfferTCP(0, func(r TCPRequest) {
			close(asked)
			_, err := r.Accept()
			ended <- err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Deliver([][]byte{syn(t, 1, netip.AddrPortFrom(a4, o.Port()))})
		<-asked
		if stack {
			closes(t, s)
		}
		done := make(chan error, 1)
		go func() { done <- o.Close() }()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("Close hangs")
		}
		if err := <-ended; err == nil {
			t.Error("a handshake without its last packet was accepted")
		}
		closes(t, s)
	}
}

func TestUndecidedCallersOfAnOfferAreBounded(t *testing.T) {
	s := newStack(t, Options{MaxInFlight: 3}, a4)
	release, arrived := make(chan struct{}), make(chan netip.AddrPort, 10)
	o, err := s.OfferTCP(80, func(r TCPRequest) {
		arrived <- r.Src()
		<-release
		r.Drop()
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint16(6) {
		// A caller that asks again is the same caller.
		one := syn(t, n+1, netip.AddrPortFrom(a4, 80))
		s.Deliver([][]byte{one})
		s.Deliver([][]byte{one})
	}
	for range 3 {
		<-arrived
	}
	close(release)
	if err := o.Close(); err != nil { // waits for the handlers
		t.Error(err)
	}
	if len(arrived) > 0 {
		t.Errorf("%d callers more than three were decided about", len(arrived))
	}
	closes(t, s)
}

// syn is a SYN from a port of b4.
func syn(t *testing.T, from uint16, to netip.AddrPort) []byte {
	p := packet.AppendUDP(nil, netip.AddrPortFrom(b4, from), to, make([]byte, 12))
	p[9] = byte(packet.TCP) // with the ports of the datagram
	copy(p[24:], []byte{0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, packet.SYN, 255, 255, 0, 0, 0, 0})
	return fixed(t, p)
}

// fixed repairs the checksums of p.
func fixed(t *testing.T, p []byte) []byte {
	t.Helper()
	i, err := packet.Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	p[10], p[11] = 0, 0
	var sum uint32
	for n := 0; n < 20; n += 2 {
		sum += uint32(p[n])<<8 | uint32(p[n+1])
	}
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	p[10], p[11] = byte(^sum>>8), byte(^sum)
	packet.Checksum(p, &i)
	return p
}

func TestUndecidedFlowsAreBounded(t *testing.T) {
	s := newStack(t, Options{Promiscuous: true, MaxInFlight: 3}, a4)
	release := make(chan struct{})
	var asked atomic.Int32
	arrived := make(chan struct{}, 10)
	s.ForwardUDP(func(r UDPRequest) {
		asked.Add(1)
		arrived <- struct{}{}
		<-release
	})
	to := netip.MustParseAddrPort("203.0.113.9:53")
	send := func(n uint16) {
		s.Deliver([][]byte{packet.AppendUDP(nil, netip.AddrPortFrom(b4, n), to, nil)})
	}
	for n := range uint16(6) {
		send(n + 1)
	}
	for range 3 {
		<-arrived
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("%d flows were asked about, want 3", n)
	}
	close(release) // dropping them makes room again
	deadline := time.After(5 * time.Second)
	for n := uint16(100); asked.Load() < 4; n++ {
		send(n)
		select {
		case <-arrived:
		case <-deadline:
			t.Fatal("no room after the handlers returned")
		default:
		}
	}
}
