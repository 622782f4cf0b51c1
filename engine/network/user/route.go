// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"net/netip"
	"sync"

	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
)

// table is a flow table of this engine.
type table = conntrack.Table[action]

// entry is one direction of a flow.
type entry = conntrack.Entry[action]

// action is what is done with the packets of one direction of a flow.
type action struct {
	// out takes the packet: as something that arrived for it or, with forward,
	// as something that leaves to the peers of its hub.
	out     *stack.Stack
	forward bool
	// source and dest, when valid, replace the packet's own: NAT.
	source, dest netip.AddrPort
}

// batch gathers packets that go the same way, so that each way is entered once
// a batch. The packets are borrowed until flush.
type batch struct {
	act  action
	pkts [][]byte
}

func newBatches() sync.Pool {
	return sync.Pool{New: func() any { return &batch{pkts: make([][]byte, 0, stack.BatchSize)} }}
}

// add sends p by way of a, after the packets before it.
func (b *batch) add(p []byte, a action) {
	if len(b.pkts) > 0 && (b.act.out != a.out || b.act.forward != a.forward) {
		b.flush()
	}
	b.act = a
	b.pkts = append(b.pkts, p)
	if len(b.pkts) == cap(b.pkts) {
		b.flush()
	}
}

// flush hands on what was gathered.
func (b *batch) flush() {
	if len(b.pkts) == 0 {
		return
	}
	if b.act.forward {
		b.act.out.Inject(b.pkts, 0)
	} else {
		b.act.out.Deliver(b.pkts)
	}
	clear(b.pkts)
	b.pkts = b.pkts[:0]
	b.act = action{}
}

// send patches p as a says and adds it to b. What is forwarded passes a router:
// it has to fit into the tunnel and dies when its time to live is over, and a
// connection that it opens is held to segments that fit.
func send(p []byte, i *packet.Info, a action, b *batch) fate {
	if a.forward {
		if i.TTL <= 1 {
			return expired
		}
		if i.Len > a.out.MTU() {
			return tooBig
		}
	}
	if a.source.IsValid() && !packet.SetSrc(p, i, a.source) ||
		a.dest.IsValid() && !packet.SetDst(p, i, a.dest) {
		return lost
	}
	if a.forward {
		packet.DecTTL(p, i)
		if i.Proto == packet.TCP && i.TCPFlags&packet.SYN != 0 {
			packet.ClampMSS(p, i, a.out.MTU())
		}
	}
	b.add(p, a)
	return sent
}

// related sends an ICMP error the way of the replies to the packet it quotes,
// patched as they are, if it belongs to a flow.
func related(t *table, p []byte, i *packet.Info, b *batch, reports func(from, to netip.Addr) bool) {
	e, inner, at, ok := quotedFlow(t, p, i, reports)
	if ok && translated(p, i, e.Action, &inner, at) {
		send(p, i, e.Action, b)
	}
}

// quotedFlow finds the entry of the replies to the packet that an ICMP error
// quotes. An error goes to the sender of what it quotes and nowhere else;
// reports, if set, tells whether its own sender may speak for the receiver.
// Otherwise one flow would open the way for errors, and whatever else they carry,
// to everybody.
func quotedFlow(t *table, p []byte, i *packet.Info, reports func(from, to netip.Addr) bool) (e *entry, inner packet.Info, at int, ok bool) {
	if inner, at, ok = packet.Quoted(p, i); !ok {
		return nil, inner, at, false
	}
	if i.Dst.Addr() != inner.Src.Addr() || reports != nil && !reports(i.Src.Addr(), inner.Dst.Addr()) {
		return nil, inner, at, false
	}
	e, ok = t.Peek(inner.Reverse())
	return e, inner, at, ok
}

// translated patches what an ICMP error quotes as a does with the replies to it.
// It reports false where that is of another family: it cannot be of use.
func translated(p []byte, i *packet.Info, a action, inner *packet.Info, at int) bool {
	return (!a.dest.IsValid() || packet.SetQuoted(p, i, inner, at, a.dest, true)) &&
		(!a.source.IsValid() || packet.SetQuoted(p, i, inner, at, a.source, false))
}
