// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package name_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "postern.dev/postern/test/steady"

	"postern.dev/postern/decide/name"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

const region = "execute-api.eu-1.postern.internal"

// newWorld has a public zone, and a Network whose Endpoint has private DNS and
// which has a zone of its own.
func newWorld() (*snapshot.Snapshot, *snapshot.Network) {
	public := zone("postern.internal", false,
		"edge.postern.internal A 198.18.0.10",
		"pub0000000."+region+" A 198.18.0.10",
		"vpce-1-aaaaaaaa.execute-api.eu-1.vpce.postern.internal A 10.0.1.20",
		"priv000000-vpce-1."+region+" A 10.0.1.20",
		"text.postern.internal TXT \"hello\"",
	)
	shop := zone("shop.example", false,
		"shop.example A 198.18.0.10",
		"www.shop.example CNAME pub0000000."+region,
		"far.shop.example CNAME example.com",
		"a.shop.example CNAME b.shop.example",
		"b.shop.example CNAME a.shop.example",
		"*.wild.shop.example A 198.18.0.11",
		"deep.sub.wild.shop.example A 198.18.0.12",
	)
	for i := range 10 {
		shop.Add(fmt.Sprintf("c%d.shop.example", i), snapshot.RecordSet{Type: snapshot.TypeCNAME, Target: fmt.Sprintf("c%d.shop.example", i+1)})
	}
	shop.Add("c10.shop.example", a("198.18.0.10"))
	hidden := zone(region, true, "*."+region+" A 10.0.1.20", "priv000000-vpce-1."+region+" A 10.0.1.20")
	corp := zone("corp.test", true, "db.corp.test A 10.0.2.10", "db.corp.test AAAA fd00::10", "api.corp.test CNAME pub0000000."+region)
	exception := zone("except0000."+region, true, "except0000."+region+" A 10.0.9.9")
	n := &snapshot.Network{Name: "app", View: &snapshot.View{Zones: map[string]*snapshot.Zone{
		hidden.Domain: hidden, corp.Domain: corp, exception.Domain: exception,
	}}}
	g := &snapshot.Gateway{Name: "edge"}
	g.Endpoints = []*snapshot.Endpoint{{Name: "corp", Gateway: g, Network: n}}
	return &snapshot.Snapshot{
		Public:   &snapshot.View{Zones: map[string]*snapshot.Zone{public.Domain: public, shop.Domain: shop}},
		Networks: map[string]*snapshot.Network{"app": n},
		Internet: snapshot.Internet{Gateways: map[netip.Addr]*snapshot.Gateway{netip.MustParseAddr("198.18.0.10"): g}},
	}, n
}

func a(addr string) snapshot.RecordSet {
	return snapshot.RecordSet{Type: snapshot.TypeA, TTL: 60, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Owner: model.Ref{Kind: model.KindGateway, Name: "edge"}}
}

// zone builds a zone of records "name type value".
func zone(domain string, private bool, records ...string) *snapshot.Zone {
	z := &snapshot.Zone{Domain: domain, Private: private}
	for _, r := range records {
		f := strings.SplitN(r, " ", 3)
		set := snapshot.RecordSet{Type: snapshot.RecordType(f[1]), TTL: 60}
		switch set.Type {
		case snapshot.TypeA, snapshot.TypeAAAA:
			set.Addrs = []netip.Addr{netip.MustParseAddr(f[2])}
		case snapshot.TypeCNAME:
			set.Target = f[2]
		default:
			set.Values = []string{f[2]}
		}
		z.Add(f[0], set)
	}
	return z
}

func TestResolve(t *testing.T) {
	s, app := newWorld()
	f := func(who *snapshot.Network, question, want string) {
		t.Helper()
		q, typ, ok := strings.Cut(question, " ")
		if !ok {
			typ = "A"
		}
		v := name.Resolve(s, name.View(s, who), q, snapshot.RecordType(typ))
		var addrs []string
		for _, x := range v.Addrs {
			addrs = append(addrs, x.String())
		}
		got := strings.TrimSpace(v.Code + " " + strings.Join(addrs, " "))
		if v.Forward {
			got += " forward " + v.Name
		}
		if v.Status == name.NoData {
			got += " nodata"
		}
		if v.Status == name.Loop {
			got += " loop"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
	var internet *snapshot.Network

	// The public view.
	f(internet, "edge.postern.internal", "dns/answered 198.18.0.10")
	f(internet, "EDGE.Postern.Internal.", "dns/answered 198.18.0.10")
	f(internet, "edge.postern.internal AAAA", "dns/nxdomain nodata")
	f(internet, "postern.internal", "dns/nxdomain nodata")
	f(internet, "execute-api.eu-1.postern.internal", "dns/nxdomain nodata") // only has names below
	f(internet, "nobody.postern.internal", "dns/nxdomain")
	f(internet, "priv000000."+region, "dns/nxdomain")
	f(internet, "pub0000000."+region, "dns/answered 198.18.0.10")
	f(internet, "vpce-1-aaaaaaaa.execute-api.eu-1.vpce.postern.internal", "dns/answered 10.0.1.20")
	f(internet, "priv000000-vpce-1."+region, "dns/answered 10.0.1.20")
	f(internet, "db.corp.test", "dns/nxdomain")
	f(internet, "text.postern.internal TXT", "dns/answered")

	// A Network with private DNS answers every name of the region.
	f(app, "priv000000."+region, "dns/answered 10.0.1.20")
	f(app, "pub0000000."+region, "dns/private-shadows-public 10.0.1.20")
	f(app, "another000."+region, "dns/answered 10.0.1.20")
	f(app, "priv000000-vpce-1."+region, "dns/answered 10.0.1.20") // hides nothing: it is the same
	f(app, "pub0000000."+region+" AAAA", "dns/nxdomain nodata")
	f(app, "except0000."+region, "dns/answered 10.0.9.9") // the longer zone
	f(app, region, "dns/nxdomain nodata")
	f(app, "db.corp.test", "dns/answered 10.0.2.10")
	f(app, "db.corp.test AAAA", "dns/answered fd00::10")
	f(app, "nobody.corp.test", "dns/nxdomain")
	f(app, "vpce-1-aaaaaaaa.execute-api.eu-1.vpce.postern.internal", "dns/answered 10.0.1.20")
	f(app, "edge.postern.internal", "dns/resolves-public 198.18.0.10")

	// A CNAME is chased in the asker's view; an alias is an address.
	f(internet, "www.shop.example", "dns/answered 198.18.0.10")
	f(app, "www.shop.example", "dns/private-shadows-public 10.0.1.20")
	f(app, "shop.example", "dns/resolves-public 198.18.0.10")
	f(app, "api.corp.test", "dns/private-shadows-public 10.0.1.20")
	f(app, "api.corp.test CNAME", "dns/answered")
	f(internet, "far.shop.example", "dns/nxdomain forward example.com")
	f(internet, "a.shop.example", "dns/nxdomain loop")
	f(internet, "c0.shop.example", "dns/nxdomain loop") // too long
	f(internet, "c2.shop.example", "dns/answered 198.18.0.10")

	// Wildcards (RFC 4592).
	f(internet, "x.wild.shop.example", "dns/answered 198.18.0.11")
	f(internet, "x.y.wild.shop.example", "dns/answered 198.18.0.11")
	f(internet, "wild.shop.example", "dns/nxdomain nodata")
	f(internet, "x.sub.wild.shop.example", "dns/nxdomain") // sub exists, without a wildcard
	f(internet, "sub.wild.shop.example", "dns/nxdomain nodata")

	// What Postern does not hold.
	f(app, "example.com", "dns/nxdomain forward example.com")
	f(app, "www.example.com MX", "dns/nxdomain forward www.example.com")
	f(app, "10.2.0.10.in-addr.arpa PTR", "dns/nxdomain")
	f(app, "localhost", "dns/nxdomain")
	f(app, "printer.local", "dns/nxdomain")
	f(app, "", "dns/nxdomain")
	f(app, ".", "dns/nxdomain")
}

func TestShadowedNameIsToldEvenWithoutAnAnswer(t *testing.T) {
	s, app := newWorld()
	app.View.Zones["postern.internal"] = zone("postern.internal", true)
	v := name.Resolve(s, app.View, "edge.postern.internal", snapshot.TypeA)
	if v.Status != name.NotFound || v.Code != name.NXDomain {
		t.Errorf("a private zone fell through to the public one: %v %s", v.Status, v.Code)
	}
	if v.Shadowed == nil || v.ShadowedBy != app.View.Zones["postern.internal"] {
		t.Error("the hidden public name is not told")
	}
}

// TestPrivateDNSChangesOnlyNamesBelowItsZone is invariant: whoever does not see
// the zone, and every name beside it, gets the same answers with and without.
func TestPrivateDNSChangesOnlyNamesBelowItsZone(t *testing.T) {
	s, app := newWorld()
	hidden := app.View.Zones[region]
	labels := []string{"pub0000000", "priv000000", "edge", "execute-api", "eu-1", "eu-2", "vpce", "postern", "internal", "shop", "example", "www", "*", "corp", "test"}
	rapid.Check(t, func(t *rapid.T) {
		q := strings.Join(rapid.SliceOfN(rapid.SampledFrom(labels), 1, 6).Draw(t, "labels"), ".")
		if rapid.Bool().Draw(t, "below") {
			q += ".execute-api.eu-1.postern.internal"
		}
		for _, who := range []*snapshot.Network{app, nil} {
			view := name.View(s, who)
			app.View.Zones[region] = hidden
			with := fmt.Sprint(name.Resolve(s, view, q, snapshot.TypeA).Addrs)
			delete(app.View.Zones, region)
			without := fmt.Sprint(name.Resolve(s, view, q, snapshot.TypeA).Addrs)
			app.View.Zones[region] = hidden
			chased := strings.HasSuffix("."+q, ".www.shop.example") || strings.HasSuffix("."+q, ".api.corp.test")
			if with != without && !chased && (who == nil || !strings.HasSuffix("."+q, "."+region)) {
				t.Fatalf("%s: %s with the zone, %s without", q, with, without)
			}
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	s, app := newWorld()
	for _, q := range []string{"edge.postern.internal", "priv000000." + region, "www.shop.example"} {
		b.Run(q, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				name.Resolve(s, app.View, q, snapshot.TypeA)
			}
		})
	}
}
