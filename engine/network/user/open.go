// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"math/rand/v2"
	"net/netip"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// fromPeer routes a packet that came out of a tunnel.
func (h *hub) fromPeer(p []byte, i *packet.Info, b *batch) {
	if e, ok := h.flows.Get(i); ok {
		h.pass(p, i, e, b)
		return
	}
	if i.ICMPError() {
		related(h.flows, p, i, b, h.reports)
		return
	}
	if !i.NewFlow() || i.Fragment != packet.Whole {
		return
	}
	age := h.f.age.Load()
	src, from := h.source(i.Src.Addr())
	v, ok := h.f.judge(src, i)
	if !ok {
		return
	}
	switch v.Outcome {
	case flow.Deliver:
		if e := h.install(&v, i, from, age); e != nil {
			h.pass(p, i, e, b)
		}
	case flow.Refuse:
		h.refuse(p, i)
	}
}

// pass sends a peer's packet on, or tells the peer why not.
func (h *hub) pass(p []byte, i *packet.Info, e *entry, b *batch) {
	if f := send(p, i, e.Action, b); f != sent {
		h.report(p, i, f, e.Action.out.MTU())
	}
}

// fromStack routes a packet that the hub's own stack sends, and reports whether
// it leaves to a peer of this hub: replies, refusals, and connections that a
// Gateway opens from its address here.
func (h *hub) fromStack(p []byte, i *packet.Info, b *batch) bool {
	e, ok := h.flows.Get(i)
	switch {
	case ok:
		return h.leaves(p, i, e, b)
	case i.ICMPError():
		// One that belongs to no flow is a refusal.
		e, inner, at, ok := quotedFlow(h.flows, p, i, nil)
		return !ok || !translated(p, i, e.Action, &inner, at) || h.leaves(p, i, e, b)
	case i.Proto != packet.TCP:
		return false
	case i.NewFlow() && i.Fragment == packet.Whole:
		e := h.opens(p, i)
		return e != nil && h.leaves(p, i, e, b)
	}
	return i.TCPFlags&packet.RST != 0
}

// leaves reports whether a packet of the hub's own stack goes to a peer of this
// hub; else it is sent on its way.
func (h *hub) leaves(p []byte, i *packet.Info, e *entry, b *batch) bool {
	if e.Action.out == h.stack && e.Action.forward {
		return true
	}
	send(p, i, e.Action, b)
	return false
}

// source says who has an address that a peer of this hub sends from. Only Hosts
// and sites are peers: nobody sends as an Endpoint or a Gateway.
func (h *hub) source(a netip.Addr) (flow.Source, *origin) {
	n := h.net.Load()
	if i := n.Interfaces[a]; i != nil {
		if i.Owner.Kind == model.KindHost {
			return flow.FromInterface(i), &origin{network: n.Name, host: i.Owner.Name}
		}
	} else if l := linkOf(n, a); l != nil {
		return flow.FromLink(l, a), &origin{link: l.Name}
	}
	return flow.Source{Network: n, Addr: a}, &origin{}
}

// linkOf finds the site that has an address.
func linkOf(n *snapshot.Network, a netip.Addr) *snapshot.Link {
	for _, l := range n.Links {
		for _, p := range l.Prefixes {
			if p.Contains(a) {
				return l
			}
		}
	}
	return nil
}

// reports tells whether who has the address from may send ICMP errors about what
// was sent to the address to: it is its own, or a router of the same site.
func (h *hub) reports(from, to netip.Addr) bool {
	if from == to {
		return true
	}
	n := h.net.Load()
	l := linkOf(n, from)
	return l != nil && l == linkOf(n, to)
}

// query asks about the flow that a packet with the tuple t opens.
func query(src flow.Source, t packet.Tuple) (flow.Query, bool) {
	q := flow.Query{Source: src, Dst: t.Dst.Addr(), Port: t.Dst.Port()}
	switch t.Proto {
	case packet.TCP:
		q.Proto = sg.TCP
	case packet.UDP:
		q.Proto = sg.UDP
	case packet.ICMPv4, packet.ICMPv6:
		q.Proto, q.Port = sg.ICMP, 0
	default:
		return q, false
	}
	return q, true
}

// judge asks for the decision about a packet that opens a flow.
func (f *Fabric) judge(src flow.Source, i *packet.Info) (flow.Verdict, bool) {
	q, ok := query(src, i.Tuple)
	if !ok {
		return flow.Verdict{}, false
	}
	v := flow.Judge(f.snap.Load(), q, false)
	if f.opts.Trace != nil {
		f.opts.Trace(&v)
	}
	return v, true
}

// install puts both directions of a flow into the tables of everything that
// sees its packets, and returns the entry for the packet that opens it. It
// returns nil where a table or the source's share of it is full, no port is left
// for NAT, or what was judged is out of date by now: its age is no longer the
// engine's. The sender then tries again.
func (h *hub) install(v *flow.Verdict, i *packet.Info, from *origin, age uint64) *entry {
	from.ends = endsOf(v)
	if v.Target.Kind == flow.ToInterface {
		switch t := v.Target.Interface; {
		case t.Endpoint != nil:
			from.endpoint = t.Endpoint.Name
		case t.Gateway != nil:
			from.node = t.Gateway.Name
		}
	}
	fl := h.flows.NewFlow(i.Proto, from)
	e := h.enter(v, i, fl, from)
	if e == nil || h.f.age.Load() != age {
		fl.End()
		return nil
	}
	return e
}

func (h *hub) enter(v *flow.Verdict, i *packet.Info, fl *conntrack.Flow, from *origin) *entry {
	// Who opened it is a peer, or the stack itself for a Gateway.
	back := action{out: h.stack, forward: from.gateway == ""}
	share := h.shares.of(from, h.f.opts.MaxFlows)
	switch t := &v.Target; t.Kind {
	case flow.ToInterface, flow.ToResolver, flow.ToLink:
		to := h
		if t.Network != nil && t.Network.Name != h.name {
			if to = h.f.hub(t.Network.Name); to == nil {
				return nil
			}
		}
		there := action{out: to.stack, forward: !terminates(t)}
		e := &entry{Flow: fl, Share: share, Action: there}
		// The reply comes up where the packet went: from the peers or the
		// stack of the Network that holds the destination.
		if !h.flows.Add(i.Tuple, e) || !to.flows.Add(i.Reverse(), &entry{Flow: fl, Share: share, Reply: true, Action: back}) {
			return nil
		}
		return e
	case flow.ToGateway, flow.ToEgress:
		// Who has used its share up takes no port either. Nobody uses this entry:
		// the packets of one peer are handled in turn.
		out := action{out: h.f.segment.stack}
		if !h.flows.Add(i.Tuple, &entry{Flow: fl, Share: share, Action: out}) {
			return nil
		}
		var ok bool
		if out.source, ok = h.translate(t.NAT, i, fl, back); !ok {
			return nil
		}
		e := &entry{Flow: fl, Share: share, Action: out}
		if !h.flows.Add(i.Tuple, e) {
			return nil
		}
		return e
	}
	return nil
}

// terminates tells whether a target in a Network is in its hub's own stack.
func terminates(t *flow.Target) bool {
	switch t.Kind {
	case flow.ToResolver:
		return true
	case flow.ToInterface:
		return t.Interface.Endpoint != nil || t.Interface.Gateway != nil
	}
	return false
}

// natTries bounds the search for a free port; the range is large and the
// number of flows to one remote port small.
const natTries = 32

// translate finds a free port of the Network's public address for a flow that
// leaves to the internet segment, and installs the way back. The source port is
// kept where it is free.
func (h *hub) translate(nat netip.Addr, i *packet.Info, fl *conntrack.Flow, back action) (netip.AddrPort, bool) {
	back.dest = i.Src
	port := i.Src.Port()
	for range natTries {
		public := netip.AddrPortFrom(nat, port)
		reply := packet.Tuple{Proto: i.Proto, Src: i.Dst, Dst: public}
		if i.Proto == packet.ICMPv4 || i.Proto == packet.ICMPv6 {
			reply.Src = netip.AddrPortFrom(i.Dst.Addr(), port)
		}
		if h.f.segment.flows.Add(reply, &entry{Flow: fl, Share: h.nat, Reply: true, Action: back}) {
			return public, true
		}
		port = uint16(1024 + rand.IntN(1<<16-1024)) //nolint:gosec // picks a port, guards nothing
	}
	return netip.AddrPort{}, false
}

// refuse answers a packet as a machine with a closed port does.
func (h *hub) refuse(p []byte, i *packet.Info) {
	if out := refusal(p, i); out != nil {
		h.stack.Inject([][]byte{out}, 0)
	}
}

// refusal is a reset for TCP, port unreachable for UDP.
func refusal(p []byte, i *packet.Info) []byte {
	if i.Proto == packet.TCP {
		return packet.AppendReset(nil, p, i)
	}
	return packet.AppendUnreachable(nil, p, i, packet.Port, i.Dst.Addr())
}

// vouched returns the Origin of a connection that one of the engine's own
// listeners accepted.
func vouched(t *table, proto packet.Proto, remote, local netip.AddrPort) (*snapshot.Origin, bool) {
	// The flow is known from either side: a hub's table by the packet that
	// opened it, the segment's by the replies to it.
	if e, ok := t.Peek(packet.Tuple{Proto: proto, Src: remote, Dst: local}); ok {
		return originOf(e, remote, local), true
	}
	if e, ok := t.Peek(packet.Tuple{Proto: proto, Src: local, Dst: remote}); ok {
		return originOf(e, remote, local), true
	}
	return nil, false
}
