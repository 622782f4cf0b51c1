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

func TestPortsOfClosedConnectionAreUsedAgain(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1000)
	open(t, tab, k)
	tab.Get(info(k, packet.RST))
	if _, ok := tab.Get(info(k, packet.SYN)); ok {
		t.Fatal("a SYN after a reset was taken for the old flow")
	}
	open(t, tab, k)
	if e, ok := tab.Get(info(k.Reverse(), packet.SYN|packet.ACK)); !ok || e.Action != "back" {
		t.Fatal("the new connection is not known")
	}
	if tab.Len() != 2 {
		t.Fatalf("%d entries, want the new connection's two", tab.Len())
	}
}

func TestWhatIsOpenedAgainstAFlowIsJudgedAnew(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1000)
	open(t, tab, k)
	if _, ok := tab.Get(info(k.Reverse(), packet.SYN)); ok {
		t.Fatal("the called side opened a connection with the flow of the caller")
	}
	if _, ok := tab.Get(info(k, packet.ACK)); !ok {
		t.Fatal("and with that ended the caller's")
	}
	echo := packet.Tuple{Proto: packet.ICMPv4, Src: netip.MustParseAddrPort("10.0.0.4:7"), Dst: netip.MustParseAddrPort("10.0.1.4:7")}
	open(t, tab, echo)
	const reply, request = 0, 8
	if _, ok := tab.Get(&packet.Info{Tuple: echo.Reverse(), ICMPType: request}); ok {
		t.Fatal("the pinged side pinged with the flow of the pinging one")
	}
	if _, ok := tab.Get(&packet.Info{Tuple: echo.Reverse(), ICMPType: reply}); !ok {
		t.Fatal("the reply was not found")
	}
}

func TestUnansweredDatagramsAreForgottenSooner(t *testing.T) {
	cl := &clock{time.Unix(0, 0)}
	tab := conntrack.New[string](100, cl.now)
	k := tuple(1000)
	k.Proto = packet.UDP
	open(t, tab, k)
	cl.t = cl.t.Add(31 * time.Second)
	if _, ok := tab.Peek(k); ok {
		t.Fatal("nobody answered, still it is remembered after 31 s")
	}
	open(t, tab, k)
	tab.Get(info(k.Reverse(), 0))
	cl.t = cl.t.Add(120 * time.Second)
	if _, ok := tab.Peek(k); !ok {
		t.Fatal("an answered one was forgotten before 120 s")
	}
}

func TestEndedFlowIsNotFound(t *testing.T) {
	tab := conntrack.New[string](100, time.Now)
	k := tuple(1)
	f := open(t, tab, k)
	open(t, tab, tuple(2))
	f.End()
	if _, ok := tab.Get(info(k.Reverse(), packet.ACK)); ok {
		t.Fatal("a packet of an ended flow was let through")
	}
	n := 0
	tab.Each(func(packet.Tuple, *conntrack.Entry[string]) { n++ })
	if n != 2 {
		t.Fatalf("%d entries are visited, want those of the flow that is left", n)
	}
	if tab.Sweep() != 2 || tab.Len() != 2 {
		t.Fatalf("%d entries left, want 2", tab.Len())
	}
}

func TestNoPartyFillsTheTable(t *testing.T) {
	cl := &clock{time.Unix(0, 0)}
	tab := conntrack.New[string](100, cl.now)
	greedy, modest := conntrack.NewShare(3), conntrack.NewShare(3)
	add := func(port uint16, s *conntrack.Share) bool {
		return tab.Add(tuple(port), &conntrack.Entry[string]{Flow: tab.NewFlow(packet.TCP, nil), Share: s})
	}
	for port := range uint16(10) {
		if got, want := add(port, greedy), port < 3; got != want {
			t.Fatalf("flow %d: taken is %v", port, got)
		}
	}
	if !add(20, modest) {
		t.Fatal("who holds nothing gets nothing")
	}
	if add(20, modest); modest.Held() != 1 {
		t.Fatalf("a flow that was not taken counts: %d held", modest.Held())
	}
	cl.t = cl.t.Add(time.Hour)
	if !add(4, greedy) || greedy.Held() != 1 {
		t.Fatalf("flows that expired still count: %d held", greedy.Held())
	}
	cl.t = cl.t.Add(time.Hour)
	tab.Sweep()
	if greedy.Held() != 0 || !add(5, greedy) {
		t.Fatal("the share is not given back")
	}
}

func TestFullTableIsNotSweptForEveryPacket(t *testing.T) {
	cl := &clock{time.Unix(0, 0)}
	tab := conntrack.New[string](2, cl.now)
	f := open(t, tab, tuple(1))
	try := func() bool {
		return tab.Add(tuple(3), &conntrack.Entry[string]{Flow: tab.NewFlow(packet.TCP, nil)})
	}
	if try() {
		t.Fatal("a full table took a flow")
	}
	f.End()
	if try() {
		t.Fatal("swept twice within a second")
	}
	cl.t = cl.t.Add(2 * time.Second)
	if !try() {
		t.Fatal("not swept again")
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
