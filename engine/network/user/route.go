// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"net/netip"
	"sync"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
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

// origin is what a flow knows of who opened it. It is the Value of a Flow.
type origin struct {
	network, host, link, endpoint, gateway string
	ends                                   ends
}

// ends are the two machines of a flow, and the address of the Network under
// which the one appears to the other. They tell whether addresses still mean who
// they meant when the flow was let through.
type ends struct {
	from, to party
	nat      netip.Addr
}

// party is a machine: whose address it has, and which key it has shown.
type party struct {
	owner        model.Ref
	network, key string
}

func endsOf(v *flow.Verdict) ends {
	e := ends{nat: v.Target.NAT}
	switch s := &v.Query.Source; {
	case s.Interface != nil:
		e.from = interfaceParty(s.Interface)
	case s.Link != nil:
		e.from = linkParty(s.Link)
	}
	switch t := &v.Target; t.Kind {
	case flow.ToInterface:
		e.to = interfaceParty(t.Interface)
	case flow.ToLink:
		e.to = linkParty(t.Link)
	case flow.ToResolver:
		e.to.network = t.Network.Name
	case flow.ToGateway:
		e.to = party{owner: model.Ref{Kind: model.KindGateway, Name: t.Gateway.Name}, key: t.Gateway.ID}
	}
	return e
}

func interfaceParty(i *snapshot.Interface) party {
	p := party{owner: i.Owner, network: i.Network.Name, key: i.PublicKey}
	if i.Endpoint != nil {
		p.key = i.Endpoint.ID
	}
	return p
}

func linkParty(l *snapshot.Link) party {
	return party{owner: model.Ref{Kind: model.KindLink, Name: l.Name}, network: l.Network.Name, key: l.PublicKey}
}

// caller is who a connection is counted for.
func caller(o *snapshot.Origin) model.Ref {
	switch {
	case o.Host != "":
		return model.Ref{Kind: model.KindHost, Name: o.Host}
	case o.Link != "":
		return model.Ref{Kind: model.KindLink, Name: o.Link}
	}
	return model.Ref{}
}

// originOf turns a flow's origin into that of a connection.
func originOf(e *entry, remote, local netip.AddrPort) *snapshot.Origin {
	o := &snapshot.Origin{Source: remote, Local: local}
	if x, ok := e.Flow.Value.(*origin); ok {
		o.Network, o.Host, o.Link, o.Endpoint, o.Gateway = x.network, x.host, x.link, x.endpoint, x.gateway
	}
	return o
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

// send patches p as a says and adds it to b. What is forwarded passes a router,
// and dies there when its time to live is over.
func send(p []byte, i *packet.Info, a action, b *batch) {
	if a.source.IsValid() && !packet.SetSrc(p, i, a.source) {
		return
	}
	if a.dest.IsValid() && !packet.SetDst(p, i, a.dest) {
		return
	}
	if a.forward && !packet.DecTTL(p, i) {
		return
	}
	b.add(p, a)
}

// related finds the way of an ICMP error: that of the replies to the packet it
// quotes, patched as they are. It reports whether the flow is known. An error
// goes to the sender of what it quotes and nowhere else; reports, if set, tells
// whether its own sender may speak for the receiver. Otherwise one flow would
// open the way for errors, and whatever else they carry, to everybody.
func related(t *table, p []byte, i *packet.Info, b *batch, reports func(from, to netip.Addr) bool) bool {
	inner, at, ok := packet.Quoted(p, i)
	if !ok {
		return false
	}
	if i.Dst.Addr() != inner.Src.Addr() || reports != nil && !reports(i.Src.Addr(), inner.Dst.Addr()) {
		return false
	}
	e, ok := t.Peek(inner.Reverse())
	if !ok {
		return false
	}
	a := e.Action
	if a.dest.IsValid() && !packet.SetQuoted(p, i, &inner, at, a.dest, true) ||
		a.source.IsValid() && !packet.SetQuoted(p, i, &inner, at, a.source, false) {
		return true // of another family: it cannot be of use
	}
	send(p, i, a, b)
	return true
}
