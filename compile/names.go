// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"sort"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// ttl is how long answers about Postern's own names may be kept, in seconds.
// It is short because a change of an Endpoint is meant to be seen soon.
const ttl = 60

// names builds the public view and each Network's own.
func (b *build) names() {
	base := b.zone(b.out.Public, b.opts.Base, model.Ref{}, false)
	for _, name := range sortedKeys(b.out.Gateways) {
		b.gatewayNames(base, b.out.Gateways[name])
	}
	for _, m := range all[*model.API](b) {
		a := b.out.APIs[m.Metadata.Name]
		if a == nil {
			continue
		}
		owner := model.Ref{Kind: model.KindAPI, Name: a.Name}
		if a.Type != model.Private {
			addAddrs(base, a.Host, served(a.Gateway), owner)
		}
		for _, e := range a.Endpoints {
			addAddrs(base, associatedName(a, e), endpointAddrs(e), owner)
		}
	}
	for _, name := range sortedKeys(b.out.Endpoints) {
		e := b.out.Endpoints[name]
		addAddrs(base, e.Host, endpointAddrs(e), model.Ref{Kind: model.KindEndpoint, Name: e.Name})
	}
	b.privateDNS()
	b.injected()
	b.domainNames()
	for _, z := range all[*model.Zone](b) {
		b.privateZone(z)
	}
}

// gatewayNames gives a Gateway's own host names their public records: none to
// what an internal one serves in its Network alone.
func (b *build) gatewayNames(base *snapshot.Zone, g *snapshot.Gateway) {
	owner := model.Ref{Kind: model.KindGateway, Name: g.Name}
	addAddrs(base, g.Host, served(g), owner)
	for _, c := range named {
		as := served(g)
		switch c {
		case snapshot.ComponentManagement:
			as = g.Public
		case snapshot.ComponentConfiguration:
			as = g.Configuration
		}
		addAddrs(base, componentHost(g, c, b.opts.Base), as, owner)
	}
}

func componentHost(g *snapshot.Gateway, c snapshot.Component, base string) string {
	return g.Name + "." + string(c) + "." + base
}

// served is where the internet finds what g serves: nowhere in internal mode.
func served(g *snapshot.Gateway) []netip.Addr {
	if g.Mode == model.ModeInternal {
		return nil
	}
	return g.Public
}

// injected gives the Networks of injected Gateways the private addresses of
// what these serve, a zone a name, so that no other name is shadowed. Where an
// Endpoint with private DNS answers for a name already, it goes on to.
func (b *build) injected() {
	alias := func(g *snapshot.Gateway, name string, owner model.Ref) {
		for _, i := range g.Nodes {
			v := i.Network.View
			if _, suffix, _ := strings.Cut(name, "."); v.Zones[name] != nil || owner.Kind == model.KindAPI && v.Zones[suffix] != nil {
				continue
			}
			addAddrs(b.alone(v, name, owner, true), name, []netip.Addr{i.Addr}, owner)
		}
	}
	for _, name := range sortedKeys(b.out.Gateways) {
		g := b.out.Gateways[name]
		if !g.Injected() {
			continue
		}
		owner := model.Ref{Kind: model.KindGateway, Name: g.Name}
		alias(g, g.Host, owner)
		for _, c := range named {
			alias(g, componentHost(g, c, b.opts.Base), owner)
		}
		for _, id := range sortedKeys(g.APIs) {
			if a := g.APIs[id]; a.Type != model.Private {
				alias(g, a.Host, model.Ref{Kind: model.KindAPI, Name: a.Name})
			}
		}
	}
}

// privateDNS gives the Networks of Endpoints with private DNS a zone in which
// every execute-api name of the region is the Endpoint's. Names of one API and
// one Endpoint keep their own addresses in it.
func (b *build) privateDNS() {
	for _, name := range sortedKeys(b.out.Endpoints) {
		e := b.out.Endpoints[name]
		if !e.PrivateDNS {
			continue
		}
		owner := model.Ref{Kind: model.KindEndpoint, Name: e.Name}
		suffix := "execute-api." + e.Gateway.Region + "." + b.opts.Base
		z := b.zone(e.Network.View, suffix, owner, true)
		addAddrs(z, suffix, endpointAddrs(e), owner)
		addAddrs(z, "*."+suffix, endpointAddrs(e), owner)
		own := b.alone(e.Network.View, e.Gateway.Host, owner, true)
		addAddrs(own, e.Gateway.Host, endpointAddrs(e), owner)
	}
	for _, m := range all[*model.API](b) {
		a := b.out.APIs[m.Metadata.Name]
		if a == nil || len(a.Endpoints) == 0 {
			continue
		}
		_, suffix, _ := strings.Cut(a.Host, ".")
		for _, e := range a.Endpoints {
			for _, n := range b.out.Networks {
				if z := n.View.Zones[suffix]; z != nil && z.Owner.Kind == model.KindEndpoint {
					addAddrs(z, associatedName(a, e), endpointAddrs(e), model.Ref{Kind: model.KindAPI, Name: a.Name})
				}
			}
		}
	}
}

// domainNames makes each Domain an alias: its own name answers addresses.
func (b *build) domainNames() {
	for _, d := range b.domainHosts {
		g, h := d.gateway, d.host
		owner := model.Ref{Kind: model.KindDomain, Name: h.Name}
		if h.Domain.Type != model.Private {
			if as := served(g); len(as) > 0 {
				addAddrs(b.alone(b.out.Public, domainZone(h.Name), owner, false), h.Name, as, owner)
			}
			for _, i := range g.Nodes {
				addAddrs(b.alone(i.Network.View, domainZone(h.Name), owner, true), h.Name, []netip.Addr{i.Addr}, owner)
			}
			continue
		}
		for _, e := range h.Domain.Endpoints {
			z := b.alone(e.Network.View, domainZone(h.Name), owner, true)
			addAddrs(z, h.Name, endpointAddrs(e), owner)
		}
	}
}

// domainZone is the zone that holds a Domain's name: the name itself, or what
// a wildcard stands in front of.
func domainZone(name string) string { return strings.TrimPrefix(name, "*.") }

// privateZone adds a Zone's records to the views of its Networks.
func (b *build) privateZone(z *model.Zone) {
	domain := strings.ToLower(strings.TrimSuffix(z.Spec.Domain, "."))
	owner := model.RefOf(z)
	for _, name := range z.Spec.Networks {
		n := b.out.Networks[name]
		if n == nil {
			b.absent(z, "spec.networks", model.KindNetwork, name)
			continue
		}
		if other := n.View.Zones[domain]; other != nil && other.Owner.Kind != model.KindDomain {
			b.failf(z, "ZoneTaken", "spec.domain: %s already has a private zone in Network/%s, from %s; choose a longer domain or remove the other", domain, n.Name, other.Owner)
			continue
		}
		x := &snapshot.Zone{Domain: domain, Owner: owner, Private: true, Names: map[string][]snapshot.RecordSet{}}
		n.View.Zones[domain] = x
		for _, r := range z.Spec.Records {
			x.Add(fullName(r.Name, domain), recordSet(r, owner))
		}
	}
}

func fullName(relative, domain string) string {
	r := strings.ToLower(relative)
	if r == "" || r == "@" {
		return domain
	}
	return r + "." + domain
}

func recordSet(r model.Record, owner model.Ref) snapshot.RecordSet {
	s := snapshot.RecordSet{Type: snapshot.RecordType(strings.ToUpper(r.Type)), TTL: uint32(r.TTL), Owner: owner} //nolint:gosec // validated to fit
	if s.TTL == 0 {
		s.TTL = ttl
	}
	switch s.Type {
	case snapshot.TypeA, snapshot.TypeAAAA:
		s.Addrs = addrs(r.Values)
	case snapshot.TypeCNAME:
		if len(r.Values) > 0 {
			s.Target = strings.ToLower(strings.TrimSuffix(r.Values[0], "."))
		}
	default:
		s.Values = r.Values
	}
	return s
}

// zone finds or makes the zone of domain in a view.
func (b *build) zone(v *snapshot.View, domain string, owner model.Ref, private bool) *snapshot.Zone {
	z := v.Zones[domain]
	if z == nil {
		z = &snapshot.Zone{Domain: domain, Owner: owner, Private: private, Names: map[string][]snapshot.RecordSet{}}
		v.Zones[domain] = z
	}
	return z
}

// alone finds or makes the zone of domain in a view, one that leaves other names
// below it to others.
func (b *build) alone(v *snapshot.View, domain string, owner model.Ref, private bool) *snapshot.Zone {
	fresh := v.Zones[domain] == nil
	z := b.zone(v, domain, owner, private)
	z.Alone = z.Alone || fresh
	return z
}

// addAddrs adds as to the A and AAAA records of name.
func addAddrs(z *snapshot.Zone, name string, as []netip.Addr, owner model.Ref) {
	for _, a := range as {
		t := snapshot.TypeA
		if a.Is6() {
			t = snapshot.TypeAAAA
		}
		z.Add(name, snapshot.RecordSet{Type: t, TTL: ttl, Owner: owner, Addrs: []netip.Addr{a}})
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
