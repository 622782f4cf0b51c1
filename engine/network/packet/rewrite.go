// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"net/netip"
)

// sum adds b to a ones' complement sum that is not folded yet.
func sum(s uint64, b []byte) uint64 {
	for len(b) >= 8 {
		v := binary.BigEndian.Uint64(b)
		s += v>>32 + v&0xffffffff
		b = b[8:]
	}
	for len(b) >= 2 {
		s += uint64(b[0])<<8 | uint64(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// pseudo sums the pseudo header that covers length transport bytes.
func pseudo(src, dst netip.Addr, proto Proto, length int) uint64 {
	s := uint64(proto) + uint64(length)
	return sumAddr(sumAddr(s, src), dst)
}

func sumAddr(s uint64, a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return sum(s, b[:])
	}
	b := a.As16()
	return sum(s, b[:])
}

// adjust patches the checksum at p[at:] for bytes that summed to from and now sum
// to to (RFC 1624, equation 3).
func adjust(p []byte, at int, from, to uint64) {
	c := binary.BigEndian.Uint16(p[at:])
	binary.BigEndian.PutUint16(p[at:], ^fold(uint64(^c)+uint64(^fold(from))+uint64(fold(to))))
}

// checksumAt returns the offset of the transport checksum in p, or -1 if this
// packet carries none, and whether the pseudo header counts into it.
func checksumAt(p []byte, i *Info) (at int, withPseudo bool) {
	if i.Fragment == LaterFragment {
		return -1, false
	}
	switch i.Proto {
	case TCP:
		at, withPseudo = i.L4+16, true
	case UDP:
		at, withPseudo = i.L4+6, true
	case ICMPv4:
		at = i.L4 + 2
	case ICMPv6:
		at, withPseudo = i.L4+2, true
	default:
		return -1, false
	}
	if at+2 > len(p) {
		return -1, false
	}
	if i.Proto == UDP && !i.V6() && p[at] == 0 && p[at+1] == 0 {
		return -1, false // the sender computed none
	}
	return at, withPseudo
}

// SetSrc rewrites the source address and port of p, which parsed as i, keeps the
// checksums right and updates i. For an ICMP echo the port is the identifier;
// where the packet has no ports, to's port is ignored. It reports false, having
// changed nothing, if the address families differ.
func SetSrc(p []byte, i *Info, to netip.AddrPort) bool { return rewrite(p, i, to, true) }

// SetDst is SetSrc for the destination.
func SetDst(p []byte, i *Info, to netip.AddrPort) bool { return rewrite(p, i, to, false) }

func rewrite(p []byte, i *Info, to netip.AddrPort, source bool) bool {
	addr := to.Addr().Unmap()
	from := i.Dst
	if source {
		from = i.Src
	}
	if addr.Is4() != from.Addr().Is4() {
		return false
	}
	port := patch(p, i, addr, to.Port(), source)
	set := netip.AddrPortFrom(addr, port)
	if i.Echo() {
		// One identifier serves both directions.
		i.Src = netip.AddrPortFrom(i.Src.Addr(), port)
		i.Dst = netip.AddrPortFrom(i.Dst.Addr(), port)
	}
	if source {
		i.Src = set
	} else {
		i.Dst = set
	}
	return true
}

// patch writes address and port and returns the port that stands in the packet
// afterwards.
func patch(p []byte, i *Info, addr netip.Addr, port uint16, source bool) uint16 {
	oldPort := i.Dst.Port()
	if source {
		oldPort = i.Src.Port()
	}
	var at, n int
	switch {
	case addr.Is4() && source:
		at, n = 12, 4
	case addr.Is4():
		at, n = 16, 4
	case source:
		at, n = 8, 16
	default:
		at, n = 24, 16
	}
	oldAddr := sum(0, p[at:at+n])
	if addr.Is4() {
		b := addr.As4()
		copy(p[at:], b[:])
	} else {
		b := addr.As16()
		copy(p[at:], b[:])
	}
	newAddr := sum(0, p[at:at+n])
	if addr.Is4() {
		adjust(p, 10, oldAddr, newAddr)
	}
	portAt := -1
	if i.Fragment != LaterFragment {
		switch {
		case (i.Proto == TCP || i.Proto == UDP) && source:
			portAt = i.L4
		case i.Proto == TCP || i.Proto == UDP:
			portAt = i.L4 + 2
		case i.Echo():
			portAt = i.L4 + 4
		}
	}
	sumAt, withPseudo := checksumAt(p, i)
	if sumAt >= 0 && withPseudo {
		adjust(p, sumAt, oldAddr, newAddr)
	}
	if portAt < 0 {
		return 0
	}
	binary.BigEndian.PutUint16(p[portAt:], port)
	if sumAt >= 0 {
		adjust(p, sumAt, uint64(oldPort), uint64(port))
		if i.Proto == UDP && p[sumAt] == 0 && p[sumAt+1] == 0 {
			p[sumAt], p[sumAt+1] = 0xff, 0xff // zero means "none" (RFC 768)
		}
	}
	return port
}

// SetQuoted rewrites one side of the packet that the ICMP error p quotes, so that
// the receiver of the error recognises its own flow, and repairs the error's own
// checksum. inner and at come from Quoted. The quoted transport checksum is
// patched where it was quoted.
func SetQuoted(p []byte, i, inner *Info, at int, to netip.AddrPort, source bool) bool {
	if !rewrite(p[at:i.Len], inner, to, source) {
		return false
	}
	Checksum(p, i)
	return true
}

// DecTTL lowers the hop limit by one. It reports false, and leaves the packet
// alone, if the packet may travel no further.
func DecTTL(p []byte, i *Info) bool {
	if i.TTL <= 1 {
		return false
	}
	i.TTL--
	if i.V6() {
		p[7] = i.TTL
		return true
	}
	adjust(p, 10, uint64(p[8])<<8, uint64(i.TTL)<<8)
	p[8] = i.TTL
	return true
}

// Checksum computes the transport checksum of a whole packet afresh.
func Checksum(p []byte, i *Info) {
	at, withPseudo := checksumAt(p, i)
	if at < 0 || i.Fragment != Whole || i.Len > len(p) {
		return
	}
	p[at], p[at+1] = 0, 0
	var s uint64
	if withPseudo {
		s = pseudo(i.Src.Addr(), i.Dst.Addr(), i.Proto, i.Len-i.L4)
	}
	c := ^fold(sum(s, p[i.L4:i.Len]))
	if c == 0 && i.Proto == UDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(p[at:], c)
}

// ChecksumOK reports whether the header and transport checksums of p are right.
// Transport checksums of fragments cannot be verified and count as right.
func ChecksumOK(p []byte, i *Info) bool {
	if !i.V6() && fold(sum(0, p[:int(p[0]&15)*4])) != 0xffff {
		return false
	}
	at, withPseudo := checksumAt(p, i)
	if at < 0 || i.Fragment != Whole || i.Len > len(p) {
		return true
	}
	var s uint64
	if withPseudo {
		s = pseudo(i.Src.Addr(), i.Dst.Addr(), i.Proto, i.Len-i.L4)
	}
	return fold(sum(s, p[i.L4:i.Len])) == 0xffff
}
