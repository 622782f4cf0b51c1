// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// controlSize holds the segment size and the source address of a message.
var controlSize = unix.CmsgSpace(4) + unix.CmsgSpace(unix.SizeofInet6Pktinfo)

// source is the local address that a packet came in by. A socket at an unspecified
// address answers from it, else a host with several addresses would answer from
// another one than the peer called.
type source struct {
	addr  netip.Addr
	iface uint32 // only for link-local addresses, which mean nothing without it
}

func newSource(a netip.Addr, iface uint32) source {
	a = a.Unmap()
	if !a.IsLinkLocalUnicast() {
		iface = 0
	}
	return source{addr: a, iface: iface}
}

// setOptions enables what the kernel offers: trains in both directions, and, for a
// socket at any address, the address each packet came to.
func setOptions(c *net.UDPConn, at netip.Addr) (gso, gro bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return false, false
	}
	_ = rc.Control(func(fd uintptr) {
		f := int(fd)
		_, err := unix.GetsockoptInt(f, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		gso = err == nil
		gro = unix.SetsockoptInt(f, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
		if !at.IsUnspecified() {
			return
		}
		// Best effort: without it the kernel picks the source.
		if at.Is4() {
			_ = unix.SetsockoptInt(f, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			_ = unix.SetsockoptInt(f, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	return gso, gro
}

// gsoRefused reports whether the interface refuses trains: EIO is a card without
// checksum offload.
func gsoRefused(err error) bool { return errors.Is(err, unix.EIO) }

// trainTooWide reports whether the segments of a train are above the path MTU,
// where single datagrams would be cut into fragments. EMSGSIZE is what kernels say
// in place of EINVAL since 6.14.
func trainTooWide(err error) bool {
	return errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EINVAL)
}

// header appends a control message header for n bytes and returns where its data
// begins.
func header(oob []byte, level, typ int32, n int) ([]byte, []byte) {
	at := len(oob)
	oob = oob[:at+unix.CmsgSpace(n)]
	clear(oob[at:])
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(oob[at:], uint64(unix.CmsgLen(n)))
	} else {
		binary.NativeEndian.PutUint32(oob[at:], uint32(unix.CmsgLen(n)))
	}
	binary.NativeEndian.PutUint32(oob[at+unix.SizeofCmsghdr-8:], uint32(level))
	binary.NativeEndian.PutUint32(oob[at+unix.SizeofCmsghdr-4:], uint32(typ))
	return oob, oob[at+unix.CmsgLen(0):]
}

func appendSegmentSize(oob []byte, size int) []byte {
	oob, data := header(oob, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
	binary.NativeEndian.PutUint16(data, uint16(size))
	return oob
}

func appendSource(oob []byte, e *endpoint) []byte {
	a := e.src.addr
	switch {
	case !a.IsValid() || e.anySrc.Load():
		return oob
	case a.Is4():
		oob, data := header(oob, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		b := a.As4()
		binary.NativeEndian.PutUint32(data, e.src.iface)
		copy(data[4:], b[:])
		return oob
	default:
		oob, data := header(oob, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		b := a.As16()
		copy(data, b[:])
		binary.NativeEndian.PutUint32(data[16:], e.src.iface)
		return oob
	}
}

// parseControl reads the segment size (zero if the message is one datagram) and the
// local address.
func parseControl(oob []byte) (size int, src source) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return size, src
		}
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			size = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			src = newSource(netip.AddrFrom4([4]byte(data[4:8])), binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			src = newSource(netip.AddrFrom16([16]byte(data[:16])), binary.NativeEndian.Uint32(data[16:]))
		}
		oob = rest
	}
	return size, src
}
