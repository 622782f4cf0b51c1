// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// inject puts Gateways into the Networks of a lab: in, external in app; deep,
// internal in far; and out, which stands outside and dials from far too. The
// Host d of app has no group.
func (l *lab) inject() {
	l.t.Helper()
	l.keys["d"] = mustKey(l.t)
	l.put(
		&model.Subnet{Head: named("nodes"), Spec: model.SubnetSpec{Network: "app", CIDR: "10.1.2.0/24", SecurityGroup: "nodes"}},
		&model.Subnet{Head: named("deep"), Spec: model.SubnetSpec{Network: "far", CIDR: "10.2.2.0/24"}},
		&model.Subnet{Head: named("out"), Spec: model.SubnetSpec{Network: "far", CIDR: "10.2.3.0/24", DelegatedTo: "out"}},
		&model.SecurityGroup{Head: named("nodes"), Spec: model.SecurityGroupSpec{Network: "app", Rules: []model.Rule{
			{Direction: "inbound", Protocol: "tcp", Ports: []string{"443", "3443", "8443"}},
		}}},
		&model.Host{Head: named("d"), Spec: model.HostSpec{Subnet: "app", Address: "10.1.1.12", PublicKey: public(l.t, l.keys["d"])}},
		&model.Gateway{Head: named("in"), Spec: model.GatewaySpec{Region: "eu-2", NetworkMode: "external", Subnet: "nodes"}},
		&model.Gateway{Head: named("deep"), Spec: model.GatewaySpec{Region: "eu-3", NetworkMode: "internal", Subnet: "deep"}},
		&model.Gateway{Head: named("out"), Spec: model.GatewaySpec{Region: "eu-4", Outbound: &model.GatewayOutbound{Subnet: "out"}}},
	)
	l.apply()
}

// node is the address of a Gateway in a Network.
func (l *lab) node(gateway string) string { return l.snap.Gateways[gateway].Nodes[0].Addr.String() }

func (l *lab) public(gateway string) string { return l.snap.Gateways[gateway].Public[0].String() }

// last is where the last connection came from.
func (l *lab) last() snapshot.Origin {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.origins) == 0 {
		return snapshot.Origin{}
	}
	return l.origins[len(l.origins)-1]
}

func TestNodeListensOnItsPrivatePorts(t *testing.T) {
	l := newLab(t)
	l.inject()
	a, c := l.join("a", "app", "10.1.1.10"), l.join("c", "far", "10.2.1.10")
	outbound := l.snap.Gateways["out"].Outbound.Addr.String()
	for _, x := range []struct {
		name, address string
		from          *join.Client
		symptom       string
		want          snapshot.Origin
	}{
		{"its own Network", l.node("in") + ":443", a, "", snapshot.Origin{Network: "app", Host: "a", Node: "in"}},
		{"a peer", l.node("in") + ":3443", c, "", snapshot.Origin{Network: "far", Host: "c", Node: "in"}},
		{"internal, from a peer", l.node("deep") + ":443", a, "", snapshot.Origin{Network: "app", Host: "a", Node: "deep"}},
		{"a port that is not published", l.node("in") + ":8443", a, "timeout", snapshot.Origin{}},
		{"outbound integration", outbound + ":443", c, "timeout", snapshot.Origin{}},
	} {
		t.Run(x.name, func(t *testing.T) {
			limit := wait
			if x.symptom == "timeout" {
				limit = silence
			}
			_, err := say(to(x.from, x.address), limit)
			if got := join.Symptom(err); (err != nil || x.symptom != "") && got != x.symptom {
				t.Fatalf("%v is a %s, want %q", err, got, x.symptom)
			}
			if x.symptom != "" {
				return
			}
			got := l.last()
			if at := got.Local.String(); at != x.address {
				t.Errorf("called at %s, want %s", at, x.address)
			}
			got.Source, got.Local = netip.AddrPort{}, netip.AddrPort{}
			if got != x.want {
				t.Errorf("%+v, want %+v", got, x.want)
			}
		})
	}
}

func TestNodePortsComeAndGoWithoutTheOthers(t *testing.T) {
	l := newLab(t)
	l.inject()
	l.objects["SecurityGroup/nodes"].(*model.SecurityGroup).Spec.Rules[0].Ports = []string{"80", "443"}
	a := l.join("a", "app", "10.1.1.10")
	conn := held(t, a, l.node("in")+":443")
	for _, http := range []string{"serve", "off", "serve"} {
		l.objects["Gateway/in"].(*model.Gateway).Spec.HTTP = http
		l.apply()
		limit, want := wait, ""
		if http == "off" {
			limit, want = silence, "timeout" // the managed group admits what is published
		}
		_, err := say(to(a, l.node("in")+":80"), limit)
		if (err == nil) != (want == "") || err != nil && join.Symptom(err) != want {
			t.Fatalf("http: %s: port 80: %v, want %q", http, err, want)
		}
	}
	if _, err := speak(conn, wait); err != nil {
		t.Fatalf("the connection to the port that stayed: %v", err)
	}
}

func TestNobodySendsAsANode(t *testing.T) {
	l := newLab(t)
	l.inject()
	// The site claims the node's address; the hub takes nothing from it.
	l.edit = func(s *snapshot.Snapshot) {
		s.Links["site"].Prefixes = append(s.Links["site"].Prefixes, netip.PrefixFrom(s.Gateways["in"].Nodes[0].Addr, 32))
	}
	l.apply()
	site := l.raw(l.keys["site"], "app")
	site.out <- udp("192.168.9.7:1000", "10.1.0.2:53")
	if site.next(wait) == nil {
		t.Fatal("the site is not there")
	}
	for len(l.drops) > 0 {
		<-l.drops
	}
	site.out <- udp(l.node("in")+":1000", "10.1.0.2:53")
	select {
	case code := <-l.drops:
		if code != flow.RouteNone {
			t.Fatalf("dropped for %s", code)
		}
	case <-time.After(wait):
		t.Fatal("a packet with a node's address from a site was not refused")
	}
	if site.next(silence) != nil {
		t.Fatal("it was answered")
	}
}

func TestPublicListenersOfAnInjectedGatewayPassItsGroups(t *testing.T) {
	l := newLab(t)
	l.inject()
	rule := &l.objects["SecurityGroup/nodes"].(*model.SecurityGroup).Spec.Rules[0]
	rule.Ports = nil
	for _, c := range []struct{ from, port, want string }{
		{"tag:Internet", "443", ""}, {"tag:Internet", "80", "refused"}, {"tag:ApiManagement", "443", "timeout"}, {"tag:VirtualNetwork", "443", "timeout"},
	} {
		rule.From = []string{c.from}
		l.apply()
		limit := wait
		if c.want == "timeout" {
			limit = silence
		}
		_, err := say(func(ctx context.Context) (net.Conn, error) {
			return l.fabric.DialInternet(ctx, netip.MustParseAddr("203.0.113.10"), netip.MustParseAddrPort(l.public("in")+":"+c.port))
		}, limit)
		if (err == nil) != (c.want == "") || err != nil && join.Symptom(err) != c.want {
			t.Errorf("port %s, admitted from %s: %v, want %q", c.port, c.from, err, c.want)
		}
		if got := l.last(); c.want == "" && (got.Node != "" || got.Local.Addr().String() != l.public("in")) {
			t.Errorf("%+v", got)
		}
	}
}
