// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
)

// medium is a world of 200 Hosts in four Subnets, and 75 APIs with a Stage
// each, half of them private.
func medium(t testing.TB) *explain.World {
	t.Helper()
	var b strings.Builder
	add := func(kind, name, spec string) {
		fmt.Fprintf(&b, "---\napiVersion: postern/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
	}
	add("Network", "corp", "{cidrs: [10.20.0.0/16], internetGateway: true}")
	add("Subnet", "endpoints", "{network: corp, cidr: 10.20.0.0/24}")
	add("SecurityGroup", "execute-api", `{network: corp, rules: [{direction: inbound, protocol: tcp, ports: ["443"], from: [10.20.1.0/24, 10.20.2.0/24, 192.168.50.0/24]}]}`)
	add("SecurityGroup", "hosts", `{network: corp, rules: [{direction: inbound, protocol: tcp, ports: ["22"], from: ["group:hosts"]}]}`)
	add("Link", "onprem", "{network: corp, type: direct-connect, cidrs: [192.168.50.0/24]}")
	add("Gateway", "main", "{region: eu-1}")
	add("Endpoint", "corp", "{gateway: main, subnets: [endpoints], securityGroups: [execute-api], privateDNS: false}")
	for i := range 4 {
		add("Subnet", fmt.Sprint("hosts-", i), fmt.Sprintf("{network: corp, cidr: 10.20.%d.0/24, internetRoute: %v}", i+1, i%2 == 0))
	}
	for i := range 200 {
		add("Host", fmt.Sprint("host-", i), fmt.Sprintf("{subnet: hosts-%d, securityGroups: [hosts]}", i%4))
	}
	for i := range 75 {
		if i%2 == 0 {
			add("API", fmt.Sprint("api-", i), `{gateway: main, type: private, openapi: 'example:petstore', policy: {Version: "2012-10-17", Statement: [
  {Effect: Deny, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*", Condition: {StringNotEquals: {"aws:SourceVpce": "${Endpoint/corp.id}"}}},
  {Effect: Allow, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*"}]}}`)
		} else {
			add("API", fmt.Sprint("api-", i), "{gateway: main, type: regional, openapi: 'example:petstore'}")
		}
		add("Stage", fmt.Sprintf("api-%d.dev", i), "{deployment: latest}")
	}
	objects, err := manifest.Decode("medium.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	w, err := explain.Manifests(objects, "", now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var mediumQuestions = map[string]answer.Question{
	"allowed": {
		From: "host/host-0", URL: "https://${Endpoint/corp.host}/dev/pets",
		Headers: []answer.Header{{Name: "x-apigw-api-id", Value: "${API/api-0.id}"}},
	},
	"denied": {
		From: "host/host-2", URL: "https://${Endpoint/corp.host}/dev/pets",
		Headers: []answer.Header{{Name: "x-apigw-api-id", Value: "${API/api-0.id}"}},
	},
}

func BenchmarkExplain(b *testing.B) {
	w := medium(b)
	for _, name := range []string{"allowed", "denied"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := explain.Explain(b.Context(), w, mediumQuestions[name]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReach(b *testing.B) {
	w := medium(b)
	s, p := explain.Reach(w).Size()
	b.ReportMetric(float64(s*p), "pairs")
	for b.Loop() {
		explain.Reach(w)
	}
}

// TestReachIsQuick keeps plan and fixes usable at this size. The bound is wide:
// it is for what grows with the square, not for a slow machine.
func TestReachIsQuick(t *testing.T) {
	w := medium(t)
	start := time.Now()
	r := explain.Reach(w)
	took := time.Since(start)
	s, p := r.Size()
	if s < 200 || p < 300 {
		t.Errorf("only %d callers and %d URLs", s, p)
	}
	if took > 3*time.Second {
		t.Errorf("%d callers and %d URLs took %v", s, p, took)
	}
}
