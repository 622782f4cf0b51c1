// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// The kinds of TCP options that ClampMSS tells apart (RFC 9293 section 3.2).
const (
	optionEnd = 0
	optionNop = 1
	optionMSS = 2
	mssLength = 4
)

// ClampMSS lowers the largest segment that the SYN p announces, if need be, so
// that a packet with such a segment is not longer than mtu. It reports whether it
// changed anything. A SYN without the option means 536 bytes (RFC 9293 section
// 3.7.1), or 1220 for IPv6, which fit anyway.
func ClampMSS(p []byte, i *Info, mtu int) bool {
	if i.Proto != TCP || i.TCPFlags&SYN == 0 || i.Fragment == LaterFragment || i.Len > len(p) {
		return false
	}
	header := v4HeaderLen
	if i.V6() {
		header = v6HeaderLen
	}
	most := mtu - header - tcpHeaderLen
	t := p[i.L4:i.Len]
	if most <= 0 || most > 1<<16-1 || len(t) < tcpHeaderLen {
		return false
	}
	for at, end := tcpHeaderLen, min(int(t[12]>>4)*4, len(t)); at < end; {
		switch t[at] {
		case optionEnd:
			return false
		case optionNop:
			at++
			continue
		}
		if at+1 >= end || t[at+1] < 2 || at+int(t[at+1]) > end {
			return false // malformed; the receiver will say so
		}
		if t[at] != optionMSS || t[at+1] != mssLength {
			at += int(t[at+1])
			continue
		}
		if int(binary.BigEndian.Uint16(t[at+2:])) <= most {
			return false
		}
		// The checksum counts words from the header's start on, in which the value
		// need not be aligned. Behind an odd option there is always a byte left:
		// the header is a multiple of four bytes long.
		from, to := (at+2)&^1, (at+5)&^1
		old := sum(0, t[from:to])
		binary.BigEndian.PutUint16(t[at+2:], uint16(most)) //nolint:gosec // bounded above
		adjust(t, 16, old, sum(0, t[from:to]))
		return true
	}
	return false
}
