// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"

	"postern.dev/postern/engine/network/packet"
)

// router is a lab with the raw peers near, in app, and far, in far.
type router struct {
	*lab
	near, far       *raw
	from, to        netip.AddrPort
	hub             netip.Addr
	tooBig, expired [2]uint8 // type and code
	segment         uint16   // the largest that fits
}

// routers are labs for each family.
func routers(t *testing.T, f func(*testing.T, *router)) {
	t.Helper()
	for _, v := range []struct {
		name                           string
		near, far, from, to, hub, hub2 string
		tooBig, expired                [2]uint8
		segment                        uint16
	}{
		{"IPv4", "a", "c", "10.1.1.10:1000", "10.2.1.10:2000", "10.1.0.2", "10.2.0.2", [2]uint8{3, 4}, [2]uint8{11, 0}, 1380},
		{"IPv6", "a6", "c6", "[fd00:1:0:1::10]:1000", "[fd00:2:0:1::10]:2000", "fd00:1::2", "fd00:2::2", [2]uint8{2, 0}, [2]uint8{3, 0}, 1360},
	} {
		t.Run(v.name, func(t *testing.T) {
			l := newLab(t)
			l.six()
			r := &router{
				lab: l, near: l.raw(l.keys[v.near], "app"), far: l.raw(l.keys[v.far], "far"),
				from: netip.MustParseAddrPort(v.from), to: netip.MustParseAddrPort(v.to), hub: netip.MustParseAddr(v.hub),
				tooBig: v.tooBig, expired: v.expired, segment: v.segment,
			}
			for peer, query := range map[*raw][]byte{r.near: udp(v.from, at(v.hub, 53)), r.far: udp(v.to, at(v.hub2, 53))} {
				peer.out <- query
				if peer.next(wait) == nil {
					t.Fatal("the resolver does not answer")
				}
			}
			f(t, r)
		})
	}
}

// datagram is a UDP packet of that many bytes.
func (r *router) datagram(size int) []byte {
	p := packet.AppendUDP(nil, r.from, r.to, nil)
	return packet.AppendUDP(nil, r.from, r.to, make([]byte, size-len(p)))
}

// told checks that a packet is an ICMP error by the hub about a datagram.
func (r *router) told(t *testing.T, p []byte, want [2]uint8) *packet.Info {
	t.Helper()
	if p == nil {
		t.Fatal("the sender is not told")
	}
	i, err := packet.Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	if got := [2]uint8{i.ICMPType, i.ICMPCode}; got != want || i.Src.Addr() != r.hub || !packet.ChecksumOK(p, &i) {
		t.Errorf("%v, type and code %v by %s; want %v by %s", i.Proto, got, i.Src, want, r.hub)
	}
	inner, _, ok := packet.Quoted(p, &i)
	if !ok || inner.Src != r.from || inner.Dst != r.to {
		t.Errorf("it quotes %v", inner.Tuple)
	}
	return &i
}

func TestSenderOfAPacketThatDoesNotFitLearnsTheMTU(t *testing.T) {
	routers(t, func(t *testing.T, r *router) {
		fragmentable := r.datagram(1421)
		if r.from.Addr().Is4() {
			fragmentable[6] &^= 0x40
		}
		for name, p := range map[string][]byte{"one byte too long": r.datagram(1421), "far too long": r.datagram(4000), "without DF": fragmentable} {
			r.near.out <- p
			e := r.near.next(wait)
			i := r.told(t, e, r.tooBig)
			if got := binary.BigEndian.Uint32(e[i.L4+4:]); got != 1420 {
				t.Errorf("%s: told %d", name, got)
			}
		}
		r.near.out <- r.datagram(1420)
		if p := r.far.next(wait); len(p) != 1420 {
			t.Fatalf("of the packet that fits %d bytes arrive", len(p))
		}
		if p := r.far.next(silence); p != nil {
			t.Fatalf("%d bytes arrive after all", len(p))
		}
	})
}

func TestSenderLearnsThatItsPacketTravelledTooFar(t *testing.T) {
	routers(t, func(t *testing.T, r *router) {
		p := r.datagram(100)
		if r.from.Addr().Is4() {
			p[8] = 1
		} else {
			p[7] = 1
		}
		r.near.out <- p
		r.told(t, r.near.next(wait), r.expired)
		if p := r.far.next(silence); p != nil {
			t.Fatal("it arrives after all")
		}
	})
}

func TestErrorsAreBounded(t *testing.T) {
	routers(t, func(t *testing.T, r *router) {
		const sent = 100
		for range sent {
			r.near.out <- r.datagram(1500)
		}
		told := 0
		for r.near.next(silence) != nil {
			told++
		}
		if told < 10 || told > sent/2 {
			t.Fatalf("told %d times of %d packets", told, sent)
		}
	})
}

func TestUndeliveredPacketIsNotAnsweredForItsSize(t *testing.T) {
	routers(t, func(t *testing.T, r *router) {
		r.to = netip.AddrPortFrom(r.to.Addr().Next(), 9) // nobody has it
		r.near.out <- r.datagram(1500)
		if p := r.near.next(silence); p != nil {
			t.Fatal("a packet that is dropped anyway was answered")
		}
	})
}

func TestGatewayHeedsWhatARouterTellsOfItsPath(t *testing.T) {
	routers(t, func(t *testing.T, r *router) {
		r.inject()
		gateway := map[bool]string{true: "in", false: "in6"}[r.to.Addr().Is4()]
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		written := make(chan error, 1)
		go func() {
			c, err := r.fabric.DialGateway(ctx, gateway, "app", r.to)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = c.Close() })
				_, err = c.Write(make([]byte, 4000))
			}
			written <- err
		}()
		parsed := func(p []byte) *packet.Info {
			t.Helper()
			i, err := packet.Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			return &i
		}
		syn := r.far.next(wait)
		if syn == nil {
			t.Fatal("the Gateway's SYN does not arrive")
		}
		i := parsed(syn)
		r.far.out <- opening(t, i.Dst, i.Src, packet.SYN|packet.ACK, binary.BigEndian.Uint32(syn[i.L4+4:])+1)
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		const narrow = 1300
		told := uint32(0) // the sequence number of what was too long
		for {
			p := r.far.next(wait)
			if p == nil {
				t.Fatal("nothing is sent again")
			}
			i := parsed(p)
			switch seq := binary.BigEndian.Uint32(p[i.L4+4:]); {
			case told == 0 && len(p) > narrow:
				r.far.out <- packet.AppendTooBig(nil, p, i, narrow, netip.Addr{})
				told = seq
			case told == seq && len(p) > narrow/2 && len(p) <= narrow:
				return
			}
		}
	})
}

// opening is a segment with SYN that announces segments of 1460 bytes.
func opening(t *testing.T, from, to netip.AddrPort, flags uint8, ack uint32) []byte {
	t.Helper()
	p := packet.AppendUDP(nil, from, to, make([]byte, 16))
	if from.Addr().Is4() {
		p[9] = byte(packet.TCP)
		p[10], p[11] = 0, 0
		var s uint32
		for at := 0; at < 20; at += 2 {
			s += uint32(binary.BigEndian.Uint16(p[at:]))
		}
		binary.BigEndian.PutUint16(p[10:], ^uint16(s>>16+s&0xffff))
	} else {
		p[6] = byte(packet.TCP)
	}
	h := p[len(p)-24:]
	clear(h[4:])
	binary.BigEndian.PutUint32(h[8:], ack)
	h[12], h[13] = 6<<4, flags
	binary.BigEndian.PutUint16(h[14:], 1<<16-1)
	copy(h[20:], []byte{2, 4, 1460 >> 8, 1460 & 0xff})
	i, err := packet.Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	packet.Checksum(p, &i)
	return p
}

func TestForwardedSYNAnnouncesSegmentsThatFit(t *testing.T) {
	routers(t, func(t *testing.T, r *router) {
		check := func(who *raw) {
			t.Helper()
			p := who.next(wait)
			if p == nil {
				t.Fatal("it does not arrive")
			}
			i, err := packet.Parse(p)
			if err != nil || !packet.ChecksumOK(p, &i) {
				t.Fatalf("%v, % x", err, p)
			}
			if got := binary.BigEndian.Uint16(p[i.L4+22:]); got != r.segment {
				t.Errorf("announces %d, want %d", got, r.segment)
			}
		}
		r.near.out <- opening(t, r.from, r.to, packet.SYN, 0)
		check(r.far)
		r.far.out <- opening(t, r.to, r.from, packet.SYN|packet.ACK, 1)
		check(r.near)
	})
}
