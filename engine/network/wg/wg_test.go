// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/engine/network/stack"

	"go.uber.org/goleak"
	"golang.org/x/net/ipv6"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a device on a stack of its own.
type node struct {
	*Device
	st   *stack.Stack
	v4   netip.Addr
	v6   netip.Addr
	hear string // where its socket is
}

func newNode(tb testing.TB, listen string, host byte) *node {
	tb.Helper()
	st, err := stack.New(stack.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	k, err := GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	var at netip.AddrPort
	if listen != "" {
		at = netip.MustParseAddrPort(listen)
	}
	d, err := New(Options{PrivateKey: k, Listen: at, Carrier: st})
	if err != nil {
		tb.Fatal(err)
	}
	n := &node{
		Device: d, st: st, v4: netip.AddrFrom4([4]byte{10, 0, 0, host}),
		v6: netip.AddrFrom16([16]byte{0: 0xfd, 15: host}),
	}
	n.hear = d.Addr().String()
	if d.Addr().Addr().IsUnspecified() {
		n.hear = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.Addr().Port()).String()
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	for _, a := range []netip.Addr{n.v4, n.v6} {
		if err := st.AddAddress(a); err != nil {
			tb.Fatal(err)
		}
	}
	return n
}

// meet makes two nodes each other's peers; only a knows where b is.
func meet(tb testing.TB, a, b *node) {
	tb.Helper()
	for _, x := range []struct {
		n, peer *node
		at      string
	}{{a, b, b.hear}, {b, a, ""}} {
		if err := x.n.SetPeer(Peer{PublicKey: x.peer.PublicKey(), Endpoint: x.at, AllowedIPs: []netip.Prefix{
			netip.PrefixFrom(x.peer.v4, 32), netip.PrefixFrom(x.peer.v6, 128),
		}}); err != nil {
			tb.Fatal(err)
		}
	}
}

func dial(tb testing.TB, n *node, to netip.Addr, port uint16) net.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	c, err := n.st.DialTCP(ctx, netip.AddrPort{}, netip.AddrPortFrom(to, port))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestTunnelCarriesBothFamiliesIntact(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", ""} {
		t.Run("socket at "+listen, func(t *testing.T) {
			a, b := newNode(t, strings.Replace(listen, "0.0.0.0", "127.0.0.1", 1), 1), newNode(t, listen, 2)
			meet(t, a, b)
			l, err := b.st.ListenTCP(netip.AddrPortFrom(netip.Addr{}, 80))
			if err != nil {
				t.Fatal(err)
			}
			sent := make([]byte, 4<<20)
			_, _ = rand.Read(sent)
			for _, to := range []netip.Addr{b.v4, b.v6} {
				c := dial(t, a, to, 80)
				s, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				errs := make(chan error, 1)
				go func() {
					_, err := c.Write(sent)
					_ = c.Close()
					errs <- err
				}()
				got, err := io.ReadAll(s)
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("to %v: %d of %d bytes arrived intact, %v", to, len(got), len(sent), err)
				}
				if err := <-errs; err != nil {
					t.Error(err)
				}
				_ = s.Close()
			}
			st, ok := a.Status(b.PublicKey())
			if !ok || st.LastHandshake.IsZero() || st.Tx < 8<<20 || st.Endpoint.String() != b.hear {
				t.Errorf("status = %+v, %v", st, ok)
			}
			if p, err := b.Peers(); err != nil || len(p) != 1 || p[0].Rx < 8<<20 {
				t.Errorf("peers = %+v, %v", p, err)
			}
		})
	}
}

func TestOnlyAllowedAddressesPass(t *testing.T) {
	a, b := newNode(t, "127.0.0.1:0", 1), newNode(t, "127.0.0.1:0", 2)
	meet(t, a, b)
	other := netip.MustParseAddr("10.9.9.9")
	if err := a.st.AddAddress(other); err != nil {
		t.Fatal(err)
	}
	from := netip.AddrPortFrom(other, 0)
	try := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		c, err := a.st.DialTCP(ctx, from, netip.AddrPortFrom(b.v4, 80))
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	l, err := b.st.ListenTCP(netip.AddrPortFrom(b.v4, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = dial(t, a, b.v4, 80).Close() // the tunnel is up
	if err := try(); err == nil {
		t.Fatal("a source that is not allowed connected")
	}
	peer := Peer{PublicKey: a.PublicKey(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(a.v4, 32), netip.PrefixFrom(other, 32)}}
	if err := b.SetPeer(peer); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Fatalf("an allowed source did not connect: %v", err)
	}
	peer.AllowedIPs = peer.AllowedIPs[:1]
	if err := b.SetPeer(peer); err != nil {
		t.Fatal(err)
	}
	if err := try(); err == nil {
		t.Fatal("a source that is no longer allowed connected")
	}
	_ = dial(t, a, b.v4, 80).Close() // the others were not touched
	if err := b.RemovePeer(a.PublicKey()); err != nil {
		t.Fatal(err)
	}
	from = netip.AddrPort{}
	if err := try(); err == nil {
		t.Fatal("a removed peer connected")
	}
	if _, ok := b.Status(a.PublicKey()); ok {
		t.Error("a removed peer has a status")
	}
}

func TestPrefixMovesToThePeerThatWasSetLast(t *testing.T) {
	d := newNode(t, "127.0.0.1:0", 1)
	keys := make([]Key, 2)
	for i := range keys {
		k, _ := GenerateKey()
		keys[i], _ = k.Public()
	}
	p := netip.MustParsePrefix("10.1.0.0/16")
	owner := func() (out []int) {
		text, err := d.dev.IpcGet()
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			if _, rest, ok := strings.Cut(text, "public_key="+k.Hex()); ok {
				own, _, _ := strings.Cut(rest, "public_key=")
				if strings.Contains(own, "allowed_ip="+p.String()) {
					out = append(out, i)
				}
			}
		}
		return out
	}
	for _, i := range []int{0, 1, 0, 0, 1} {
		if err := d.SetPeer(Peer{PublicKey: keys[i], AllowedIPs: []netip.Prefix{p}}); err != nil {
			t.Fatal(err)
		}
		if got := owner(); len(got) != 1 || got[0] != i {
			t.Fatalf("after setting peer %d the prefix belongs to %v", i, got)
		}
	}
}

func TestPortInUseIsReported(t *testing.T) {
	d := newNode(t, "127.0.0.1:0", 1)
	st, err := stack.New(stack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	k, _ := GenerateKey()
	if _, err := New(Options{PrivateKey: k, Listen: d.Addr(), Carrier: st}); err == nil || !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
		t.Errorf("second device on %v: %v", d.Addr(), err)
	}
	if err := d.SetPeer(Peer{PublicKey: d.PublicKey()}); err == nil {
		t.Error("a device became its own peer")
	}
}

// TestTrainsAreCutWhereTheyMust checks the grouping of datagrams for the kernel.
func TestTrainsAreCutWhereTheyMust(t *testing.T) {
	e := newEndpoint(netip.MustParseAddrPort("127.0.0.1:1"), source{})
	for _, tt := range []struct {
		name  string
		sizes []int
		gso   bool
		want  []int // datagrams in each message
	}{
		{"equal sizes travel together", []int{1000, 1000, 1000}, true, []int{3}},
		{"a shorter one ends a train", []int{1000, 500, 500, 500}, true, []int{2, 2}},
		{"a longer one begins a train", []int{500, 1000, 1000}, true, []int{1, 2}},
		{"without offload each is alone", []int{1000, 1000}, false, []int{1, 1}},
		{"at most 64", sizes(70, 100), true, []int{64, 6}},
		{"at most the largest datagram", sizes(50, 1400), true, []int{46, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bufs := make([][]byte, len(tt.sizes))
			for i, n := range tt.sizes {
				bufs[i] = make([]byte, n)
			}
			s, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.c.Close()
			ms := s.msgs.Get().(*[]ipv6.Message)
			n, used := pack(*ms, bufs, e, tt.gso)
			var got []int
			for _, m := range (*ms)[:n] {
				got = append(got, len(m.Buffers))
			}
			if used != len(bufs) || len(got) != len(tt.want) {
				t.Fatalf("pack = %v, used %d; want %v", got, used, tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("pack = %v, want %v", got, tt.want)
				}
			}
		})
	}
}

func sizes(n, size int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = size
	}
	return out
}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkRequest sends a small request and reads a 1 KiB answer on 64
// connections: over the tunnel (both ends in this process, so the CPU is that of
// two devices and two stacks) and over loopback TCP.
func BenchmarkRequest(b *testing.B) {
	b.Run("tunnel", func(b *testing.B) {
		x, y := newNode(b, "127.0.0.1:0", 1), newNode(b, "127.0.0.1:0", 2)
		meet(b, x, y)
		l, err := y.st.ListenTCP(netip.AddrPortFrom(y.v4, 80))
		if err != nil {
			b.Fatal(err)
		}
		requests(b, l, func() net.Conn { return dial(b, x, y.v4, 80) })
	})
	b.Run("loopback", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		requests(b, l, func() net.Conn {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			return c
		})
	})
}

func requests(b *testing.B, l net.Listener, dial func() net.Conn) {
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, out := make([]byte, 200), make([]byte, 1024)
				for {
					if _, err := io.ReadFull(c, in); err != nil {
						return
					}
					if _, err := c.Write(out); err != nil {
						return
					}
				}
			}()
		}
	}()
	const conns = 64
	cs := make([]net.Conn, conns)
	for i := range cs {
		cs[i] = dial()
		defer cs[i].Close()
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, conns)
	b.ResetTimer()
	at := cpu()
	for _, c := range cs {
		go func() {
			out, in := make([]byte, 200), make([]byte, 1024)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(out); err != nil {
					done <- err
					return
				}
				if _, err := io.ReadFull(c, in); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cs {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu()-at).Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkBulk streams through one connection.
func BenchmarkBulk(b *testing.B) {
	x, y := newNode(b, "127.0.0.1:0", 1), newNode(b, "127.0.0.1:0", 2)
	meet(b, x, y)
	l, err := y.st.ListenTCP(netip.AddrPortFrom(y.v4, 80))
	if err != nil {
		b.Fatal(err)
	}
	c := dial(b, x, y.v4, 80)
	s, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, s)
		done <- n
	}()
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	at := cpu()
	for range b.N {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
	if n := <-done; n != int64(b.N)*int64(len(chunk)) {
		b.Fatalf("%d bytes arrived", n)
	}
	_ = s.Close()
	b.ReportMetric(float64(b.N)*float64(len(chunk))*8/1e9/b.Elapsed().Seconds(), "Gbit/s")
	b.ReportMetric((cpu()-at).Seconds()/b.Elapsed().Seconds(), "cores")
}
