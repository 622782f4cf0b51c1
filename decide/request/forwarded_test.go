// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

func TestOnlyTrustedProxiesSayForWhomTheyAsk(t *testing.T) {
	g := &snapshot.Gateway{Name: "main", TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("192.0.2.1/32"),
	}}
	for _, tt := range []struct {
		name   string
		peer   string
		said   []string
		source string
		hops   string
	}{
		{"nobody says anything", "198.51.100.7", nil, "198.51.100.7", "198.51.100.7"},
		{"a stranger says", "198.51.100.7", []string{"203.0.113.9"}, "198.51.100.7", "198.51.100.7"},
		{"a proxy says nothing", "10.0.0.1", nil, "10.0.0.1", "10.0.0.1"},
		{"a proxy says", "10.0.0.1", []string{"203.0.113.9"}, "203.0.113.9", "10.0.0.1 203.0.113.9"},
		{"a proxy repeats what a stranger said", "10.0.0.1", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9", "10.0.0.1 203.0.113.9"},
		{"a stranger names a proxy", "10.0.0.1", []string{"1.1.1.1, 10.0.0.2, 203.0.113.9"}, "203.0.113.9", "10.0.0.1 203.0.113.9"},
		{"two proxies", "10.0.0.1", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9", "10.0.0.1 10.0.0.2 203.0.113.9"},
		{"in two fields", "10.0.0.1", []string{"1.1.1.1,203.0.113.9", "192.0.2.1"}, "203.0.113.9", "10.0.0.1 192.0.2.1 203.0.113.9"},
		{"proxies alone", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", "10.0.0.1 10.0.0.2 10.0.0.3"},
		{"with a port", "10.0.0.1", []string{"203.0.113.9:4711"}, "203.0.113.9", "10.0.0.1 203.0.113.9"},
		{"IPv6", "2001:db8:1::1", []string{"[2001:db8:2::9]:4711 , 2001:db8:1::2"}, "2001:db8:2::9", "2001:db8:1::1 2001:db8:1::2 2001:db8:2::9"},
		{"IPv6 in brackets", "10.0.0.1", []string{"[2001:db8:2::9]"}, "2001:db8:2::9", "10.0.0.1 2001:db8:2::9"},
		{"IPv4 in IPv6", "::ffff:10.0.0.1", []string{"::ffff:203.0.113.9"}, "203.0.113.9", "10.0.0.1 203.0.113.9"},
		{"what is no address hides what stands before it", "10.0.0.1", []string{"203.0.113.9, unknown, 10.0.0.2"}, "10.0.0.2", "10.0.0.1 10.0.0.2"},
		{"an empty entry too", "10.0.0.1", []string{"203.0.113.9, , 10.0.0.2"}, "10.0.0.2", "10.0.0.1 10.0.0.2"},
		{"a zone is none", "10.0.0.1", []string{"fe80::1%eth0"}, "10.0.0.1", "10.0.0.1"},
		{"empty fields", "10.0.0.1", []string{"", "203.0.113.9", ""}, "203.0.113.9", "10.0.0.1 203.0.113.9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &request.Arrival{Gateway: g, Origin: &snapshot.Origin{Source: netip.AddrPortFrom(netip.MustParseAddr(tt.peer), 4000)}, ForwardedFor: tt.said}
			if got := a.Source().String(); got != tt.source {
				t.Errorf("the caller is %s, want %s", got, tt.source)
			}
			var hops []string
			for _, ip := range a.Hops(nil) {
				hops = append(hops, ip.String())
			}
			if got := strings.Join(hops, " "); got != tt.hops {
				t.Errorf("it came by %s, want %s", got, tt.hops)
			}
		})
	}
}

func TestManyProxiesAreNotFollowedWithoutEnd(t *testing.T) {
	g := &snapshot.Gateway{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	a := &request.Arrival{
		Gateway: g, Origin: &snapshot.Origin{Source: netip.MustParseAddrPort("10.0.0.1:1")},
		ForwardedFor: []string{"203.0.113.9, " + strings.Repeat("10.0.0.2, ", 1000) + "10.0.0.3"},
	}
	if n := len(a.Hops(nil)); n != request.MaxProxies+1 {
		t.Errorf("%d hops", n)
	}
	if got := a.Source().String(); got != "10.0.0.2" {
		t.Errorf("the caller is %s", got)
	}
}

// TestTheNetworkKnowsItsOwn: callers in Networks and behind Links are who the
// network says, whatever their addresses are.
func TestTheNetworkKnowsItsOwn(t *testing.T) {
	g := &snapshot.Gateway{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for name, a := range map[string]request.Arrival{
		"in a Network":        {Origin: &snapshot.Origin{Network: "corp"}},
		"behind a Link":       {Origin: &snapshot.Origin{Link: "office"}},
		"through an Endpoint": {Origin: &snapshot.Origin{}, Endpoint: &snapshot.Endpoint{}},
	} {
		a.Gateway, a.ForwardedFor = g, []string{"203.0.113.9"}
		a.Origin.Source = netip.MustParseAddrPort("10.0.0.1:1")
		if a.Trusted() || a.Source().String() != "10.0.0.1" {
			t.Errorf("%s: %v, the caller is %s", name, a.Trusted(), a.Source())
		}
	}
}

func TestPoliciesSeeForWhomATrustedProxyAsks(t *testing.T) {
	w := newWorld(t)
	w.g.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	w.pub.Stages["prod"].Deployment = &snapshot.Deployment{Number: 1, Operations: w.deployment.Operations, Policy: policy(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*","Condition":{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}}]}`, pubID)}
	for _, tt := range []struct {
		peer, said string
		allowed    bool
	}{
		{"203.0.113.9", "", true},
		{"198.51.100.7", "", false},
		{"198.51.100.7", "203.0.113.9", false}, // it says so itself
		{"192.0.2.1", "203.0.113.9", true},
		{"192.0.2.1", "203.0.113.9, 198.51.100.7", false},
		{"192.0.2.1", "", false},
	} {
		a := w.at(nil, "GET", w.pub.Host, "/prod/pets")
		a.Origin = &snapshot.Origin{Source: netip.AddrPortFrom(netip.MustParseAddr(tt.peer), 4000)}
		if tt.said != "" {
			a.ForwardedFor = []string{tt.said}
		}
		var v request.Verdict
		v.Judge(w.Snapshot, a, false)
		if v.Allowed != tt.allowed {
			t.Errorf("%s for %q: allowed is %v (%s)", tt.peer, tt.said, v.Allowed, v.Code())
		}
	}
}

// FuzzForwardedFor: whatever is said, the caller is a hop that somebody trusted
// vouches for, and nobody trusted stands behind it unless the chain is at its end.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "203.0.113.9", "1.1.1.1, 10.0.0.2", "10.0.0.2,10.0.0.3", "a,10.0.0.1", ",,", "[::1]:80", "10.0.0.1:1, 10.0.0.2", "::ffff:10.0.0.9"} {
		f.Add("10.0.0.1", s, s)
		f.Add("198.51.100.7", s, "")
	}
	g := &snapshot.Gateway{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, peer, one, two string) {
		ip, err := netip.ParseAddr(peer)
		if err != nil || ip.Zone() != "" {
			t.Skip()
		}
		a := &request.Arrival{Gateway: g, Origin: &snapshot.Origin{Source: netip.AddrPortFrom(ip, 1)}, ForwardedFor: []string{one, two}}
		hops := a.Hops(nil)
		if hops[0] != ip.Unmap() || hops[len(hops)-1] != a.Source() || len(hops) > request.MaxProxies+1 {
			t.Fatalf("%v, the caller is %v", hops, a.Source())
		}
		for _, h := range hops[:len(hops)-1] {
			if !g.TrustedProxies[0].Contains(h) {
				t.Fatalf("%v: %v is believed", hops, h)
			}
		}
	})
}
