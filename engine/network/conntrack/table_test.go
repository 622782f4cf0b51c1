// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package conntrack_test

import (
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
)

// clock is a time that tests move by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func tuple(port uint16) packet.Tuple {
	return packet.Tuple{
		Proto: packet.TCP,
		Src:   netip.AddrPortFrom(netip.MustParseAddr("10.0.0.4"), port),
		Dst:   netip.MustParseAddrPort("10.0.1.4:443"),
	}
}

func info(t packet.Tuple, flags uint8) *packet.Info { return &packet.Info{Tuple: t, TCPFlags: flags} }

// open adds both directions of a flow.
func open(t *testing.T, tab *conntrack.Table[string], k packet.Tuple) *conntrack.Flow {
	t.Helper()
	f := tab.NewFlow(k.Proto, nil)
	if !tab.Add(k, &conntrack.Entry[string]{Flow: f, Action: "to"}) ||
		!tab.Add(k.Reverse(), &conntrack.Entry[string]{Flow: f, Reply: true, Action: "back"}) {
		t.Fatal("the table took no flow")
	}
	return f
}

func TestBothDirectionsAreFound(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1000)
	open(t, tab, k)
	if e, ok := tab.Get(info(k, packet.ACK)); !ok || e.Action != "to" {
		t.Fatalf("forward: %v, %v", e, ok)
	}
	if e, ok := tab.Get(info(k.Reverse(), packet.ACK)); !ok || e.Action != "back" {
		t.Fatalf("reply: %v, %v", e, ok)
	}
	if _, ok := tab.Get(info(tuple(1001), packet.ACK)); ok {
		t.Fatal("another flow was found")
	}
}

func TestFlowsExpireByTheirState(t *testing.T) {
	k := tuple(1000)
	for _, c := range []struct {
		name    string
		packets []*packet.Info
		lives   time.Duration
	}{
		{"unanswered handshake", nil, 60 * time.Second},
		{"established", []*packet.Info{info(k.Reverse(), packet.SYN|packet.ACK)}, 350 * time.Second},
		{"reset", []*packet.Info{info(k.Reverse(), packet.RST)}, 10 * time.Second},
		{"closed by one side", []*packet.Info{info(k.Reverse(), packet.ACK), info(k, packet.FIN)}, 350 * time.Second},
		{"closed by both", []*packet.Info{info(k, packet.FIN), info(k.Reverse(), packet.FIN)}, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := &clock{time.Unix(0, 0)}
			tab := conntrack.New[string](100, cl.now)
			open(t, tab, k)
			for _, p := range c.packets {
				if _, ok := tab.Get(p); !ok {
					t.Fatal("a packet of the flow was not found")
				}
			}
			cl.t = cl.t.Add(c.lives)
			if _, ok := tab.Peek(k); !ok {
				t.Fatalf("gone before %v", c.lives)
			}
			cl.t = cl.t.Add(time.Nanosecond)
			if _, ok := tab.Peek(k); ok {
				t.Fatalf("still there after %v", c.lives)
			}
			if n := tab.Sweep(); n != 2 || tab.Len() != 0 {
				t.Fatalf("swept %d, %d left", n, tab.Len())
			}
		})
	}
}

func TestClosedConnectionIsJudgedAnewWhenReopened(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1000)
	open(t, tab, k)
	tab.Get(info(k, packet.RST))
	if _, ok := tab.Get(info(k, packet.SYN)); ok {
		t.Fatal("a SYN after a reset was taken for the old flow")
	}
}

func TestFullTableTakesNothingMore(t *testing.T) {
	cl := &clock{time.Unix(0, 0)}
	tab := conntrack.New[string](4, cl.now)
	open(t, tab, tuple(1))
	open(t, tab, tuple(2))
	f := tab.NewFlow(packet.TCP, nil)
	if tab.Add(tuple(3), &conntrack.Entry[string]{Flow: f}) {
		t.Fatal("a full table took a flow")
	}
	if tab.Refused() != 1 {
		t.Fatalf("refused %d, want 1", tab.Refused())
	}
	cl.t = cl.t.Add(time.Hour)
	if !tab.Add(tuple(3), &conntrack.Entry[string]{Flow: tab.NewFlow(packet.TCP, nil)}) {
		t.Fatal("expired flows still fill the table")
	}
}

func TestHeldTupleIsNotTaken(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1000)
	open(t, tab, k)
	if tab.Add(k, &conntrack.Entry[string]{Flow: tab.NewFlow(packet.TCP, nil)}) {
		t.Fatal("a second flow took the tuple of a live one")
	}
}

func TestRemoveForgetsWhatIsGone(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	open(t, tab, tuple(1))
	open(t, tab, tuple(2))
	tab.Remove(func(k packet.Tuple, _ *conntrack.Entry[string]) bool { return k.Src.Port() == 1 || k.Dst.Port() == 1 })
	if tab.Len() != 2 {
		t.Fatalf("%d entries left, want 2", tab.Len())
	}
}

func TestKnownFlowAllocatesNothing(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1000)
	open(t, tab, k)
	i := info(k, packet.ACK)
	if n := testing.AllocsPerRun(1000, func() { tab.Get(i) }); n != 0 {
		t.Fatalf("%v allocations a packet", n)
	}
}

func BenchmarkKnownFlow(b *testing.B) {
	tab := conntrack.New[string](1<<17, time.Now)
	for p := range uint16(30000) {
		f := tab.NewFlow(packet.TCP, nil)
		tab.Add(tuple(p), &conntrack.Entry[string]{Flow: f})
	}
	i := info(tuple(77), packet.ACK)
	b.ReportAllocs()
	for b.Loop() {
		tab.Get(i)
	}
}
