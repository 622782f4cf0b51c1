// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// networks compiles Networks, Subnets, Links and Peerings, without routes and
// groups.
func (b *build) networks() {
	for _, n := range all[*model.Network](b) {
		b.network(n)
	}
	for _, s := range all[*model.Subnet](b) {
		b.subnet(s)
	}
	for _, l := range all[*model.Link](b) {
		b.link(l)
	}
	for _, p := range all[*model.Peering](b) {
		b.peering(p)
	}
}

func (b *build) network(n *model.Network) {
	x := &snapshot.Network{
		Name: n.Metadata.Name, ID: n.Status.ID,
		InternetGateway: n.Spec.InternetGateway,
		Interfaces:      map[netip.Addr]*snapshot.Interface{},
		Routes:          &snapshot.Routes{},
		View:            &snapshot.View{Zones: map[string]*snapshot.Zone{}},
	}
	families := map[bool]bool{}
	for _, c := range n.Spec.CIDRs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			b.fail(n, "BadPrefix", err)
			return
		}
		p = p.Masked()
		x.Prefixes = append(x.Prefixes, p)
		if is4 := p.Addr().Is4(); !families[is4] {
			families[is4] = true
			x.Resolver = append(x.Resolver, p.Addr().Next().Next())
		}
	}
	if n.Spec.InternetGateway && n.Status.PublicAddress != "" {
		x.NAT = addrs([]string{n.Status.PublicAddress})
		for _, a := range x.NAT {
			b.out.Internet.NAT[a] = x
		}
	}
	if n.Spec.DNS != nil {
		for _, f := range addrs(n.Spec.DNS.Forward) {
			x.Forward = append(x.Forward, netip.AddrPortFrom(f, 53))
		}
	}
	if b.opts.Hub != nil {
		x.Hub = b.opts.Hub(x.Name)
	}
	b.out.Networks[x.Name] = x
}

func (b *build) subnet(s *model.Subnet) {
	n := b.out.Networks[s.Spec.Network]
	if n == nil {
		b.absent(s, "spec.network", model.KindNetwork, s.Spec.Network)
		return
	}
	p, err := netip.ParsePrefix(s.Spec.CIDR)
	if err != nil {
		b.fail(s, "BadPrefix", err)
		return
	}
	x := &snapshot.Subnet{
		Name: s.Metadata.Name, ID: s.Status.ID, Network: n, Prefix: p.Masked(),
		InternetRoute: s.Spec.InternetRoute,
	}
	n.Subnets = append(n.Subnets, x)
	b.subnets[x.Name] = x
}

func (b *build) link(l *model.Link) {
	n := b.out.Networks[l.Spec.Network]
	if n == nil {
		b.absent(l, "spec.network", model.KindNetwork, l.Spec.Network)
		return
	}
	x := &snapshot.Link{
		Name: l.Metadata.Name, ID: l.Status.ID, Type: l.Spec.Type, Network: n,
		PublicKey: firstOf(l.Spec.PublicKey, l.Status.PublicKey), Remote: l.Spec.Endpoint,
	}
	for _, c := range l.Spec.CIDRs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			b.fail(l, "BadPrefix", err)
			return
		}
		x.Prefixes = append(x.Prefixes, p.Masked())
	}
	n.Links = append(n.Links, x)
	b.out.Links[x.Name] = x
}

func (b *build) peering(p *model.Peering) {
	if len(p.Spec.Networks) != 2 {
		b.failf(p, "BadNetworks", "spec.networks: a Peering joins exactly two Networks, not %d", len(p.Spec.Networks))
		return
	}
	var ends [2]*snapshot.Network
	for i, name := range p.Spec.Networks {
		if ends[i] = b.out.Networks[name]; ends[i] == nil {
			b.absent(p, "spec.networks", model.KindNetwork, name)
			return
		}
	}
	ends[0].Peers = append(ends[0].Peers, ends[1])
	ends[1].Peers = append(ends[1].Peers, ends[0])
}

// interfaces gives every Host and Endpoint its interface.
func (b *build) interfaces() {
	for _, h := range all[*model.Host](b) {
		s := b.subnets[h.Spec.Subnet]
		if s == nil {
			b.absent(h, "spec.subnet", model.KindSubnet, h.Spec.Subnet)
			continue
		}
		as := addrs(h.Status.Addresses)
		if len(as) == 0 {
			b.failf(h, "NoAddress", "no address was assigned in Subnet/%s", s.Name)
			continue
		}
		i := &snapshot.Interface{
			Owner: model.RefOf(h), Network: s.Network, Subnet: s, Addr: as[0],
			PublicKey: firstOf(h.Spec.PublicKey, h.Status.PublicKey),
		}
		if b.attach(h, i, h.Spec.SecurityGroups) {
			b.out.Hosts[h.Metadata.Name] = i
		}
	}
	for _, e := range all[*model.Endpoint](b) {
		b.endpoint(e)
	}
}

// attach puts an interface into its Network and notes whose groups it carries.
func (b *build) attach(o model.Object, i *snapshot.Interface, groups []string) bool {
	if other := i.Network.Interfaces[i.Addr]; other != nil {
		b.failf(o, "AddressInUse", "address %s is already %s's", i.Addr, other.Owner)
		return false
	}
	for _, g := range groups {
		if _, ok := get[*model.SecurityGroup](b, g); !ok {
			b.absent(o, "spec.securityGroups", model.KindSecurityGroup, g)
			return false
		}
	}
	i.Network.Interfaces[i.Addr] = i
	if len(groups) > 0 {
		b.carried[i] = groups
	}
	for _, g := range groups {
		b.members[g] = append(b.members[g], i)
	}
	return true
}

// routes fills each Network's route table: the longest prefix wins, but what is
// local stays local, and at one prefix a Link wins over a Peering.
func (b *build) routes() {
	for _, n := range b.out.Networks {
		for _, prefix := range n.Prefixes {
			n.Routes.Insert(prefix, &snapshot.Route{
				Kind: snapshot.RouteLocal, Prefix: prefix, Source: model.Ref{Kind: model.KindNetwork, Name: n.Name},
			})
		}
	}
	for _, l := range all[*model.Link](b) {
		x := b.out.Links[l.Metadata.Name]
		if x == nil {
			continue
		}
		for _, prefix := range x.Prefixes {
			b.route(x.Network, &snapshot.Route{Kind: snapshot.RouteLink, Prefix: prefix, Link: x, Source: model.RefOf(l)})
		}
	}
	for _, p := range all[*model.Peering](b) {
		if len(p.Spec.Networks) != 2 {
			continue
		}
		x, y := b.out.Networks[p.Spec.Networks[0]], b.out.Networks[p.Spec.Networks[1]]
		if x == nil || y == nil {
			continue
		}
		for _, way := range [][2]*snapshot.Network{{x, y}, {y, x}} {
			for _, prefix := range way[1].Prefixes {
				b.route(way[0], &snapshot.Route{
					Kind: snapshot.RoutePeering, Prefix: prefix, Peer: way[1], Source: model.RefOf(p),
				})
			}
		}
	}
}

// route adds r unless what is there already keeps all of its prefix; either
// way the loser is noted.
func (b *build) route(n *snapshot.Network, r *snapshot.Route) {
	for prefix, held := range n.Routes.Around(r.Prefix) {
		if held.Kind == snapshot.RouteLocal || prefix == r.Prefix {
			held.Shadows = r.Source
			b.note(r.Source, model.Condition{
				Type: ConditionAdvice, Status: true, Reason: "OverlappingRoute",
				Message: r.Prefix.String() + " is not routed from Network/" + n.Name + ": " + held.Source.String() + " has " + prefix.String() + " there; give one of them other addresses",
			})
			return
		}
	}
	for _, held := range n.Routes.Within(r.Prefix) {
		held.Shadows = r.Source
	}
	n.Routes.Insert(r.Prefix, r)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
