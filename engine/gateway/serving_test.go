// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"postern.dev/postern/snapshot"
)

func TestAWildcardServesNothingThatAnotherGatewayHasByName(t *testing.T) {
	host := func(name string) map[string]*snapshot.Host {
		return map[string]*snapshot.Host{name: {Kind: snapshot.HostDomain, Name: name, Domain: &snapshot.Domain{Name: name}}}
	}
	one := &snapshot.Gateway{Name: "one", Hosts: host("*.example.com")}
	two := &snapshot.Gateway{Name: "two", Hosts: host("api.example.com")}
	s := &snapshot.Snapshot{Gateways: map[string]*snapshot.Gateway{"one": one, "two": two}}
	for range 50 { // maps are walked in another order each time
		if g := serving(s, "API.example.com."); g != two {
			t.Fatalf("api.example.com is served by %v", g)
		}
		if g := serving(s, "www.example.com"); g != one {
			t.Fatalf("www.example.com is served by %v", g)
		}
	}
}
