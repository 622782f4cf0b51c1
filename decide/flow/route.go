// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// route finds the target and reports whether to go on.
func (j *judge) route() bool {
	q := &j.v.Query
	src := &q.Source
	if src.Addr.IsValid() && src.Addr.Is4() != q.Dst.Is4() && !src.Relayed {
		// No packet is like that; only who asks about one meets it.
		return j.noRoute(src.owner(), OtherFamily)
	}
	if src.Network == nil {
		return j.segment(model.Ref{})
	}
	if !j.source() {
		return false
	}
	if !unicast(q.Dst) {
		return j.noRoute(networkRef(src.Network), NotUnicast)
	}
	if src.Outside {
		return j.gatewayOut(src.Interface.Gateway)
	}
	r, ok := src.Network.Routes.Lookup(q.Dst)
	switch {
	case ok && r.Kind == snapshot.RouteLocal:
		return j.local(src.Network, r, RouteLocal, networkRef(src.Network))
	case src.Link != nil:
		// A site reaches the Network it is joined to and nothing through it.
		return j.noRoute(linkRef(src.Link), NotTransitive) && j.elsewhere(q.Dst)
	case ok && r.Kind == snapshot.RouteLink:
		return j.link(r)
	case ok && r.Kind == snapshot.RoutePeering:
		return j.peering(r)
	}
	return j.internet()
}

// owner is the resource that a flow comes from; zero on the internet.
func (s *Source) owner() model.Ref {
	switch {
	case s.Interface != nil:
		return s.Interface.Owner
	case s.Link != nil:
		return linkRef(s.Link)
	case s.Network != nil:
		return networkRef(s.Network)
	}
	return model.Ref{}
}

// source checks that the packet comes from where its source address belongs.
func (j *judge) source() bool {
	src := &j.v.Query.Source
	switch {
	case src.Interface != nil:
		if src.Interface.Addr == src.Addr {
			return true
		}
		return j.noRoute(src.Interface.Owner, ForeignSource)
	case src.Link != nil:
		if j.v.Query.down(src.Link) && !j.add(Step{
			Layer: LayerRoute, Outcome: Stop, Code: RouteLinkDown, Cause: LinkDown, Component: linkRef(src.Link),
		}) {
			return false
		}
		for _, p := range src.Link.Prefixes {
			if p.Contains(src.Addr) {
				return true
			}
		}
		return j.noRoute(linkRef(src.Link), ForeignSource)
	}
	j.noRoute(networkRef(src.Network), ForeignSource)
	return false
}

// noRoute records that the flow leads nowhere.
func (j *judge) noRoute(whose model.Ref, c Cause) bool {
	return j.add(Step{Layer: LayerRoute, Outcome: Stop, Code: RouteNone, Cause: c, Component: whose})
}

// local looks for an address of n: the source's own Network or a peer of it.
func (j *judge) local(n *snapshot.Network, r *snapshot.Route, code string, whose model.Ref) bool {
	t, dst := &j.v.Target, j.v.Query.Dst
	t.Network = n
	step := Step{Layer: LayerRoute, Code: code, Component: whose, Route: r}
	step.Overlap = overlap(j.v.Query.Source.Network, r, dst)
	if i := n.Interfaces[dst]; i != nil {
		t.Kind, t.Interface = ToInterface, i
		return j.add(step)
	}
	for _, a := range n.Resolver {
		if a == dst {
			t.Kind = ToResolver
			return j.add(step)
		}
	}
	step.Outcome, step.Code, step.Cause = Stop, RouteNone, Unassigned
	if !step.Overlap.IsZero() {
		step.Code, step.Cause = RouteOverlap, Overlapped
	}
	return j.add(step)
}

// link leaves through a Link of the source's Network.
func (j *judge) link(r *snapshot.Route) bool {
	n := j.v.Query.Source.Network
	j.v.Target = Target{Kind: ToLink, Network: n, Link: r.Link}
	step := Step{
		Layer: LayerRoute, Code: RouteLink, Component: linkRef(r.Link), Route: r,
		Overlap: overlap(n, r, j.v.Query.Dst),
	}
	return j.add(step)
}

// carried asks whether the Link that the flow leaves by carries anything. The
// hub learns that last, when it has let the packet out.
func (j *judge) carried() bool {
	t := &j.v.Target
	if t.Kind != ToLink || !j.v.Query.down(t.Link) {
		return true
	}
	return j.add(Step{Layer: LayerRoute, Outcome: Stop, Code: RouteLinkDown, Cause: LinkDown, Component: linkRef(t.Link)})
}

// peering goes to a peer, and no further than its own addresses.
func (j *judge) peering(r *snapshot.Route) bool {
	far, ok := r.Peer.Routes.Lookup(j.v.Query.Dst)
	if !ok || far.Kind != snapshot.RouteLocal {
		return j.noRoute(r.Source, NotTransitive) && j.elsewhere(j.v.Query.Dst)
	}
	return j.local(r.Peer, r, RoutePeering, r.Source)
}

// internet leaves the Network for the internet segment.
func (j *judge) internet() bool {
	src := &j.v.Query.Source
	n, dst := src.Network, j.v.Query.Dst
	if g := src.Interface.Gateway; g != nil {
		return j.gatewayOut(g)
	}
	if !j.onSegment(dst) && !Egress(&j.s.Internet, dst) {
		if !j.noRoute(networkRef(n), NoRoute) {
			return false
		}
		return j.elsewhere(dst)
	}
	subnet := src.Interface.Subnet
	if subnet == nil || !subnet.InternetRoute {
		whose := networkRef(n)
		if subnet != nil {
			whose = subnetRef(subnet)
		}
		if !j.noRoute(whose, NoInternetRoute) {
			return false
		}
	}
	if !n.InternetGateway {
		if !j.noRoute(networkRef(n), NoInternetGateway) {
			return false
		}
	} else if nat := natAddress(n, dst); nat.IsValid() {
		j.v.Target.NAT = nat
	} else if !j.noRoute(networkRef(n), NoNAT) {
		return false
	}
	return j.segment(networkRef(n))
}

// gatewayOut leaves a Gateway's node for the internet segment: from its own
// public address, whatever routes its Subnet has, and only in external mode. An
// interface for outbound integration leads into its Network and its
// neighbours alone.
func (j *judge) gatewayOut(g *snapshot.Gateway) bool {
	if confined(j.v.Query.Source.Interface) {
		return j.noRoute(gatewayRef(g), StaysInside) && j.elsewhere(j.v.Query.Dst)
	}
	for _, a := range g.Public {
		if a.Is4() == j.v.Query.Dst.Is4() {
			j.v.Target.NAT = a
			return j.segment(gatewayRef(g))
		}
	}
	return j.noRoute(gatewayRef(g), NoNAT)
}

// segment finds an address on the internet segment or beyond. whose is the
// Network that the flow leaves, zero for callers on the internet.
func (j *judge) segment(whose model.Ref) bool {
	t, dst := &j.v.Target, j.v.Query.Dst
	step := Step{Layer: LayerRoute, Code: RouteInternet, Component: whose}
	if g := j.s.Internet.Gateways[dst]; g != nil {
		if src := &j.v.Query.Source; src.Server && !src.Addr.IsValid() {
			// The server's own stack has both families, the Gateway on the segment one.
			return j.noRoute(whose, OtherFamily)
		}
		t.Kind, t.Gateway = ToGateway, g
		if len(g.Nodes) > 0 {
			t.Interface = g.Nodes[0]
			if n := t.Interface.Network; j.v.Query.Source.Network == nil && near(n, j.v.Query.Source.Addr) && !j.noRoute(networkRef(n), InsideAddress) {
				return false
			}
		}
		return j.passOnce(step)
	}
	switch {
	case j.s.Internet.NAT[dst] != nil:
		return j.noRoute(networkRef(j.s.Internet.NAT[dst]), NATAddress)
	case j.onSegment(dst):
		return j.noRoute(whose, Unassigned)
	case !Egress(&j.s.Internet, dst):
		cause := EgressForbidden
		if src := &j.v.Query.Source; src.Network == nil && !src.Server && dst.IsPrivate() {
			cause = PrivateAddress
		}
		return j.noRoute(whose, cause)
	}
	t.Kind = ToEgress
	return j.passOnce(step)
}

// near tells whether an address is of n, its peers or its Links: what groups
// know as VirtualNetwork. Nobody comes with one from the internet.
func near(n *snapshot.Network, a netip.Addr) bool {
	if contains(n.Prefixes, a) {
		return true
	}
	for _, p := range n.Peers {
		if contains(p.Prefixes, a) {
			return true
		}
	}
	for _, l := range n.Links {
		if contains(l.Prefixes, a) {
			return true
		}
	}
	return false
}

// passOnce adds a route step unless the route was found wanting already.
func (j *judge) passOnce(step Step) bool {
	if j.stopped {
		return j.every
	}
	return j.add(step)
}

// elsewhere looks for an address that no route leads to, so that what else is
// in the way there is told too. It is taken only if one Network alone has it.
func (j *judge) elsewhere(dst netip.Addr) bool {
	var found *snapshot.Interface
	for _, n := range j.s.Networks {
		if i := n.Interfaces[dst]; i != nil {
			if found != nil {
				return true
			}
			found = i
		}
	}
	if found != nil {
		j.lost = true
		j.v.Target = Target{Kind: ToInterface, Network: found.Network, Interface: found}
	}
	return true
}

func (j *judge) onSegment(a netip.Addr) bool {
	if j.s.Internet.Gateways[a] != nil || j.s.Internet.NAT[a] != nil {
		return true
	}
	for _, p := range j.s.Internet.Prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// natAddress is n's address for NAT of the family of dst.
func natAddress(n *snapshot.Network, dst netip.Addr) netip.Addr {
	for _, a := range n.NAT {
		if a.Is4() == dst.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// overlap names what else claims dst but lost to r.
func overlap(n *snapshot.Network, r *snapshot.Route, dst netip.Addr) model.Ref {
	if r.Shadows.IsZero() {
		return model.Ref{}
	}
	for _, l := range n.Links {
		if l != r.Link && contains(l.Prefixes, dst) {
			return linkRef(l)
		}
	}
	for _, p := range n.Peers {
		if p != r.Peer && contains(p.Prefixes, dst) {
			return r.Shadows
		}
	}
	return model.Ref{}
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// comeBack checks that answers find their way: the destination's Network has
// routes of its own, and an overlapping prefix can claim the source's address.
func (j *judge) comeBack() bool {
	src, t := &j.v.Query.Source, &j.v.Target
	if t.Network == nil || src.Network == nil || t.Kind == ToLink || j.lost {
		return true // NAT, or the site beyond the Link, answers to the hub
	}
	if src.Link == nil && src.Network == t.Network {
		return true
	}
	r, ok := t.Network.Routes.Lookup(src.Addr)
	step := Step{Layer: LayerReturn, Component: networkRef(t.Network), Route: r}
	switch {
	case ok && src.Link != nil && r.Kind == snapshot.RouteLink && r.Link == src.Link:
		step.Code = RouteLink
	case ok && src.Link == nil && r.Kind == snapshot.RoutePeering && r.Peer == src.Network:
		step.Code = RoutePeering
	case ok:
		step.Outcome, step.Code, step.Cause = Stop, RouteOverlap, Overlapped
		step.Overlap = networkRef(src.Network)
		if src.Link != nil {
			step.Overlap = linkRef(src.Link)
		}
	default:
		step.Outcome, step.Code, step.Cause = Stop, RouteNone, NoRoute
	}
	if step.Outcome == Stop {
		j.back = true
	}
	return j.add(step)
}
