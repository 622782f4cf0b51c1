// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	a4 = netip.MustParseAddrPort("10.0.0.1:1234")
	b4 = netip.MustParseAddrPort("192.0.2.7:443")
	a6 = netip.MustParseAddrPort("[fd00::1]:1234")
	b6 = netip.MustParseAddrPort("[2001:db8::7]:443")
)

// segment builds a TCP segment whose checksums another implementation computed.
func segment(src, dst netip.AddrPort, flags uint8, seq, ack uint32, payload string) []byte {
	n := header.TCPMinimumSize + len(payload)
	p := appendIP(nil, src.Addr(), dst.Addr(), TCP, n)
	t := header.TCP(make([]byte, n))
	t.Encode(&header.TCPFields{SrcPort: src.Port(), DstPort: dst.Port(), SeqNum: seq, AckNum: ack, DataOffset: 20, Flags: header.TCPFlags(flags), WindowSize: 1000})
	copy(t[20:], payload)
	x := header.PseudoHeaderChecksum(header.TCPProtocolNumber, tcpip.AddrFromSlice(src.Addr().AsSlice()), tcpip.AddrFromSlice(dst.Addr().AsSlice()), uint16(n))
	x = checksum.Checksum([]byte(payload), x)
	t.SetChecksum(^t.CalculateChecksum(x))
	return append(p, t...)
}

// valid checks p's checksums the long way round.
func valid(t testing.TB, p []byte) {
	t.Helper()
	i, err := Parse(p)
	if err != nil {
		t.Fatalf("parse % x: %v", p, err)
	}
	src, dst := tcpip.AddrFromSlice(i.Src.Addr().AsSlice()), tcpip.AddrFromSlice(i.Dst.Addr().AsSlice())
	if !i.V6() && !header.IPv4(p).IsChecksumValid() {
		t.Errorf("IPv4 header checksum of % x is wrong", p)
	}
	l4 := p[i.L4:i.Len]
	ok := true
	switch {
	case i.Fragment != Whole:
	case i.Proto == TCP:
		h := header.TCP(l4)
		ok = h.IsChecksumValid(src, dst, checksum.Checksum(h.Payload(), 0), uint16(len(h.Payload())))
	case i.Proto == UDP && header.UDP(l4).Checksum() != 0:
		h := header.UDP(l4)
		ok = h.IsChecksumValid(src, dst, checksum.Checksum(h.Payload(), 0))
	case i.Proto == ICMPv4:
		ok = checksum.Checksum(l4, 0) == 0xffff
	case i.Proto == ICMPv6:
		want := header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
			Header: header.ICMPv6(l4[:8]), Src: src, Dst: dst,
			PayloadCsum: checksum.Checksum(l4[8:], 0), PayloadLen: len(l4) - 8,
		})
		ok = header.ICMPv6(l4).Checksum() == want
	}
	if !ok {
		t.Errorf("transport checksum of % x is wrong", p)
	}
	if !ChecksumOK(p, &i) {
		t.Errorf("ChecksumOK denies % x", p)
	}
}

// extended puts IPv6 extension headers between the header and the payload of p.
func extended(p []byte, kinds ...uint8) []byte {
	out := slices.Clone(p[:40])
	next := p[6]
	out[6] = kinds[0]
	for n, k := range kinds {
		after := next
		if n+1 < len(kinds) {
			after = kinds[n+1]
		}
		ext := make([]byte, 8)
		ext[0] = after
		if k == 51 {
			ext[1] = 0 // (0+2)*4 = 8 bytes
		}
		out = append(out, ext...)
	}
	out = append(out, p[40:]...)
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

func fragment4(p []byte, offset uint16, more bool) []byte {
	p = slices.Clone(p)
	if more {
		offset |= 0x2000
	}
	adjust(p, 10, uint64(binary.BigEndian.Uint16(p[6:])), uint64(offset))
	binary.BigEndian.PutUint16(p[6:], offset)
	return p
}

func TestParseReadsEveryKind(t *testing.T) {
	syn4, syn6 := segment(a4, b4, SYN, 7, 0, ""), segment(a6, b6, SYN|ACK, 7, 9, "data")
	frag6 := extended(syn6, 44)
	frag6[42], frag6[43] = 0, 9 // offset 1, more
	for _, tt := range []struct {
		name string
		p    []byte
		want Info
	}{
		{"SYN", syn4, Info{Tuple: Tuple{TCP, a4, b4}, TCPFlags: SYN, TTL: 64, L4: 20, Len: 40}},
		{"padding is not the packet's", append(slices.Clone(syn4), 0, 0, 0), Info{Tuple: Tuple{TCP, a4, b4}, TCPFlags: SYN, TTL: 64, L4: 20, Len: 40}},
		{"SYN ACK over IPv6", syn6, Info{Tuple: Tuple{TCP, a6, b6}, TCPFlags: SYN | ACK, TTL: 64, L4: 40, Len: 64}},
		{"extension headers", extended(syn6, 0, 43, 51, 60), Info{Tuple: Tuple{TCP, a6, b6}, TCPFlags: SYN | ACK, TTL: 64, L4: 72, Len: 96}},
		{"UDP", AppendUDP(nil, a4, b4, []byte("x")), Info{Tuple: Tuple{UDP, a4, b4}, TTL: 64, L4: 20, Len: 29}},
		{"echo", AppendEcho(nil, a6.Addr(), b6.Addr(), 99, 1, nil), Info{
			Tuple: Tuple{ICMPv6, netip.AddrPortFrom(a6.Addr(), 99), netip.AddrPortFrom(b6.Addr(), 99)}, ICMPType: 128, TTL: 64, L4: 40, Len: 48,
		}},
		{"first fragment", fragment4(syn4, 0, true), Info{Tuple: Tuple{TCP, a4, b4}, Fragment: FirstFragment, TCPFlags: SYN, TTL: 64, L4: 20, Len: 40}},
		{"later fragment", fragment4(syn4, 5, false), Info{
			Tuple: Tuple{TCP, netip.AddrPortFrom(a4.Addr(), 0), netip.AddrPortFrom(b4.Addr(), 0)}, Fragment: LaterFragment, TTL: 64, L4: 20, Len: 40,
		}},
		{"later fragment of IPv6", frag6, Info{
			Tuple: Tuple{TCP, netip.AddrPortFrom(a6.Addr(), 0), netip.AddrPortFrom(b6.Addr(), 0)}, Fragment: LaterFragment, TTL: 64, L4: 48, Len: 72,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.p)
			if err != nil || got != tt.want {
				t.Errorf("Parse = %+v, %v\nwant    %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseRefusesWhatDoesNotAddUp(t *testing.T) {
	syn4, syn6 := segment(a4, b4, SYN, 7, 0, ""), segment(a6, b6, SYN, 7, 0, "")
	edit := func(p []byte, at int, b byte) []byte {
		p = slices.Clone(p)
		p[at] = b
		return p
	}
	for _, tt := range []struct {
		name string
		p    []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"version 5", []byte{0x50}, ErrVersion},
		{"cut header", syn4[:19], ErrShort},
		{"cut IPv6 header", syn6[:39], ErrShort},
		{"cut payload", syn4[:39], ErrShort},
		{"header length below five words", edit(syn4, 0, 0x44), ErrHeader},
		{"total length below the header", edit(syn4, 3, 19), ErrHeader},
		{"TCP offset below five words", edit(syn4, 32, 0x40), ErrShort},
		{"TCP offset past the end", edit(syn4, 32, 0xf0), ErrShort},
		{"extension past the end", edit(syn6, 6, 0), ErrShort},
		{"nine extension headers", extended(syn6, 60, 60, 60, 60, 60, 60, 60, 60, 60), ErrExtension},
		{"ICMPv6 in IPv4", edit(AppendEcho(nil, a4.Addr(), b4.Addr(), 1, 1, nil), 9, 58), ErrHeader},
	} {
		if _, err := Parse(tt.p); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestOnlyABareSYNOpensAConnection(t *testing.T) {
	for flags, want := range map[uint8]bool{SYN: true, SYN | PSH: true, SYN | ACK: false, ACK: false, RST: false, SYN | RST: false, SYN | FIN: false, 0: false} {
		i, err := Parse(segment(a4, b4, flags, 1, 1, ""))
		if err != nil || i.NewFlow() != want {
			t.Errorf("flags %05b: NewFlow = %v, %v; want %v", flags, i.NewFlow(), err, want)
		}
	}
	if i, _ := Parse(AppendUDP(nil, a4, b4, nil)); !i.NewFlow() {
		t.Error("a datagram opens no flow")
	}
}

func TestRewritesKeepChecksumsRight(t *testing.T) {
	c4, c6 := netip.MustParseAddrPort("203.0.113.200:65535"), netip.MustParseAddrPort("[2001:db8:ffff::1]:1")
	for _, tt := range []struct {
		name string
		p    []byte
		to   netip.AddrPort
	}{
		{"TCP", segment(a4, b4, ACK|PSH, 1, 2, "odd"), c4},
		{"TCP6", segment(a6, b6, ACK|PSH, 1, 2, "even"), c6},
		{"UDP", AppendUDP(nil, a4, b4, []byte("hello")), c4},
		{"UDP6", AppendUDP(nil, a6, b6, []byte("hello")), c6},
		{"echo", AppendEcho(nil, a4.Addr(), b4.Addr(), 5, 6, []byte("ping")), c4},
		{"echo6", AppendEcho(nil, a6.Addr(), b6.Addr(), 5, 6, []byte("ping")), c6},
		{"behind extension headers", extended(segment(a6, b6, ACK, 1, 2, "x"), 0, 60), c6},
		{"later fragment", fragment4(segment(a4, b4, ACK, 1, 2, "x"), 5, false), c4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			valid(t, tt.p)
			for _, set := range []func([]byte, *Info, netip.AddrPort) bool{SetSrc, SetDst} {
				p := slices.Clone(tt.p)
				i, _ := Parse(p)
				if !set(p, &i, tt.to) {
					t.Fatal("refused")
				}
				valid(t, p)
				again, err := Parse(p)
				if err != nil || again != i {
					t.Errorf("after the rewrite the packet reads %+v, %v; info says %+v", again, err, i)
				}
				if !DecTTL(p, &i) {
					t.Fatal("hop limit")
				}
				valid(t, p)
				if again, _ := Parse(p); again.TTL != 63 || i.TTL != 63 {
					t.Errorf("hop limit is %d, info says %d", again.TTL, i.TTL)
				}
			}
		})
	}
}

func TestRewriteAcrossFamiliesIsRefused(t *testing.T) {
	p := AppendUDP(nil, a4, b4, nil)
	i, _ := Parse(p)
	before := slices.Clone(p)
	if SetSrc(p, &i, a6) || !bytes.Equal(p, before) {
		t.Error("an IPv4 packet took an IPv6 source")
	}
	p[8] = 1
	i.TTL = 1
	if DecTTL(p, &i) {
		t.Error("a packet at its last hop travels on")
	}
}

func TestDatagramWithoutChecksumKeepsNone(t *testing.T) {
	p := AppendUDP(nil, a4, b4, []byte("x"))
	p[26], p[27] = 0, 0
	i, _ := Parse(p)
	SetDst(p, &i, netip.MustParseAddrPort("1.2.3.4:5"))
	if p[26] != 0 || p[27] != 0 {
		t.Error("a checksum appeared")
	}
	valid(t, p)
}

func TestResetAnswersWhatTheStandardSays(t *testing.T) {
	for _, tt := range []struct {
		name     string
		p        []byte
		seq, ack uint32
		flags    uint8
	}{
		{"a SYN", segment(a4, b4, SYN, 100, 0, ""), 0, 101, RST | ACK},
		{"a SYN over IPv6", segment(a6, b6, SYN, 100, 0, ""), 0, 101, RST | ACK},
		{"an ACK", segment(a4, b4, ACK, 100, 200, "data"), 200, 0, RST},
		{"data without ACK", segment(a4, b4, FIN, 100, 0, "data"), 0, 105, RST | ACK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, _ := Parse(tt.p)
			r := AppendReset([]byte("xx"), tt.p, &i)[2:]
			valid(t, r)
			got, err := Parse(r)
			if err != nil || got.Tuple != i.Reverse() || got.TCPFlags != tt.flags {
				t.Errorf("reset is %+v, %v", got, err)
			}
			h := header.TCP(r[got.L4:])
			if h.SequenceNumber() != tt.seq || h.AckNumber() != tt.ack {
				t.Errorf("seq %d ack %d, want %d and %d", h.SequenceNumber(), h.AckNumber(), tt.seq, tt.ack)
			}
		})
	}
	rst := segment(a4, b4, RST, 1, 0, "")
	if i, _ := Parse(rst); AppendReset(nil, rst, &i) != nil {
		t.Error("a reset was answered with a reset")
	}
}

func TestICMPErrorsQuoteTheirCause(t *testing.T) {
	router4, router6 := netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fd00::fe")
	for _, tt := range []struct {
		name string
		p    []byte
		from netip.Addr
	}{
		{"UDP", AppendUDP(nil, a4, b4, []byte("query")), router4},
		{"UDP6", AppendUDP(nil, a6, b6, []byte("query")), router6},
		{"a large datagram is cut", AppendUDP(nil, a4, b4, make([]byte, 1300)), netip.Addr{}},
		{"a large IPv6 datagram is cut", AppendUDP(nil, a6, b6, make([]byte, 1400)), netip.Addr{}},
		{"TCP", segment(a6, b6, SYN, 1, 0, ""), router6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, _ := Parse(tt.p)
			for why := Port; why <= TTL; why++ {
				e := AppendUnreachable(nil, tt.p, &i, why, tt.from)
				valid(t, e)
				ei, err := Parse(e)
				if err != nil || !ei.ICMPError() || ei.NewFlow() || ei.Dst.Addr() != i.Src.Addr() {
					t.Fatalf("error is %+v, %v", ei, err)
				}
				if want := tt.from; want.IsValid() && ei.Src.Addr() != want || !want.IsValid() && ei.Src.Addr() != i.Dst.Addr() {
					t.Errorf("error comes from %v", ei.Src.Addr())
				}
				if ei.V6() && len(e) > 1280 || !ei.V6() && len(e) > 576 {
					t.Errorf("error has %d bytes", len(e))
				}
				inner, at, ok := Quoted(e, &ei)
				if !ok || inner.Tuple != i.Tuple {
					t.Fatalf("quotes %+v, %v; want %+v", inner, ok, i.Tuple)
				}
				// NAT turns the quoted source back into the one its sender knows.
				to := netip.AddrPortFrom(i.Src.Addr().Next(), 999)
				if !SetQuoted(e, &ei, &inner, at, to, true) {
					t.Fatal("quoted packet not rewritten")
				}
				valid(t, e)
				if again, _, ok := Quoted(e, &ei); !ok || again.Src != to || again.Dst != i.Dst {
					t.Errorf("after the rewrite it quotes %+v", again)
				}
				if AppendUnreachable(nil, e, &ei, Port, netip.Addr{}) != nil {
					t.Error("an error was answered with an error")
				}
			}
			big := AppendTooBig(nil, tt.p, &i, 1280, tt.from)
			valid(t, big)
			if bi, _ := Parse(big); binary.BigEndian.Uint32(big[bi.L4+4:]) != 1280 {
				t.Error("the MTU is not in the error")
			}
		})
	}
	multicast := AppendUDP(nil, a4, netip.MustParseAddrPort("224.0.0.1:5353"), nil)
	if i, _ := Parse(multicast); AppendUnreachable(nil, multicast, &i, Port, a4.Addr()) != nil {
		t.Error("a multicast was answered with an error")
	}
}

// opening is a SYN with TCP options.
func opening(src, dst netip.AddrPort, flags uint8, options ...byte) []byte {
	p := segment(src, dst, flags, 1, 0, "")
	i, _ := Parse(p)
	p = append(p, options...)
	p[i.L4+12] = byte((tcpHeaderLen + len(options)) / 4 << 4)
	if i.V6() {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-v6HeaderLen))
	} else {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], ^fold(sum(0, p[:20])))
	}
	i, _ = Parse(p)
	Checksum(p, &i)
	return p
}

func TestClampMSSLowersWhatDoesNotFit(t *testing.T) {
	for _, c := range []struct {
		name     string
		src, dst netip.AddrPort
		flags    uint8
		options  []byte
		at       int // of the value in the options
		want     uint16
		changed  bool
	}{
		{"too large", a4, b4, SYN, []byte{2, 4, 5, 180}, 2, 1380, true},
		{"too large, of IPv6", a6, b6, SYN, []byte{2, 4, 5, 180}, 2, 1360, true},
		{"the largest there is", a4, b4, SYN, []byte{2, 4, 255, 255}, 2, 1380, true},
		{"in an answer", a4, b4, SYN | ACK, []byte{2, 4, 5, 180}, 2, 1380, true},
		{"behind others, at an odd place", a4, b4, SYN, []byte{1, 3, 3, 7, 1, 2, 4, 5, 180, 1, 1, 0}, 7, 1380, true},
		{"at the odd end", a6, b6, SYN, []byte{1, 1, 1, 2, 4, 5, 180, 0}, 5, 1360, true},
		{"it fits exactly", a4, b4, SYN, []byte{2, 4, 5, 100}, 2, 1380, false},
		{"it is small", a4, b4, SYN, []byte{2, 4, 2, 24}, 2, 536, false},
		{"behind the end of the options", a4, b4, SYN, []byte{0, 0, 0, 0, 2, 4, 5, 180}, 6, 1460, false},
		{"no SYN", a4, b4, ACK, []byte{2, 4, 5, 180}, 2, 1460, false},
		{"an option without a length", a4, b4, SYN, []byte{8, 0, 5, 180}, 2, 1460, false},
		{"an option that is longer than the header", a4, b4, SYN, []byte{2, 9, 5, 180}, 2, 1460, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := opening(c.src, c.dst, c.flags, c.options...)
			i, err := Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			if got := ClampMSS(p, &i, 1420); got != c.changed {
				t.Errorf("changed: %v", got)
			}
			if got := binary.BigEndian.Uint16(p[i.L4+tcpHeaderLen+c.at:]); got != c.want {
				t.Errorf("announces %d, want %d", got, c.want)
			}
			valid(t, p)
		})
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	p4, p6 := segment(a4, b4, ACK, 1, 2, "data"), segment(a6, b6, ACK, 1, 2, "data")
	syn := opening(a4, b4, SYN, 2, 4, 5, 180)
	buf := make([]byte, 0, 2048)
	for name, f := range map[string]func(){
		"parse, rewrite and age": func() {
			for _, p := range [][]byte{p4, p6} {
				i, err := Parse(p)
				if err != nil || !SetSrc(p, &i, i.Src) || !SetDst(p, &i, i.Dst) {
					t.Fatal("refused")
				}
				i.TTL = 64
				DecTTL(p, &i)
			}
		},
		"refuse": func() {
			i, _ := Parse(p6)
			_ = AppendReset(buf, p6, &i)
			_ = AppendUnreachable(buf, p6, &i, Port, netip.Addr{})
		},
		"clamp": func() {
			i, _ := Parse(syn)
			syn[i.L4+tcpHeaderLen+2] = 255
			if !ClampMSS(syn, &i, 1420) {
				t.Fatal("not clamped")
			}
		},
		"malformed": func() { _, _ = Parse(p4[:19]) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	syn6 := segment(a6, b6, SYN, 1, 0, "x")
	for _, p := range [][]byte{
		segment(a4, b4, SYN, 1, 0, ""), syn6, extended(syn6, 0, 44, 60), fragment4(segment(a4, b4, SYN, 1, 0, ""), 3, true),
		opening(a6, b6, SYN, 1, 1, 1, 2, 4, 5, 180, 0), AppendUDP(nil, a4, b4, []byte("x")), AppendEcho(nil, a6.Addr(), b6.Addr(), 1, 2, nil),
	} {
		f.Add(p, uint16(80))
		if i, err := Parse(p); err == nil {
			if e := AppendUnreachable(nil, p, &i, Port, netip.Addr{}); e != nil {
				f.Add(e, uint16(80))
			}
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, port uint16) {
		i, err := Parse(p)
		if err != nil {
			if i != (Info{}) {
				t.Fatal("an error with an Info")
			}
			return
		}
		if i.Len > len(p) || i.L4 > i.Len {
			t.Fatalf("offsets %+v exceed %d bytes", i, len(p))
		}
		p = slices.Clone(p[:i.Len])
		for _, b := range [][]byte{AppendReset(nil, p, &i), AppendUnreachable(nil, p, &i, Port, netip.Addr{}), AppendTooBig(nil, p, &i, 1280, netip.Addr{})} {
			if b != nil {
				valid(t, b)
			}
		}
		if inner, at, ok := Quoted(p, &i); ok {
			q, j := slices.Clone(p), i
			SetQuoted(q, &j, &inner, at, netip.AddrPortFrom(inner.Src.Addr(), port), true)
		}
		// Whatever the packet was, a rewrite leaves right checksums right.
		if int(p[0]&15)*4 != 20 && !i.V6() {
			return
		}
		if !i.V6() {
			p[10], p[11] = 0, 0
			binary.BigEndian.PutUint16(p[10:], ^fold(sum(0, p[:20])))
		}
		if i.Fragment == Whole {
			Checksum(p, &i)
		}
		if !ChecksumOK(p, &i) {
			t.Fatalf("a fresh checksum of %+v is wrong", i)
		}
		to := netip.AddrPortFrom(i.Dst.Addr().Next(), port)
		if !to.Addr().IsValid() {
			return
		}
		if !SetSrc(p, &i, to) || !SetDst(p, &i, to) {
			t.Fatal("rewrite refused")
		}
		DecTTL(p, &i)
		ClampMSS(p, &i, 1280)
		if !ChecksumOK(p, &i) {
			t.Fatalf("a rewrite of %+v broke a checksum", i)
		}
		if again, err := Parse(p); err != nil || again != i {
			t.Fatalf("the packet reads %+v, %v; info says %+v", again, err, i)
		}
	})
}

func BenchmarkParseAndRewrite(b *testing.B) {
	p := segment(a4, b4, ACK, 1, 2, string(make([]byte, 1360)))
	b.ReportAllocs()
	for b.Loop() {
		i, err := Parse(p)
		if err != nil || !SetSrc(p, &i, i.Src) {
			b.Fatal("refused")
		}
	}
}
