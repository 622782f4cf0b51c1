// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/explain/answer"
)

// TestAuthorizationForAnotherHostIsNotToldBesideTheRightOne: that is no mistake.
func TestAuthorizationForAnotherHostIsNotToldBesideTheRightOne(t *testing.T) {
	const other = `
apiVersion: postern/v1
kind: SecurityGroupAuthorization
metadata: {name: other}
spec: {gateway: main, securityGroup: service-sg2, ports: ["80/9000"]}
`
	const right = `---
apiVersion: postern/v1
kind: SecurityGroupAuthorization
metadata: {name: right}
spec: {gateway: main, securityGroup: service-sg1, ports: ["80/80"]}
`
	var asked []string
	for more, told := range map[string][]string{
		other:         {"SecurityGroupAuthorization/other"},
		other + right: {"SecurityGroupAuthorization/right"},
	} {
		var got []string
		for _, f := range ask(t, backWorld(t, more, &asked), orders).Findings {
			if strings.HasPrefix(f.Component, "SecurityGroupAuthorization/") {
				got = append(got, f.Component)
			}
		}
		if !slices.Equal(got, told) {
			t.Errorf("told of %v, want %v", got, told)
		}
	}
}

// TestDomainIsSaidToResolveToWhatItDoesForTheCaller: in the Network of an
// injected Gateway that is the private address.
func TestDomainIsSaidToResolveToWhatItDoesForTheCaller(t *testing.T) {
	var asked []string
	w := backWorld(t, authorized+`---
apiVersion: postern/v1
kind: Domain
metadata: {name: shop.example}
spec: {type: regional, mappings: [{path: "", api: orders, stage: dev}]}
`, &asked)
	for from, want := range map[string]string{
		"host/orders": "shop.example, which resolves to the private address 10.40.0.10",
		"internet":    "shop.example, which resolves to a public address",
	} {
		a := ask(t, w, answer.Question{From: from, URL: "https://main.postern.internal/orders"})
		if !slices.ContainsFunc(a.Fixes, func(f answer.Fix) bool { return strings.HasSuffix(f.Summary, want) }) {
			t.Errorf("%s: %s %s, %+v", from, a.Verdict, a.Code, a.Fixes)
		}
	}
}

func TestManagementPlaneAsksForAToken(t *testing.T) {
	var asked []string
	w := backWorld(t, "", &asked)
	token := []answer.Header{{Name: "Authorization", Value: "Bearer x"}}
	for _, x := range []struct {
		method, path string
		headers      []answer.Header
		status       int
	}{
		{"", "/v1/networks", nil, 401},
		{"", "/v1/hosts/orders", nil, 401},
		{"", "/v1/networks", token, 0},
		{"", "/ServiceStatus", nil, 200},
		{"", "/v1/healthz", nil, 0},
		{"", "/other", nil, 0},
		{"PUT", "/v1/networks", nil, 0},
	} {
		a := ask(t, w, answer.Question{From: "internet/198.18.0.1", Method: x.method, URL: "https://main.management.postern.internal:3443" + x.path, Headers: x.headers})
		if a.Verdict != answer.Allow || a.Symptom.Status != x.status {
			t.Errorf("%s %s with %d headers: %s, %+v", x.method, x.path, len(x.headers), a.Verdict, a.Symptom)
		}
	}
}

// TestRefusedHandshakeNamesWhatIsServed: by names that there are.
func TestRefusedHandshakeNamesWhatIsServed(t *testing.T) {
	var asked []string
	a := ask(t, backWorld(t, "", &asked), answer.Question{From: "internet", URL: "https://main.management.postern.internal/"})
	if text := a.Hops[a.DecidedBy].Reason; a.Code != "tls/unknown-name" || !strings.Contains(text, "serves main.postern.internal, main.portal.postern.internal") {
		t.Errorf("%s: %s", a.Code, text)
	}
}

// TestNoFixUndoesAnother: what one change takes out the next does not put back.
func TestNoFixUndoesAnother(t *testing.T) {
	var asked []string
	w := backWorld(t, `
apiVersion: postern/v1
kind: Gateway
metadata: {name: main}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: free}
spec: {network: back, cidr: 10.40.9.0/24}
`, &asked)
	a := ask(t, w, orders)
	var ways []string
	for _, f := range a.Fixes {
		way, _, _ := strings.Cut(f.Summary, " ")
		ways = append(ways, way)
	}
	if !slices.Equal(ways, []string{"integrate", "inject"}) {
		t.Errorf("%s: %+v", a.Code, a.Fixes)
	}
}
