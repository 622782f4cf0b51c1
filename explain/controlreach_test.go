// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
)

// frontOf is the group of the Gateway's Subnet, with whom it admits to 3443.
func frontOf(from string) string {
	return fmt.Sprintf(`
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: front}
spec:
  network: back
  rules:
    - {name: https, direction: inbound, protocol: tcp, ports: ["443"], from: [tag:Internet, tag:VirtualNetwork]}
    - {name: management, direction: inbound, protocol: tcp, ports: ["3443"], from: [%q]}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: edge}
spec: {gateway: main}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: twin}
spec: {gateway: main}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: inside}
spec: {gateway: main, attach: host/orders}
`, from)
}

func TestOpening3443GainsTheControlLink(t *testing.T) {
	var asked []string
	reach := func(from string) *explain.Reachability {
		return explain.Reach(backWorld(t, frontOf(from), &asked))
	}
	const at = "https://main.management.postern.internal:3443/ServiceStatus"
	closed := reach("tag:ApiManagement")
	f := func(from string, want ...answer.Opening) {
		t.Helper()
		gained, lost := explain.Difference(closed, reach(from))
		if diff := cmp.Diff(want, gained); diff != "" {
			t.Errorf("%s gains (-want +got)\n%s", from, diff)
		}
		if len(lost) > 0 {
			t.Errorf("%s loses %v", from, lost)
		}
		back, none := explain.Difference(reach(from), closed)
		if diff := cmp.Diff(want, none); diff != "" || len(back) > 0 {
			t.Errorf("%s taken back gains %v, and loses (-want +got)\n%s", from, back, diff)
		}
	}
	f("203.0.113.50/32", answer.Opening{From: "selfhosted/edge/203.0.113.50", To: at})
	f("tag:Internet", answer.Opening{From: "internet/203.0.113.10", To: at}, answer.Opening{From: "selfhosted/edge", To: at})
	f("tag:ApiManagement")
}

func TestControlLinksAreAskedOfWhoUsesThem(t *testing.T) {
	var asked []string
	with, without := explain.Reach(backWorld(t, frontOf("tag:ApiManagement"), &asked)), explain.Reach(backWorld(t, "", &asked))
	gained, lost := explain.Difference(without, with)
	for _, o := range gained {
		if !strings.HasPrefix(o.From, "selfhosted/") && o.From != "internet/203.0.113.10" || !strings.HasSuffix(o.To, "/ServiceStatus") {
			t.Errorf("a self-hosted gateway gains %+v", o)
		}
	}
	if len(lost) > 0 || !with.Allowed("selfhosted/inside", "https://main.configuration.postern.internal/ServiceStatus") {
		t.Errorf("lost %v, gained %v", lost, gained)
	}
}
