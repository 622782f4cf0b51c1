// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"net/netip"
	"testing"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/snapshot"
)

func TestRequestIsAskedAgainAsItWasMade(t *testing.T) {
	public := netip.MustParseAddr("198.18.0.1")
	s := &snapshot.Snapshot{
		Internet: snapshot.Internet{Gateways: map[netip.Addr]*snapshot.Gateway{public: {Name: "main"}}},
		Public: &snapshot.View{Zones: map[string]*snapshot.Zone{"example": {Domain: "example", Names: map[string][]snapshot.RecordSet{
			"main.example": {{Type: snapshot.TypeA, Addrs: []netip.Addr{public}}},
		}}}},
	}
	for _, c := range []struct{ name, local, host, want, told string }{
		{"by its name", "198.18.0.1:443", "main.example", "https://main.example/x", ""},
		{"at the address, where the name leads elsewhere", "198.18.0.1:443", "other.example", "https://other.example/x", "198.18.0.1"},
		{"by the address, where another stands for a name", "198.18.0.1:443", "198.18.0.9", "https://198.18.0.1/x", ""},
		{"by its name on a real socket, whose address is everybody's", "192.0.2.1:443", "main.example", "https://main.example/x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := gateway.Record{
				TLS: true, SNI: c.host, Host: c.host, Method: "GET", Path: "/x",
				Origin: snapshot.Origin{Local: netip.MustParseAddrPort(c.local), Source: netip.MustParseAddrPort("203.0.113.5:4000")},
			}
			if q := question(s, r, ""); q.URL != c.want || q.ConnectTo != c.told {
				t.Fatalf("%s at %q, want %s at %q", q.URL, q.ConnectTo, c.want, c.told)
			}
		})
	}
}
