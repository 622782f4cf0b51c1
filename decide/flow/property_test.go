// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	_ "postern.dev/postern/test/steady"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// interesting addresses: of Hosts, Endpoint, resolvers, Links, Gateways, NAT,
// and of nobody.
var interesting = []string{
	"10.0.1.10", "10.0.2.10", "10.0.2.20", "10.0.3.4", "10.0.0.2", "10.0.1.99", "10.1.1.10", "10.1.0.2", "10.2.1.10", "10.2.0.2",
	"192.168.0.9", "192.168.5.9", "198.18.0.2", "198.18.0.10", "198.18.0.77", "8.8.8.8", "127.0.0.1", "169.254.169.254",
	"224.0.0.1", "255.255.255.255", "0.0.0.0", "fd00:a::2", "fd00:a::9", "fd00:b::1", "2606:4700::1", "ff02::1", "::", "::1", "::ffff:10.0.2.10",
}

// drawWorld changes newWorld in every way that compile could.
func drawWorld(t *rapid.T, tb testing.TB) *world {
	w := newWorld(tb)
	sets := []*sg.Set{
		nil, nil, w.group("open", in("1-65535"), out("1-65535")), w.group("https", in("443"), out("443")),
		w.group("shut", deny(in("1-65535")), deny(out("1-65535"))), w.group("near", in("1-65535", "10.0.0.0/16"), out("1-65535", "10.0.0.0/8")),
	}
	set := func() *sg.Set { return rapid.SampledFrom(sets).Draw(t, "groups") }
	flip := func(what string) bool { return rapid.Bool().Draw(t, what) }
	app := w.s.Networks["app"]
	if flip("injected") {
		g := w.s.Gateways["edge"]
		node := &snapshot.Interface{Owner: model.Ref{Kind: model.KindGateway, Name: "edge"}, Network: app, Subnet: app.Subnets[0], Addr: addr("10.0.3.4"), Gateway: g}
		app.Interfaces[node.Addr] = node
		g.Nodes = []*snapshot.Interface{node}
		g.PrivatePorts = map[uint16]snapshot.Components{443: {snapshot.ComponentGateway}}
		node.Managed = set()
	}
	for _, name := range []string{"app", "tools", "far"} {
		n := w.s.Networks[name]
		for _, s := range n.Subnets {
			s.Groups, s.InternetRoute = set(), flip("internetRoute")
		}
		n.InternetGateway = flip("internetGateway")
	}
	for _, i := range []*snapshot.Interface{w.s.Hosts["web"], w.s.Hosts["db"], w.s.Hosts["builder"], w.s.Hosts["remote"], w.endpoint()} {
		i.Groups = set()
	}
	w.s.Endpoints["corp"].Connection = rapid.SampledFrom([]snapshot.Connection{snapshot.Pending, snapshot.Approved, snapshot.Rejected}).Draw(t, "connection")
	w.s.Links["site"].Down = flip("down")
	if flip("overlap") {
		site := w.s.Links["site"]
		site.Prefixes = append(site.Prefixes, netip.MustParsePrefix("10.0.2.0/24"))
		r, _ := app.Routes.Lookup(addr("10.0.2.10"))
		r.Shadows = model.Ref{Kind: model.KindLink, Name: "site"}
	}
	return w
}

func drawQuery(t *rapid.T, w *world) flow.Query {
	a := func(what string) netip.Addr { return addr(rapid.SampledFrom(interesting).Draw(t, what)) }
	q := flow.Query{
		Dst: a("dst"), Port: rapid.SampledFrom([]uint16{0, 53, 80, 443, 8443}).Draw(t, "port"),
		Proto: rapid.SampledFrom([]sg.Protocol{sg.TCP, sg.UDP, sg.ICMP, sg.Any}).Draw(t, "protocol"),
	}
	switch rapid.IntRange(0, 4).Draw(t, "source") {
	case 0:
		q.Source = flow.FromInternet(a("src"))
	case 1:
		q.Source = flow.FromLink(w.s.Links["site"], a("src"))
	case 2:
		q.Source = flow.Source{Network: w.s.Networks["app"], Addr: a("src")}
	default:
		q.Source = flow.FromInterface(w.s.Hosts[rapid.SampledFrom([]string{"web", "db", "builder", "remote"}).Draw(t, "host")])
		if rapid.IntRange(0, 4).Draw(t, "spoofed") == 0 {
			q.Source.Addr = a("src")
		}
	}
	return q
}

func checkFlow(t *rapid.T, tb testing.TB) {
	w := drawWorld(t, tb)
	for range 20 {
		q := drawQuery(t, w)
		v, every := flow.Judge(w.s, q, false), flow.Judge(w.s, q, true)
		if v.Outcome != every.Outcome || v.Code != every.Code {
			t.Fatalf("%+v: %s %s, with every %s %s", q, v.Outcome, v.Code, every.Outcome, every.Code)
		}
		stops := 0
		for i := range every.Steps() {
			s := &every.Steps()[i]
			if s.Outcome == flow.Stop {
				stops++
			}
			if s.Code == "" || s.Layer == "" || every.Reason(i) == "" {
				t.Fatalf("%+v: step %d says nothing: %+v", q, i, s)
			}
		}
		if v.Allowed() != (stops == 0) {
			t.Fatalf("%+v: %s with %d stops\n%s", q, v.Outcome, stops, path(&every))
		}
		if v.Allowed() {
			checkDelivered(t, w, &v)
		}
		// A refusal tells that somebody is there: never across Networks that
		// are not joined, nor for an address that nobody has.
		if v.Outcome == flow.Refuse && v.Target.Kind == flow.Nowhere {
			t.Fatalf("%+v: refused by nobody", q)
		}
	}
}

// checkDelivered holds what is delivered against the contract's words.
func checkDelivered(t *rapid.T, w *world, v *flow.Verdict) {
	src, dst, target := v.Query.Source, v.Query.Dst, v.Target
	switch {
	case src.Interface != nil && src.Addr != src.Interface.Addr:
		t.Fatalf("a forged source is let in: %+v", v.Query)
	case src.Link != nil && (src.Link.Down || target.Network != src.Network || target.Kind == flow.ToLink):
		t.Fatalf("a site reaches through its Network, or over a Link that is down: %+v", v.Query)
	case src.Network == nil && target.Network != nil:
		t.Fatalf("the internet reaches into a Network: %+v", v.Query)
	}
	switch target.Kind {
	case flow.ToInterface:
		i := target.Interface
		peer := len(i.Network.Peers) > 0 && (i.Network.Peers[0] == src.Network || i.Network.Peers[len(i.Network.Peers)-1] == src.Network)
		if i.Addr != dst || i.Network != src.Network && !peer {
			t.Fatalf("delivered to %s: %+v", i.Owner, v.Query)
		}
		if e := i.Endpoint; e != nil && (e.Connection != snapshot.Approved || v.Query.Proto != sg.ICMP && (v.Query.Proto != sg.TCP || v.Query.Port != 443)) {
			t.Fatalf("delivered to an Endpoint: %+v", v.Query)
		}
	case flow.ToGateway, flow.ToEgress:
		if src.Network != nil {
			if !src.Network.InternetGateway || !src.Interface.Subnet.InternetRoute || !target.NAT.IsValid() {
				t.Fatalf("left for the internet without a way: %+v", v.Query)
			}
		}
		if target.Kind == flow.ToEgress && !flow.Egress(&w.s.Internet, dst) {
			t.Fatalf("left for %s", dst)
		}
	}
}

func TestFlowsKeepTheContract(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { checkFlow(rt, t) })
}

func FuzzFlowsKeepTheContract(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(rt *rapid.T) { checkFlow(rt, f) }))
}

// TestAddingAGroupOpensNothing: where nothing carries a group everything is
// allowed, so a first group can only take away.
func TestAddingAGroupOpensNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt, t)
		q := drawQuery(rt, w)
		host := w.s.Hosts[rapid.SampledFrom([]string{"web", "db", "builder", "remote"}).Draw(rt, "who")]
		with := flow.Judge(w.s, q, false)
		host.Groups = nil
		if without := flow.Judge(w.s, q, false); with.Allowed() && !without.Allowed() {
			rt.Fatalf("%+v is let through only with a group: %s", q, without.Code)
		}
	})
}
