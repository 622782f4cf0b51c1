// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
)

const plant = `
apiVersion: postern/v1
kind: Network
metadata: {name: corp}
spec: {cidrs: [10.0.0.0/16], internetGateway: true}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: apps}
spec: {network: corp, cidr: 10.0.1.0/24, internetRoute: true}
---
apiVersion: postern/v1
kind: Host
metadata: {name: machine}
spec: {subnet: apps}
---
apiVersion: postern/v1
kind: Link
metadata: {name: plant}
spec: {network: corp, type: vpn, cidrs: [192.168.9.0/24]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: gw}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: gw, type: regional, path: pets, openapi: "example:petstore"}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: pets.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: outside}
spec: {gateway: gw, apis: [pets]}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: beside}
spec: {gateway: gw, attach: host/machine}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: afar}
spec: {gateway: gw, attach: link/plant}
`

func plantWorld(t *testing.T) *explain.World {
	t.Helper()
	docs := documents{}
	docs.read(t, "plant.yaml", []byte(plant))
	return docs.world(t, false, nil)
}

// A self-hosted gateway has the way of what it is attached to.
func TestASelfHostedGatewayCallsAsWhatItIsAttachedTo(t *testing.T) {
	w := plantWorld(t)
	for from, as := range map[string]string{
		"selfhosted/beside":               "host/machine",
		"selfhosted/afar":                 "link/plant",
		"selfhosted/afar/192.168.9.77":    "link/plant/192.168.9.77",
		"selfhosted/outside/203.0.113.50": "internet/203.0.113.50",
		"selfhosted/outside":              "internet/198.51.100.10",
	} {
		for _, url := range []string{"https://gw.configuration.postern.internal/ServiceStatus", "https://${Gateway/gw.host}/pets/pets", "tcp://${Host/machine.address}:8080"} {
			got, want := ask(t, w, answer.Question{From: from, URL: url}), ask(t, w, answer.Question{From: as, URL: url})
			if got.Verdict != want.Verdict || got.Code != want.Code || len(got.Hops) != len(want.Hops) {
				t.Errorf("%s to %s: %s %s, and %s %s %s", from, url, got.Verdict, got.Code, as, want.Verdict, want.Code)
			}
		}
	}
}

func TestWhatASelfHostedGatewayTakesForGrantedIsSaid(t *testing.T) {
	w := plantWorld(t)
	says := func(q answer.Question, text string) bool {
		return slices.ContainsFunc(ask(t, w, q).Assumptions, func(a string) bool { return strings.Contains(a, text) })
	}
	api := "https://${Gateway/gw.host}/pets/pets"
	if !says(answer.Question{From: "selfhosted/outside", URL: api}, "stands for its own address") {
		t.Error("an address that nobody named is taken for its own in silence")
	}
	if says(answer.Question{From: "selfhosted/outside/203.0.113.50", URL: api}, "stands for its own address") {
		t.Error("an address that was named is doubted")
	}
	if !says(answer.Question{From: "selfhosted/outside", URL: api}, "call of the managed Gateway/gw") {
		t.Error("a call of the managed Gateway passes for one of the self-hosted gateway's own")
	}
}

// isleWorld has a self-hosted gateway whose address is not known, and tells whom the
// management plane of its Gateway in internal mode admits.
func isleWorld(t *testing.T, admits string) *explain.World {
	t.Helper()
	docs := documents{}
	docs.read(t, "plant.yaml", []byte(plant+`---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: nodes}
spec: {network: corp, rules: [{direction: inbound, protocol: tcp, ports: ["3443"], from: ["`+admits+`"]}]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: nodes}
spec: {network: corp, cidr: 10.0.9.0/24, securityGroup: nodes}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: inner}
spec: {region: eu-1, networkMode: internal, subnet: nodes}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: isle}
spec: {gateway: inner}
`))
	return docs.world(t, false, nil)
}

// TestAFixWithAStandInSaysSo fails where a rule for an address that is nobody's is
// offered as if it were the gateway's own.
func TestAFixWithAStandInSaysSo(t *testing.T) {
	w := isleWorld(t, "tag:ApiManagement")
	fix := func(from string) string {
		t.Helper()
		a := ask(t, w, answer.Question{From: from, URL: "https://inner.management.postern.internal:3443/ServiceStatus"})
		for _, f := range a.Fixes {
			if strings.Contains(f.Summary, "/32") {
				return f.Summary
			}
		}
		t.Fatalf("from %s no address is let in: %+v", from, a)
		return ""
	}
	if s := fix("selfhosted/isle"); !strings.Contains(s, "write SelfHostedGateway/isle's own address in place of 198.51.100.10, which stands for it") {
		t.Error(s)
	}
	if s := fix("selfhosted/isle/203.0.113.50"); strings.Contains(s, "stands for") {
		t.Error(s)
	}
}

// TestAFindingDoesNotTakeAStandInForTheGateways has findings that advise to admit the
// gateway's address.
func TestAFindingDoesNotTakeAStandInForTheGateways(t *testing.T) {
	found := func(admits, from string) string {
		t.Helper()
		a := ask(t, isleWorld(t, admits), answer.Question{From: from, URL: "https://inner.management.postern.internal:3443/ServiceStatus"})
		for _, f := range a.Findings {
			if strings.Contains(f.Message, "Admit") {
				return f.Message
			}
		}
		t.Fatalf("%s admitted, from %s: %+v", admits, from, a.Findings)
		return ""
	}
	for admits, want := range map[string][2]string{
		"tag:Internet":      {"Admit tag:ApiManagement and SelfHostedGateway/isle's own address in place of everyone.", "Admit tag:ApiManagement and 203.0.113.50/32 of SelfHostedGateway/isle in place of everyone."},
		"tag:ApiManagement": {"and not 198.51.100.10, which stands for SelfHostedGateway/isle's own address. Admit its own address alone:", "and not 203.0.113.50, from which SelfHostedGateway/isle calls. Admit that address alone:"},
	} {
		for i, from := range []string{"selfhosted/isle", "selfhosted/isle/203.0.113.50"} {
			if s := found(admits, from); !strings.Contains(s, want[i]) {
				t.Errorf("%s admitted, from %s: %s", admits, from, s)
			}
		}
	}
}

// TestAtASharedAddressARefusalIsTheHandshakes has two Gateways of which one alone
// publishes 443.
func TestAtASharedAddressARefusalIsTheHandshakes(t *testing.T) {
	const by, refused = "inner.management.postern.internal:443 is refused, at the address of --public by a handshake that fails with unrecognized name", "inner.management.postern.internal:443 is refused (listen/refused)"
	for _, sockets := range []bool{false, true} {
		w := isleWorld(t, "tag:ApiManagement")
		w.Sockets = sockets
		a := ask(t, w, answer.Question{From: "selfhosted/isle", URL: "https://inner.management.postern.internal:443/ServiceStatus"})
		var all string
		for _, f := range a.Findings {
			all += f.Message + "\n"
		}
		if strings.Contains(all, by) != sockets || strings.Contains(all, refused) == sockets {
			t.Errorf("on real sockets %v: %s", sockets, all)
		}
	}
}

func TestWrongSelfHostedSourcesAreRefused(t *testing.T) {
	w := plantWorld(t)
	for from, want := range map[string]string{
		"selfhosted/outsid":             "did you mean selfhosted/outside?",
		"selfhosted/beside/10.0.1.9":    "is attached to host/machine",
		"selfhosted/outside/nowhere":    "is not an IP address",
		"selfhosted/":                   `there is no SelfHostedGateway ""`,
		"selfhosted/afar/192.168.9.1/x": "is not an IP address",
	} {
		_, err := explain.Explain(t.Context(), w, answer.Question{From: from, URL: "https://gw.postern.internal/"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", from, err, want)
		}
	}
}
