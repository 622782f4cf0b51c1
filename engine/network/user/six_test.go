// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// six gives the Networks of a lab prefixes of IPv6 too, and puts there the Hosts
// a6 and c6, the site site6, the Endpoint ep6 and the Gateways in6 (external, in
// app) and out6 (integrated into far).
func (l *lab) six() {
	l.t.Helper()
	for _, n := range []string{"a6", "b6", "c6", "site6"} {
		l.keys[n] = mustKey(l.t)
	}
	host := func(name, subnet, address string) *model.Host {
		return &model.Host{Head: named(name), Spec: model.HostSpec{Subnet: subnet, Address: address, PublicKey: public(l.t, l.keys[name])}}
	}
	l.put(
		&model.Network{Head: named("app"), Spec: model.NetworkSpec{CIDRs: []string{"10.1.0.0/16", "fd00:1::/48"}, InternetGateway: true}},
		&model.Network{Head: named("far"), Spec: model.NetworkSpec{CIDRs: []string{"10.2.0.0/16", "fd00:2::/48"}}},
		&model.Subnet{Head: named("app6"), Spec: model.SubnetSpec{Network: "app", CIDR: "fd00:1:0:1::/64"}},
		&model.Subnet{Head: named("nodes6"), Spec: model.SubnetSpec{Network: "app", CIDR: "fd00:1:0:2::/64"}},
		&model.Subnet{Head: named("far6"), Spec: model.SubnetSpec{Network: "far", CIDR: "fd00:2:0:1::/64"}},
		&model.Subnet{Head: named("out6"), Spec: model.SubnetSpec{Network: "far", CIDR: "fd00:2:0:2::/64", DelegatedTo: "out6"}},
		host("a6", "app6", "fd00:1:0:1::10"), host("b6", "app6", "fd00:1:0:1::11"), host("c6", "far6", "fd00:2:0:1::10"),
		&model.Link{Head: named("site6"), Spec: model.LinkSpec{Network: "app", Type: "vpn", CIDRs: []string{"fd00:9::/48"}, PublicKey: public(l.t, l.keys["site6"])}},
		&model.Gateway{Head: named("in6"), Spec: model.GatewaySpec{Region: "eu-6", NetworkMode: "external", Subnet: "nodes6"}},
		&model.Gateway{Head: named("out6"), Spec: model.GatewaySpec{Region: "eu-7", Outbound: &model.GatewayOutbound{Subnet: "out6"}}},
		&model.Endpoint{Head: named("ep6"), Spec: model.EndpointSpec{Gateway: "out6", Subnets: []string{"app6"}}},
	)
	l.apply()
}

func at(a string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(a), port).String()
}

func TestEverythingWorksOverIPv6(t *testing.T) {
	l := newLab(t)
	l.six()
	a, c := l.join("a6", "app", "fd00:1:0:1::10"), l.join("c6", "far", "fd00:2:0:1::10")
	site := l.join("site6", "app", "fd00:9::7")
	l.greet(a, 8080)
	l.greet(c, 8080)
	l.greet(site, 8080)
	endpoint, node := l.snap.Endpoints["ep6"].Interfaces[0].Addr.String(), l.node("in6")
	outbound := l.snap.Gateways["out6"].Outbound.Addr.String()
	for _, x := range []struct {
		from    *join.Client
		address string
		want    snapshot.Origin
	}{
		{a, at(endpoint, 443), snapshot.Origin{Network: "app", Host: "a6", Endpoint: "ep6"}},
		{c, at(endpoint, 443), snapshot.Origin{Network: "far", Host: "c6", Endpoint: "ep6"}},
		{site, at(endpoint, 443), snapshot.Origin{Link: "site6", Endpoint: "ep6"}},
		{c, at(node, 443), snapshot.Origin{Network: "far", Host: "c6", Node: "in6"}},
		{site, at(node, 3443), snapshot.Origin{Link: "site6", Node: "in6"}},
	} {
		t.Run(fmt.Sprintf("%s%s calls %s", x.want.Host, x.want.Link, x.address), func(t *testing.T) {
			if _, err := say(to(x.from, x.address), wait); err != nil {
				t.Fatal(err)
			}
			got := l.last()
			if got.Local.String() != x.address {
				t.Errorf("called at %s", got.Local)
			}
			got.Source, got.Local = netip.AddrPort{}, netip.AddrPort{}
			if got != x.want {
				t.Errorf("%+v, want %+v", got, x.want)
			}
		})
	}
	for _, x := range []struct{ gateway, network, address, want string }{
		{"in6", "app", "[fd00:1:0:1::10]:8080", node},
		{"in6", "app", "[fd00:2:0:1::10]:8080", node},
		{"in6", "app", "[fd00:9::7]:8080", node},
		{"out6", "far", "[fd00:1:0:1::10]:8080", outbound},
	} {
		t.Run(x.gateway+" dials "+x.address, func(t *testing.T) {
			if got, err := say(l.by(x.gateway, x.network, x.address), wait); err != nil || got != x.want+"\n" {
				t.Fatalf("%q, %v; want %q", got, err, x.want)
			}
		})
	}
	for _, address := range []string{at(node, 443), at(endpoint, 443)} {
		t.Run("in6 dials "+address, func(t *testing.T) {
			if _, err := say(l.by("in6", "app", address), wait); err != nil {
				t.Fatal(err)
			}
			if got := l.last(); got.Gateway != "in6" || got.Source.Addr().String() != node {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("the resolver is asked", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		u, err := a.Dial(ctx, "udp", "[fd00:1::2]:53")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if err := u.SetDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(u, "hello"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		if n, err := u.Read(buf); err != nil || string(buf[:n]) != "app/a6:hello" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	})
}

func TestNetworksWithTheSameAddressesAreIndependent(t *testing.T) {
	l := newLab(t)
	for _, n := range []string{"left", "right"} {
		l.hubs[n] = mustKey(t)
		l.put(
			&model.Network{Head: named(n), Spec: model.NetworkSpec{CIDRs: []string{"10.9.0.0/16", "fd00:9::/48"}}},
			&model.Subnet{Head: named(n), Spec: model.SubnetSpec{Network: n, CIDR: "10.9.1.0/24"}},
			&model.Subnet{Head: named(n + "6"), Spec: model.SubnetSpec{Network: n, CIDR: "fd00:9:0:1::/64"}},
			&model.Subnet{Head: named(n + "-nodes"), Spec: model.SubnetSpec{Network: n, CIDR: "10.9.2.0/24"}},
			&model.Gateway{Head: named(n), Spec: model.GatewaySpec{Region: n, NetworkMode: "internal", Subnet: n + "-nodes"}},
		)
		for host, at := range map[string]string{"one": "10.9.1.10", "two": "10.9.1.11", "six": "fd00:9:0:1::10", "seven": "fd00:9:0:1::11"} {
			l.keys[n+host] = mustKey(t)
			subnet := n
			if netip.MustParseAddr(at).Is6() {
				subnet += "6"
			}
			l.put(&model.Host{Head: named(n + "-" + host), Spec: model.HostSpec{Subnet: subnet, Address: at, PublicKey: public(t, l.keys[n+host])}})
		}
	}
	l.apply()
	if left, right := l.node("left"), l.node("right"); left != right {
		t.Fatalf("the nodes have different addresses, %s and %s: this test tells nothing", left, right)
	}
	callers := map[string]*join.Client{}
	for _, n := range []string{"left", "right"} {
		for host, at := range map[string]string{"one": "10.9.1.10", "six": "fd00:9:0:1::10"} {
			c := l.join(n+host, n, at)
			ln, err := c.Listen(8080)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					fmt.Fprintf(c, "%s\n", n)
					_ = c.Close()
				}
			}()
			t.Cleanup(func() { _ = ln.Close(); <-done })
		}
		callers[n+"4"], callers[n+"6"] = l.join(n+"two", n, "10.9.1.11"), l.join(n+"seven", n, "fd00:9:0:1::11")
	}
	for _, n := range []string{"left", "right", "left"} {
		for family, address := range map[string]string{"4": "10.9.1.10:8080", "6": "[fd00:9:0:1::10]:8080"} {
			if got, err := say(to(callers[n+family], address), wait); err != nil || got != n+"\n" {
				t.Errorf("in %s, IPv%s: %q, %v", n, family, got, err)
			}
		}
		if got, err := say(l.by(n, n, "10.9.1.10:8080"), wait); err != nil || got != n+"\n" {
			t.Errorf("Gateway/%s: %q, %v", n, got, err)
		}
		if _, err := say(to(callers[n+"4"], l.node(n)+":443"), wait); err != nil || l.last().Node != n {
			t.Errorf("in %s, the node: %v, %+v", n, err, l.last())
		}
	}
}

func TestLongestPrefixWinsAmongLinkAndPeering(t *testing.T) {
	for _, v := range []struct{ name, host, address, peer, far, site, inner, endpoint string }{
		{"IPv4", "a", "10.1.1.10", "c", "10.2.1.10", "10.2.9.7", "10.2.9.0/24", "ep"},
		{"IPv6", "a6", "fd00:1:0:1::10", "c6", "fd00:2:0:1::10", "fd00:2:0:9::7", "fd00:2:0:9::/64", "ep6"},
	} {
		t.Run(v.name, func(t *testing.T) {
			l := newLab(t)
			l.six()
			l.objects["Link/site"].(*model.Link).Spec.CIDRs = []string{v.inner}
			l.apply()
			l.greet(l.join(v.peer, "far", v.far), 8080)
			host, site := l.join(v.host, "app", v.address), l.join("site", "app", v.site)
			l.greet(site, 8080)
			// The site shows the hub where it is.
			endpoint := l.snap.Endpoints[v.endpoint].Interfaces[0].Addr.String()
			if _, err := say(to(site, at(endpoint, 443)), wait); err != nil {
				t.Fatal(err)
			}
			if got, err := say(to(host, at(v.far, 8080)), wait); err != nil || got != v.address+"\n" {
				t.Errorf("over the Peering: %q, %v", got, err)
			}
			if got, err := say(to(host, at(v.site, 8080)), wait); err != nil || got != v.address+"\n" {
				t.Errorf("over the Link, whose prefix is longer: %q, %v", got, err)
			}
		})
	}
}
