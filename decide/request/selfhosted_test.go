// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"net/netip"
	"testing"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

// TestASelfHostedGatewayAnswersToTheNameOfItsMachine holds the rule of which
// names are the Gateway's own there to where it does not hold.
func TestASelfHostedGatewayAnswersToTheNameOfItsMachine(t *testing.T) {
	w := newWorld(t)
	w.g.PublicAccess, w.g.HTTP = false, "redirect"
	f := func(servedBy, host, path string, tls bool, want string) {
		t.Helper()
		a := w.at(nil, "GET", host, path)
		a.Origin = &snapshot.Origin{Source: netip.MustParseAddrPort("10.0.0.9:4000"), Local: netip.MustParseAddrPort("10.0.0.1:80"), ServedBy: servedBy}
		a.TLS = tls
		v := request.Judge(w.Snapshot, a, false)
		got := v.Code()
		if v.Redirect {
			got = "redirect"
		}
		if got != want {
			t.Errorf("GET %s%s at %q: %s, want %s", host, path, servedBy, got, want)
		}
	}
	for _, host := range []string{"edge.example", "10.0.0.1:8080", "localhost", "", "main." + base, "main.management." + base} {
		f("edge", host, "/shop/v1/pets", false, request.CodeMethodFound)
		f("edge", host, "/shop/v1/pets", true, request.CodeMethodFound)
		f("edge", host, "/nothing", false, request.CodeAPIIDUnknown)
		f("edge", host, request.StatusPath, false, request.CodeAccepted)
	}
	f("edge", "a.shop.example", "/pets", false, request.CodeMethodFound)
	f("edge", "a.shop.example", "/shop/v1/pets", false, request.CodeMethodUnknown)
	f("edge", w.pub.Host, "/prod/pets", false, request.CodeMethodFound)
	f("edge", "unknown.execute-api.eu-1."+base, "/shop/v1/pets", false, request.CodeAPIIDUnknown)
	// Elsewhere nothing changes.
	f("", "edge.example", "/shop/v1/pets", true, request.CodePublicAccessOff)
	w.g.PublicAccess = true
	f("", "edge.example", "/shop/v1/pets", true, request.CodeHostUnknown)
	f("", "main."+base, "/shop/v1/pets", false, "redirect")
}

func TestAtASelfHostedGatewayAnAllowedRequestCostsNoAllocation(t *testing.T) {
	w := newWorld(t)
	for _, host := range []string{"localhost:8080", "10.0.0.1:8081", "main." + base, "a.shop.example"} {
		path := "/shop/v1/pets"
		if host == "a.shop.example" {
			path = "/pets"
		}
		a := w.at(nil, "GET", host, path)
		a.Origin = &snapshot.Origin{Source: netip.MustParseAddrPort("10.0.0.9:4000"), Local: netip.MustParseAddrPort("10.0.0.1:80"), ServedBy: "edge"}
		v := new(request.Verdict)
		n := testing.AllocsPerRun(100, func() { v.Judge(w.Snapshot, a, false) })
		if n != 0 || !v.Allowed {
			t.Errorf("%s%s: %v allocations, %s", host, path, n, v.Code())
		}
	}
}
