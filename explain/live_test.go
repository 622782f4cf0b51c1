// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// backWorld is testdata/worlds/back.yaml with more, whose Probe counts.
func backWorld(t *testing.T, more string, asked *[]string) *explain.World {
	t.Helper()
	objects, err := manifest.Load(nil, "testdata/worlds/back.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var others []model.Object
	if more != "" {
		if others, err = manifest.Decode("more.yaml", []byte(more)); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range others {
		objects = slices.DeleteFunc(objects, func(x model.Object) bool { return model.RefOf(x) == model.RefOf(o) })
		objects = append(objects, o)
	}
	w, err := explain.Manifests(objects, "", now)
	if err != nil {
		t.Fatal(err)
	}
	w.Probe = func(ctx context.Context, g *snapshot.Gateway, d *request.Destination, to netip.AddrPort) (string, string, *request.Response) {
		if _, bounded := ctx.Deadline(); !bounded || g.Name != "main" || d.Network.Name != "back" || d.Scheme != "http" {
			t.Errorf("asked of %s in %s by %s, bounded %v", g.Name, d.Network.Name, d.Scheme, bounded)
		}
		*asked = append(*asked, to.String())
		return request.CodeBackendOK, "it answers", nil
	}
	return w
}

const authorized = `
apiVersion: postern/v1
kind: SecurityGroupAuthorization
metadata: {name: orders}
spec: {gateway: main, securityGroup: service-sg1, ports: ["1/65535"]}
`

var orders = answer.Question{From: "internet", URL: "https://${API/orders.host}/dev/orders"}

func TestBackendIsProbedOnceWhereTheModelAllows(t *testing.T) {
	var asked []string
	w := backWorld(t, authorized, &asked)
	if a := ask(t, w, orders); a.Verdict != answer.Allow || a.Hops[a.DecidedBy].Evidence != "probe" || !slices.Equal(asked, []string{"10.40.1.10:8080"}) {
		t.Errorf("%s %s, asked %v", a.Verdict, a.Code, asked)
	}
	asked = nil
	explain.Reach(w)
	if _, err := explain.Matrix(w, "main", true); err != nil {
		t.Fatal(err)
	}
	if len(asked) > 0 {
		t.Errorf("reachability asked %v", asked)
	}
}

func TestNoBackendIsProbedForWhatIsDeniedOrTried(t *testing.T) {
	var asked []string
	w := backWorld(t, "", &asked)
	try := w.Try
	w.Try = func(c model.Change) (*explain.World, error) {
		next, err := try(c)
		if err == nil {
			next.Probe = w.Probe
		}
		return next, err
	}
	if a := ask(t, w, orders); a.Verdict != answer.Deny || len(a.Fixes) == 0 || len(asked) > 0 {
		t.Errorf("%s with %d fixes, asked %v", a.Verdict, len(a.Fixes), asked)
	}
}

func TestProbesOfOneQuestionAreBounded(t *testing.T) {
	var asked []string
	w := backWorld(t, authorized+`---
apiVersion: postern/v1
kind: Backend
metadata: {name: orders}
spec: {network: back, targets: [{host: 10.40.1.10, port: 1}, {host: 10.40.1.10, port: 2}, {host: 10.40.1.10, port: 3}, {host: 10.40.1.10, port: 4},
  {host: 10.40.1.10, port: 5}, {host: 10.40.1.10, port: 6}, {host: 10.40.1.10, port: 7}, {host: 10.40.1.10, port: 8}, {host: 10.40.1.10, port: 9}]}
`, &asked)
	if a := ask(t, w, orders); a.Verdict != answer.Allow || len(asked) != 4 {
		t.Errorf("%s %s, asked %v", a.Verdict, a.Code, asked)
	}
}

const outside = `
apiVersion: postern/v1
kind: Backend
metadata: {name: orders}
spec: {protocol: https, targets: [{host: a.example, port: 443}, {host: a.example, port: 8443}]}
`

func TestNamesAreLookedUpForTheQuestionAloneAndOnce(t *testing.T) {
	var asked, looked []string
	w := backWorld(t, outside, &asked)
	w.Probe = nil
	found := []netip.Addr{netip.MustParseAddr("9.9.9.9")}
	w.Lookup = func(ctx context.Context, g *snapshot.Gateway, d *request.Destination) ([]netip.Addr, string, string) {
		if _, bounded := ctx.Deadline(); !bounded || g.Name != "main" || d.Network != nil {
			t.Errorf("asked by %s, bounded %v", g.Name, bounded)
		}
		looked = append(looked, d.Host)
		return found, "dns/answered", "it is there"
	}
	try := w.Try
	w.Try = func(c model.Change) (*explain.World, error) {
		next, err := try(c)
		if err == nil {
			next.Lookup = w.Lookup
		}
		return next, err
	}
	if a := ask(t, w, orders); a.Verdict != answer.Allow || len(looked) != 1 {
		t.Errorf("%s %s, looked up %v", a.Verdict, a.Code, looked)
	}
	looked, found = nil, []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	if a := ask(t, w, orders); a.Verdict != answer.Deny || a.Code != "route/none" || len(a.Fixes) == 0 || len(looked) != 1 {
		t.Errorf("%s %s, %d fixes, looked up %v", a.Verdict, a.Code, len(a.Fixes), looked)
	}
	looked = nil
	explain.Reach(w)
	if _, err := explain.Matrix(w, "main", true); err != nil || len(looked) > 0 {
		t.Errorf("%v, looked up %v", err, looked)
	}
}

// TestEveryAddressOfANameIsTried: a Gateway dials them in turn, and it counts
// what comes of the first if none takes the connection.
func TestEveryAddressOfANameIsTried(t *testing.T) {
	for _, x := range []struct{ open, code, tried string }{
		{"9.9.9.2:443", "backend/ok", "9.9.9.1:443 9.9.9.2:443"},
		{"none", "backend/timeout", "9.9.9.1:443 9.9.9.2:443 9.9.9.3:443"},
	} {
		var asked []string
		w := backWorld(t, `
apiVersion: postern/v1
kind: Backend
metadata: {name: orders}
spec: {protocol: https, targets: [{host: a.example, port: 443}]}
`, &asked)
		w.Lookup = func(context.Context, *snapshot.Gateway, *request.Destination) ([]netip.Addr, string, string) {
			return []netip.Addr{netip.MustParseAddr("2001:4860::1"), netip.MustParseAddr("9.9.9.1"), netip.MustParseAddr("9.9.9.2"), netip.MustParseAddr("9.9.9.3")}, "dns/answered", "x"
		}
		w.Probe = func(_ context.Context, _ *snapshot.Gateway, _ *request.Destination, to netip.AddrPort) (string, string, *request.Response) {
			switch asked = append(asked, to.String()); {
			case to.String() == x.open:
				return request.CodeBackendOK, "open", nil
			case len(asked) == 1:
				return request.CodeBackendTimeout, "no answer", nil
			}
			return request.CodeBackendRefused, "refused", nil
		}
		if a := ask(t, w, orders); a.Code != x.code || strings.Join(asked, " ") != x.tried {
			t.Errorf("%s: %s %s, tried %v", x.open, a.Verdict, a.Code, asked)
		}
	}
}
