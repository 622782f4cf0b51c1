// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"net/netip"
)

// replyTTL is the hop limit of the packets that this package builds.
const replyTTL = 64

// maxQuote4 and maxQuote6 bound an ICMP error: RFC 1812 section 4.3.2.3 allows
// 576 bytes, RFC 4443 section 2.4 the minimum MTU of 1280.
const (
	maxQuote4 = 576 - v4HeaderLen - icmpHeaderLen
	maxQuote6 = 1280 - v6HeaderLen - icmpHeaderLen
)

// Unreachable is a reason for an ICMP error.
type Unreachable uint8

// The errors that AppendUnreachable can build.
const (
	Port       Unreachable = iota // nothing listens there
	Host                          // the address cannot be reached
	Network                       // no route
	Prohibited                    // refused by policy
	TTL                           // the hop limit ran out
)

func (u Unreachable) v4() (typ, code uint8) {
	switch u {
	case Port:
		return icmp4Unreachable, 3
	case Host:
		return icmp4Unreachable, 1
	case Prohibited:
		return icmp4Unreachable, 13
	case TTL:
		return icmp4TimeExceeded, 0
	}
	return icmp4Unreachable, 0
}

func (u Unreachable) v6() (typ, code uint8) {
	switch u {
	case Port:
		return icmp6Unreachable, 4
	case Host:
		return icmp6Unreachable, 3
	case Prohibited:
		return icmp6Unreachable, 1
	case TTL:
		return icmp6TimeExceeded, 0
	}
	return icmp6Unreachable, 0
}

// AppendUnreachable appends to dst the ICMP error that answers p. from is the
// address the error claims to come from; the zero Addr means p's destination. It
// returns dst unchanged where no error may be sent: in answer to another ICMP
// error, to a later fragment, or to or from a multicast or unspecified address
// (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
func AppendUnreachable(dst, p []byte, i *Info, why Unreachable, from netip.Addr) []byte {
	typ, code := why.v4()
	if i.V6() {
		typ, code = why.v6()
	}
	return appendError(dst, p, i, typ, code, 0, from)
}

// AppendTooBig appends to dst the ICMP error that tells p's sender the largest
// packet that fits. It follows the same rules as AppendUnreachable.
func AppendTooBig(dst, p []byte, i *Info, mtu int, from netip.Addr) []byte {
	if i.V6() {
		return appendError(dst, p, i, icmp6TooBig, 0, uint32(mtu), from)
	}
	return appendError(dst, p, i, icmp4Unreachable, 4, uint32(mtu)&0xffff, from)
}

func appendError(dst, p []byte, i *Info, typ, code uint8, rest uint32, from netip.Addr) []byte {
	to := i.Src.Addr()
	if !from.IsValid() {
		from = i.Dst.Addr()
	}
	if from.Is4() != to.Is4() || i.ICMPError() || i.Fragment == LaterFragment ||
		!to.IsValid() || to.IsUnspecified() || to.IsMulticast() || i.Dst.Addr().IsMulticast() {
		return dst
	}
	proto, limit := ICMPv4, maxQuote4
	if i.V6() {
		proto, limit = ICMPv6, maxQuote6
	}
	quote := p[:min(i.Len, len(p), limit)]
	at := len(dst)
	dst = appendIP(dst, from, to, proto, icmpHeaderLen+len(quote))
	l4 := len(dst)
	dst = append(dst, typ, code, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, rest)
	dst = append(dst, quote...)
	seal(dst[at:], l4-at, proto, from, to, 2)
	return dst
}

// AppendReset appends to dst the TCP RST that answers the segment p (RFC 9293
// section 3.10.7.1). It returns dst unchanged if p is itself a reset or carries no
// TCP header.
func AppendReset(dst, p []byte, i *Info) []byte {
	if i.Proto != TCP || i.Fragment == LaterFragment || i.TCPFlags&RST != 0 || len(p) < i.Len {
		return dst
	}
	t := p[i.L4:i.Len]
	var seq, ack uint32
	flags := RST
	if i.TCPFlags&ACK != 0 {
		seq = binary.BigEndian.Uint32(t[8:])
	} else {
		n := len(t) - int(t[12]>>4)*4
		if i.TCPFlags&SYN != 0 {
			n++
		}
		if i.TCPFlags&FIN != 0 {
			n++
		}
		ack = binary.BigEndian.Uint32(t[4:]) + uint32(n)
		flags |= ACK
	}
	from, to := i.Dst.Addr(), i.Src.Addr()
	at := len(dst)
	dst = appendIP(dst, from, to, TCP, tcpHeaderLen)
	l4 := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, i.Dst.Port())
	dst = binary.BigEndian.AppendUint16(dst, i.Src.Port())
	dst = binary.BigEndian.AppendUint32(dst, seq)
	dst = binary.BigEndian.AppendUint32(dst, ack)
	dst = append(dst, tcpHeaderLen/4<<4, flags, 0, 0, 0, 0, 0, 0)
	seal(dst[at:], l4-at, TCP, from, to, 16)
	return dst
}

// AppendUDP appends to dst a UDP datagram from src to to.
func AppendUDP(dst []byte, src, to netip.AddrPort, payload []byte) []byte {
	at := len(dst)
	dst = appendIP(dst, src.Addr(), to.Addr(), UDP, udpHeaderLen+len(payload))
	l4 := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, src.Port())
	dst = binary.BigEndian.AppendUint16(dst, to.Port())
	dst = binary.BigEndian.AppendUint16(dst, uint16(udpHeaderLen+len(payload)))
	dst = append(dst, 0, 0)
	dst = append(dst, payload...)
	seal(dst[at:], l4-at, UDP, src.Addr(), to.Addr(), 6)
	return dst
}

// AppendEcho appends to dst an ICMP echo request.
func AppendEcho(dst []byte, src, to netip.Addr, id, seq uint16, payload []byte) []byte {
	proto, typ := ICMPv4, uint8(icmp4Echo)
	if src.Is6() {
		proto, typ = ICMPv6, icmp6Echo
	}
	at := len(dst)
	dst = appendIP(dst, src, to, proto, icmpHeaderLen+len(payload))
	l4 := len(dst)
	dst = append(dst, typ, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = binary.BigEndian.AppendUint16(dst, seq)
	dst = append(dst, payload...)
	seal(dst[at:], l4-at, proto, src, to, 2)
	return dst
}

// appendIP appends an IP header for n transport bytes.
func appendIP(dst []byte, from, to netip.Addr, proto Proto, n int) []byte {
	if from.Is4() {
		at := len(dst)
		dst = append(dst, 0x45, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(v4HeaderLen+n))
		dst = append(dst, 0, 0, 0x40, 0, replyTTL, byte(proto), 0, 0)
		a, b := from.As4(), to.As4()
		dst = append(append(dst, a[:]...), b[:]...)
		binary.BigEndian.PutUint16(dst[at+10:], ^fold(sum(0, dst[at:])))
		return dst
	}
	dst = append(dst, 0x60, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	dst = append(dst, byte(proto), replyTTL)
	a, b := from.As16(), to.As16()
	return append(append(dst, a[:]...), b[:]...)
}

// seal fills in the transport checksum at offset at of the transport header.
func seal(p []byte, l4 int, proto Proto, from, to netip.Addr, at int) {
	var s uint64
	if proto != ICMPv4 {
		s = pseudo(from, to, proto, len(p)-l4)
	}
	c := ^fold(sum(s, p[l4:]))
	if c == 0 && proto == UDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(p[l4+at:], c)
}
