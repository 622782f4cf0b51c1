// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"net/netip"
	"testing"

	build "postern.dev/postern/compile/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// world is two peered Networks, a third behind one of them, a site, and a
// Gateway with a public address and an Endpoint:
//
//	internet 198.18.0.0/15 -- gateway/edge 198.18.0.10 (443, 80)
//	   |
//	app 10.0.0.0/16 -- peering -- tools 10.1.0.0/16 -- peering -- far 10.2.0.0/16
//	   | link/site 192.168.0.0/24
type world struct {
	t     testing.TB
	s     *snapshot.Snapshot
	scope *build.Scope
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, s: &snapshot.Snapshot{
		Networks: map[string]*snapshot.Network{}, Gateways: map[string]*snapshot.Gateway{},
		Endpoints: map[string]*snapshot.Endpoint{}, Hosts: map[string]*snapshot.Interface{}, Links: map[string]*snapshot.Link{},
		Internet: snapshot.Internet{
			Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")},
			Gateways: map[netip.Addr]*snapshot.Gateway{}, NAT: map[netip.Addr]*snapshot.Network{},
		},
	}}
	w.scope = build.New().In(build.Env{Members: func(string) []netip.Addr { return nil }})

	app := w.network("app", "10.0.0.0/16", "fd00:a::/48")
	tools := w.network("tools", "10.1.0.0/16")
	far := w.network("far", "10.2.0.0/16")
	w.peer("app-tools", app, tools)
	w.peer("tools-far", tools, far)

	site := &snapshot.Link{Name: "site", Network: app, Prefixes: prefixes("192.168.0.0/24")}
	app.Links = append(app.Links, site)
	w.s.Links["site"] = site
	app.Routes.Insert(site.Prefixes[0], &snapshot.Route{
		Kind: snapshot.RouteLink, Prefix: site.Prefixes[0], Link: site, Source: model.Ref{Kind: model.KindLink, Name: "site"},
	})

	app.InternetGateway = true
	app.NAT = []netip.Addr{addr("198.18.0.2")}
	w.s.Internet.NAT[app.NAT[0]] = app

	public := w.subnet(app, "public", "10.0.1.0/24")
	public.InternetRoute = true
	private := w.subnet(app, "private", "10.0.2.0/24")
	w.host("web", public, "10.0.1.10")
	w.host("db", private, "10.0.2.10")
	w.host("builder", w.subnet(tools, "builders", "10.1.1.0/24"), "10.1.1.10")
	w.host("remote", w.subnet(far, "far", "10.2.1.0/24"), "10.2.1.10")

	g := &snapshot.Gateway{
		Name: "edge", Public: []netip.Addr{addr("198.18.0.10")}, PublicAccess: true,
		PublicPorts: map[uint16]snapshot.Components{443: {snapshot.ComponentGateway}, 80: {snapshot.ComponentGateway}},
	}
	w.s.Gateways["edge"] = g
	w.s.Internet.Gateways[g.Public[0]] = g

	e := &snapshot.Endpoint{Name: "corp", Gateway: g, Network: app, Connection: snapshot.Approved}
	i := &snapshot.Interface{Owner: model.Ref{Kind: model.KindEndpoint, Name: "corp"}, Network: app, Subnet: private, Addr: addr("10.0.2.20"), Endpoint: e}
	e.Interfaces = []*snapshot.Interface{i}
	app.Interfaces[i.Addr] = i
	w.s.Endpoints["corp"] = e
	return w
}

func (w *world) network(name string, cidrs ...string) *snapshot.Network {
	n := &snapshot.Network{
		Name: name, Prefixes: prefixes(cidrs...), Routes: &snapshot.Routes{},
		Interfaces: map[netip.Addr]*snapshot.Interface{},
	}
	for _, p := range n.Prefixes {
		n.Resolver = append(n.Resolver, p.Addr().Next().Next())
		n.Routes.Insert(p, &snapshot.Route{Kind: snapshot.RouteLocal, Prefix: p, Source: model.Ref{Kind: model.KindNetwork, Name: name}})
	}
	w.s.Networks[name] = n
	return n
}

func (w *world) peer(name string, a, b *snapshot.Network) {
	for _, way := range [][2]*snapshot.Network{{a, b}, {b, a}} {
		way[0].Peers = append(way[0].Peers, way[1])
		for _, p := range way[1].Prefixes {
			way[0].Routes.Insert(p, &snapshot.Route{
				Kind: snapshot.RoutePeering, Prefix: p, Peer: way[1], Source: model.Ref{Kind: model.KindPeering, Name: name},
			})
		}
	}
}

func (w *world) subnet(n *snapshot.Network, name, cidr string) *snapshot.Subnet {
	s := &snapshot.Subnet{Name: name, Network: n, Prefix: netip.MustParsePrefix(cidr)}
	n.Subnets = append(n.Subnets, s)
	return s
}

func (w *world) host(name string, s *snapshot.Subnet, a string) {
	i := &snapshot.Interface{Owner: model.Ref{Kind: model.KindHost, Name: name}, Network: s.Network, Subnet: s, Addr: addr(a)}
	s.Network.Interfaces[i.Addr] = i
	w.s.Hosts[name] = i
}

// group builds a group; a rule is "in allow tcp 443 10.0.0.0/8".
func (w *world) group(name string, rules ...model.Rule) *sg.Set {
	g := &model.SecurityGroup{}
	g.Metadata.Name = name
	g.Spec.Rules = rules
	set, err := w.scope.Set(g)
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

func (w *world) endpoint() *snapshot.Interface { return w.s.Endpoints["corp"].Interfaces[0] }

func in(ports string, from ...string) model.Rule {
	return model.Rule{Direction: "inbound", Protocol: "tcp", Ports: []string{ports}, From: from}
}

func out(ports string, to ...string) model.Rule {
	return model.Rule{Direction: "outbound", Protocol: "tcp", Ports: []string{ports}, To: to}
}

func deny(r model.Rule) model.Rule { r.Action = "deny"; return r }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}
