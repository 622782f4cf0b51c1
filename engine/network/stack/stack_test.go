// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/engine/network/packet"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	a4 = netip.MustParseAddr("10.0.0.1")
	b4 = netip.MustParseAddr("10.0.0.2")
	a6 = netip.MustParseAddr("fd00::1")
	b6 = netip.MustParseAddr("fd00::2")
)

// newStack makes a stack that the test closes.
func newStack(tb testing.TB, o Options, addrs ...netip.Addr) *Stack {
	tb.Helper()
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	for _, a := range addrs {
		if err := s.AddAddress(a); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// pump carries packets from one stack to another until the first is closed. A
// packet for which drop returns true is lost.
func pump(from, to *Stack, drop func([]byte) bool) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		bufs, sizes := make([][]byte, BatchSize), make([]int, BatchSize)
		for i := range bufs {
			bufs[i] = make([]byte, 2048)
		}
		for {
			n, err := from.ReadBatch(bufs, sizes, 16)
			if err != nil {
				return
			}
			out := make([][]byte, 0, n)
			for i := range n {
				if b := bufs[i][:16+sizes[i]]; drop == nil || !drop(b[16:]) {
					out = append(out, b)
				}
			}
			_, _ = to.WriteBatch(out, 16)
		}
	})
	return &wg
}

// pair makes two connected stacks.
func pair(tb testing.TB, o Options, drop func([]byte) bool) (a, b *Stack) {
	tb.Helper()
	var ab, ba *sync.WaitGroup
	tb.Cleanup(func() { ab.Wait(); ba.Wait() })
	a, b = newStack(tb, o, a4, a6), newStack(tb, o, b4, b6)
	ab, ba = pump(a, b, drop), pump(b, a, drop)
	return a, b
}

func dialContext(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

func TestBulkTransferArrivesIntact(t *testing.T) {
	for _, tt := range []struct {
		name   string
		addr   netip.Addr
		verify bool
	}{{"IPv4", b4, false}, {"IPv6", b6, false}, {"IPv4 with checksums", b4, true}, {"IPv6 with checksums", b6, true}} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t, Options{VerifyChecksums: tt.verify}, nil)
			l, err := b.ListenTCP(netip.AddrPortFrom(tt.addr, 80))
			if err != nil {
				t.Fatal(err)
			}
			sent := make([]byte, 8<<20)
			_, _ = rand.Read(sent)
			got := make(chan []byte, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					got <- nil
					return
				}
				defer c.Close()
				all, _ := io.ReadAll(c)
				got <- all
			}()
			c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(tt.addr, 80))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := c.Write(sent); n != len(sent) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if all := <-got; !bytes.Equal(all, sent) {
				t.Errorf("received %d bytes that differ from the %d sent", len(all), len(sent))
			}
		})
	}
}

func TestNothingListeningIsRefused(t *testing.T) {
	a, _ := pair(t, Options{}, nil)
	for _, to := range []netip.Addr{b4, b6} {
		if _, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(to, 81)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("TCP dial of a closed port of %v: %v, want ECONNREFUSED", to, err)
		}
		u, err := a.DialUDP(netip.AddrPort{}, netip.AddrPortFrom(to, 81))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = u.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := u.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("UDP read after port unreachable from %v: %v, want ECONNREFUSED", to, err)
		}
	}
}

func TestDropIsSilent(t *testing.T) {
	a, _ := pair(t, Options{}, func([]byte) bool { return true })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(b4, 80))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial = %v, want deadline exceeded", err)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial = %v reads as refused", err)
	}
}

func TestResetByPeerIsSeenAsReset(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	l, err := b.ListenTCP(netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.(*Conn).SetLinger(0)
	_ = s.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want ECONNRESET", err)
	}
}

func TestHalfCloseKeepsTheOtherDirection(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	l, err := b.ListenTCP(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	for _, to := range []netip.Addr{b4, b6} { // the zero address takes both families
		c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(to, port))
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if err := c.(*Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); string(got) != "ping" || err != nil {
			t.Errorf("server read %q, %v", got, err)
		}
		if _, err := s.Write([]byte("pong")); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		if got, err := io.ReadAll(c); string(got) != "pong" || err != nil {
			t.Errorf("client read %q, %v", got, err)
		}
		_ = c.Close()
	}
}

func TestDeadlineAndCloseWakeBlockedCalls(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	l, err := b.ListenTCP(netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a later deadline works as the first did
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("read past its deadline = %v, want a time-out", err)
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	started, done := make(chan struct{}), make(chan error, 2)
	go func() {
		close(started)
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	<-started
	_ = c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		t.Errorf("read of a closed connection = %v", err)
	}
	if s, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		defer s.Close()
	}
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	_ = l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept of a closed listener = %v", err)
	}
}

// TestSpoofedCallerReachesForwardedAddress dials from an address nobody owns to
// one nobody owns, as the internet segment does.
func TestForwarderDecidesEveryAddressItDoesNotOwn(t *testing.T) {
	b := newStack(t, Options{Promiscuous: true}, b4, b6)
	ends := pump(b, b, nil) // one segment: every packet comes back to the same stack
	t.Cleanup(func() { _ = b.Close(); ends.Wait() })
	b.ForwardTCP(func(r TCPRequest) {
		switch r.Dst().Port() {
		case 1:
			r.Refuse()
		case 2:
			r.Drop()
		default:
			c, err := r.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, r.Src().Addr().String()+" "+r.Dst().String()+" "+c.LocalAddr().String())
		}
	})
	for _, tt := range []struct{ from, to, own netip.Addr }{
		{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("203.0.113.9"), b4},
		{netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8:1::9"), b6},
	} {
		src := netip.AddrPortFrom(tt.from, 0)
		c, err := b.DialTCP(dialContext(t), src, netip.AddrPortFrom(tt.to, 443))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		want := tt.from.String() + " " + netip.AddrPortFrom(tt.to, 443).String() + " " + netip.AddrPortFrom(tt.to, 443).String()
		if string(got) != want || err != nil {
			t.Errorf("forwarded conversation = %q, %v; want %q", got, err, want)
		}
		if from := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); from != tt.from {
			t.Errorf("dialled from %v, want %v", from, tt.from)
		}
		_ = c.Close()
		if _, err := b.DialTCP(dialContext(t), src, netip.AddrPortFrom(tt.to, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused request = %v, want ECONNREFUSED", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := b.DialTCP(ctx, src, netip.AddrPortFrom(tt.to, 2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dropped request = %v, want deadline exceeded", err)
		}
		cancel()
		// An owned address is not the forwarder's business.
		if _, err := b.DialTCP(dialContext(t), src, netip.AddrPortFrom(tt.own, 443)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("closed port of an owned address = %v, want ECONNREFUSED", err)
		}
	}
}

func TestForwardedUDPKeepsEveryDatagramInOrder(t *testing.T) {
	b := newStack(t, Options{Promiscuous: true}, b4)
	ends := pump(b, b, nil)
	t.Cleanup(func() { _ = b.Close(); ends.Wait() })
	decide := make(chan struct{})
	b.ForwardUDP(func(r UDPRequest) {
		if r.Dst().Port() == 1 {
			r.Refuse()
			return
		}
		<-decide
		c, err := r.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 100)
		for range 3 {
			n, err := c.Read(buf)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.Write(append([]byte("re:"), buf[:n]...))
		}
	})
	from := netip.MustParseAddrPort("192.0.2.7:5353")
	u, err := b.DialUDP(from, netip.MustParseAddrPort("203.0.113.9:53"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"1", "2", "3"} {
		if _, err := u.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	close(decide)
	_ = u.SetReadDeadline(time.Now().Add(5 * time.Second))
	for _, want := range []string{"re:1", "re:2", "re:3"} {
		buf := make([]byte, 100)
		n, err := u.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("reply %q, %v; want %q", buf[:n], err, want)
		}
	}
	r, err := b.DialUDP(netip.MustParseAddrPort("192.0.2.7:0"), netip.MustParseAddrPort("203.0.113.9:1"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Write([]byte("x"))
	_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused flow reads %v, want ECONNREFUSED", err)
	}
}

func TestEchoIsAnsweredForOwnedAddressesOnly(t *testing.T) {
	s := newStack(t, Options{Promiscuous: true}, a4, a6)
	bufs, sizes := [][]byte{make([]byte, 2048)}, []int{0}
	for _, tt := range []struct{ from, own, other netip.Addr }{
		{b4, a4, netip.MustParseAddr("10.0.0.9")},
		{b6, a6, netip.MustParseAddr("fd00::9")},
	} {
		// The echo to the foreign address comes first: were it answered, its answer
		// would be the first packet out.
		s.Deliver([][]byte{
			packet.AppendEcho(nil, tt.from, tt.other, 7, 1, []byte("no")),
			packet.AppendEcho(nil, tt.from, tt.own, 8, 1, []byte("payload")),
		})
		if _, err := s.ReadBatch(bufs, sizes, 0); err != nil {
			t.Fatal(err)
		}
		got := bufs[0][:sizes[0]]
		i, err := packet.Parse(got)
		if err != nil {
			t.Fatal(err)
		}
		if i.Src.Addr() != tt.own || i.Dst.Addr() != tt.from || i.Src.Port() != 8 || !i.Echo() || i.EchoRequest() || !packet.ChecksumOK(got, &i) {
			t.Errorf("answer is %+v, want the echo reply of %v", i, tt.own)
		}
	}
}

func TestAddressesComeAndGo(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	extra := netip.MustParseAddr("10.0.0.77")
	if err := b.AddAddress(extra); err != nil {
		t.Fatal(err)
	}
	if err := b.AddAddress(extra); err != nil {
		t.Errorf("adding twice: %v", err)
	}
	if _, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(extra, 80)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial of the added address = %v, want ECONNREFUSED", err)
	}
	if err := b.RemoveAddress(extra); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(extra, 80)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial of the removed address = %v, want deadline exceeded", err)
	}
	if err := b.AddAddress(netip.MustParseAddr("224.0.0.1")); err == nil {
		t.Error("a multicast address was added")
	}
}

func TestFullQueueDropsInsteadOfGrowing(t *testing.T) {
	s := newStack(t, Options{Queue: 4}, a4)
	p := packet.AppendEcho(nil, b4, a4, 1, 1, nil)
	if n := s.Inject([][]byte{p, p, p, p, p, p}, 0); n != 4 {
		t.Errorf("Inject took %d packets, want 4", n)
	}
	if s.Dropped() == 0 {
		t.Error("no drop counted")
	}
	bufs, sizes := make([][]byte, 8), make([]int, 8)
	for i := range bufs {
		bufs[i] = make([]byte, 100)
	}
	bufs[1] = make([]byte, 10) // too small: that packet is lost, the others are not
	n, err := s.ReadBatch(bufs, sizes, 4)
	if n != 4 || err != nil || sizes[0] != len(p) || sizes[1] != 0 || !bytes.Equal(bufs[3][4:4+sizes[3]], p) {
		t.Errorf("ReadBatch = %d, %v, sizes %v", n, err, sizes)
	}
}

func TestCloseResetsConnectionsAndEndsReadBatch(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	l, err := b.ListenTCP(netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.DialTCP(dialContext(t), netip.AddrPort{}, netip.AddrPortFrom(b4, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of a closed stack still reads")
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("peer reads %v, want ECONNRESET", err)
	}
	if _, err := b.ListenTCP(netip.AddrPortFrom(b4, 81)); err == nil {
		t.Error("a closed stack listens")
	}
	if _, err := b.WriteBatch(nil, 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("WriteBatch on a closed stack = %v", err)
	}
}
