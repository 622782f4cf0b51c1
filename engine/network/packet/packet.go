// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package packet reads and patches raw IP packets in place. Nothing in it
// allocates: the packet filter, the NAT and the router call it for every packet.
package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Proto is an IP protocol number.
type Proto uint8

// The protocols that packets are understood up to.
const (
	ICMPv4 Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
)

// String names the protocol.
func (p Proto) String() string {
	switch p {
	case ICMPv4:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMPv6:
		return "icmpv6"
	}
	return "other"
}

// TCP flag bits as they stand in the header.
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Fragment says which part of a datagram a packet carries.
type Fragment uint8

// The fragment positions. Only a later fragment lacks the transport header.
const (
	Whole Fragment = iota
	FirstFragment
	LaterFragment
)

// Tuple names a flow. It is comparable and serves as a map key. For an ICMP
// echo both ports hold the identifier, so that a reply is the reverse of its
// request; for other ICMP and for later fragments the ports are zero.
type Tuple struct {
	Proto    Proto
	Src, Dst netip.AddrPort
}

// Reverse returns the tuple of the opposite direction.
func (t Tuple) Reverse() Tuple { return Tuple{Proto: t.Proto, Src: t.Dst, Dst: t.Src} }

// Info is what Parse learns from a packet.
type Info struct {
	Tuple
	Fragment Fragment
	TCPFlags uint8
	ICMPType uint8
	ICMPCode uint8
	TTL      uint8
	// L4 is the offset of the transport header.
	L4 int
	// Len is the packet's length by its own header; bytes past it are padding.
	Len int
}

// V6 reports whether the packet is IPv6.
func (i *Info) V6() bool { return i.Src.Addr().Is6() }

// Echo reports whether the packet is an ICMP echo request or reply.
func (i *Info) Echo() bool {
	switch i.Proto {
	case ICMPv4:
		return i.ICMPType == icmp4Echo || i.ICMPType == icmp4EchoReply
	case ICMPv6:
		return i.ICMPType == icmp6Echo || i.ICMPType == icmp6EchoReply
	}
	return false
}

// EchoRequest reports whether the packet is an ICMP echo request.
func (i *Info) EchoRequest() bool {
	return i.Proto == ICMPv4 && i.ICMPType == icmp4Echo || i.Proto == ICMPv6 && i.ICMPType == icmp6Echo
}

// ICMPError reports whether the packet is an ICMP error, which quotes the packet
// that caused it (see Quoted).
func (i *Info) ICMPError() bool {
	switch i.Proto {
	case ICMPv4:
		return i.ICMPType == icmp4Unreachable || i.ICMPType == icmp4TimeExceeded || i.ICMPType == icmp4ParamProblem
	case ICMPv6:
		return i.ICMPType >= 1 && i.ICMPType <= 4
	}
	return false
}

// NewFlow reports whether the packet may open a flow: a TCP SYN without ACK, or
// any other packet that is not an ICMP error.
func (i *Info) NewFlow() bool {
	if i.Proto == TCP {
		return i.Fragment != LaterFragment && i.TCPFlags&(SYN|ACK|RST|FIN) == SYN
	}
	return !i.ICMPError()
}

const (
	icmp4EchoReply    = 0
	icmp4Unreachable  = 3
	icmp4Echo         = 8
	icmp4TimeExceeded = 11
	icmp4ParamProblem = 12
	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6Echo         = 128
	icmp6EchoReply    = 129
	v4HeaderLen       = 20
	v6HeaderLen       = 40
	tcpHeaderLen      = 20
	udpHeaderLen      = 8
	icmpHeaderLen     = 8
	// maxExtensions bounds the IPv6 extension headers that are walked.
	maxExtensions = 8
)

// The reasons why Parse refuses a packet.
var (
	ErrShort     = errors.New("packet: shorter than its headers say")
	ErrVersion   = errors.New("packet: neither IPv4 nor IPv6")
	ErrHeader    = errors.New("packet: malformed header")
	ErrExtension = errors.New("packet: too many IPv6 extension headers")
)

// Parse reads the network and transport headers of p.
func Parse(p []byte) (Info, error) { return parse(p, false) }

// parse reads p. A quoted packet may be cut short after eight transport bytes.
func parse(p []byte, quoted bool) (Info, error) {
	if len(p) == 0 {
		return Info{}, ErrShort
	}
	var i Info
	var src, dst netip.Addr
	switch p[0] >> 4 {
	case 4:
		if len(p) < v4HeaderLen {
			return Info{}, ErrShort
		}
		i.L4 = int(p[0]&15) * 4
		i.Len = int(binary.BigEndian.Uint16(p[2:]))
		if i.L4 < v4HeaderLen || i.Len < i.L4 {
			return Info{}, ErrHeader
		}
		if len(p) < i.L4 {
			return Info{}, ErrShort
		}
		src = netip.AddrFrom4([4]byte(p[12:16]))
		dst = netip.AddrFrom4([4]byte(p[16:20]))
		i.Proto, i.TTL = Proto(p[9]), p[8]
		switch frag := binary.BigEndian.Uint16(p[6:]); {
		case frag&0x1fff != 0:
			i.Fragment = LaterFragment
		case frag&0x2000 != 0:
			i.Fragment = FirstFragment
		}
	case 6:
		if len(p) < v6HeaderLen {
			return Info{}, ErrShort
		}
		i.L4 = v6HeaderLen
		i.Len = v6HeaderLen + int(binary.BigEndian.Uint16(p[4:]))
		src = netip.AddrFrom16([16]byte(p[8:24]))
		dst = netip.AddrFrom16([16]byte(p[24:40]))
		if src.Is4In6() || dst.Is4In6() {
			// They are neither source nor destination on a wire (RFC 6890,
			// table 20), and who compares
			// addresses would take them for those of IPv4.
			return Info{}, ErrHeader
		}
		i.TTL = p[7]
		if err := i.extensions(p, p[6]); err != nil {
			return Info{}, err
		}
	default:
		return Info{}, ErrVersion
	}
	if len(p) < i.Len {
		if !quoted {
			return Info{}, ErrShort
		}
	} else {
		p = p[:i.Len]
	}
	var sport, dport uint16
	if i.Fragment != LaterFragment {
		t := p[min(i.L4, len(p)):]
		switch i.Proto {
		case TCP:
			if !quoted && (len(t) < tcpHeaderLen || int(t[12]>>4)*4 < tcpHeaderLen || int(t[12]>>4)*4 > len(t)) || len(t) < 8 {
				return Info{}, ErrShort
			}
			if len(t) > 13 {
				i.TCPFlags = t[13]
			}
			sport, dport = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
		case UDP:
			if len(t) < udpHeaderLen {
				return Info{}, ErrShort
			}
			sport, dport = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
		case ICMPv4, ICMPv6:
			if (i.Proto == ICMPv6) != src.Is6() {
				return Info{}, ErrHeader
			}
			if len(t) < icmpHeaderLen {
				return Info{}, ErrShort
			}
			i.ICMPType, i.ICMPCode = t[0], t[1]
			if i.Echo() {
				sport = binary.BigEndian.Uint16(t[4:])
				dport = sport
			}
		}
	}
	i.Src, i.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return i, nil
}

// extensions walks the IPv6 extension headers from next on and sets Proto, L4
// and Fragment.
func (i *Info) extensions(p []byte, next uint8) error {
	for range maxExtensions {
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if len(p) < i.L4+8 {
				return ErrShort
			}
			n := (int(p[i.L4+1]) + 1) * 8
			next = p[i.L4]
			i.L4 += n
		case 51: // authentication header counts in four-byte words
			if len(p) < i.L4+8 {
				return ErrShort
			}
			n := (int(p[i.L4+1]) + 2) * 4
			next = p[i.L4]
			i.L4 += n
		case 44:
			if len(p) < i.L4+8 {
				return ErrShort
			}
			switch frag := binary.BigEndian.Uint16(p[i.L4+2:]); {
			case frag&^7 != 0:
				i.Fragment = LaterFragment
			case frag&1 != 0:
				i.Fragment = FirstFragment
			}
			next = p[i.L4]
			i.L4 += 8
			if i.Fragment == LaterFragment {
				i.Proto = Proto(next)
				return i.within(p)
			}
		default:
			i.Proto = Proto(next)
			return i.within(p)
		}
	}
	return ErrExtension
}

func (i *Info) within(p []byte) error {
	if i.L4 > i.Len || i.L4 > len(p) {
		return ErrShort
	}
	return nil
}

// Quoted parses the packet that an ICMP error quotes and returns the offset at
// which it starts in p. A quoted packet may be cut: only its addresses, ports
// and protocol are meaningful.
func Quoted(p []byte, i *Info) (inner Info, at int, ok bool) {
	if !i.ICMPError() || i.Fragment != Whole {
		return Info{}, 0, false
	}
	at = i.L4 + icmpHeaderLen
	if at >= i.Len || i.Len > len(p) {
		return Info{}, 0, false
	}
	inner, err := parse(p[at:i.Len], true)
	return inner, at, err == nil
}
