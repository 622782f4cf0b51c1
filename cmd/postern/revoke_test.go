// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"postern.dev/postern/client/wire"
)

// authorized goes on top of world.
const authorized = `apiVersion: postern/v1
kind: Subnet
metadata: {name: nodes}
spec: {network: corp, cidr: 10.0.2.0/24}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: inner}
spec: {region: eu-3, networkMode: internal, subnet: nodes}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: service-sg1}
spec: {network: corp, rules: [{name: mine, direction: inbound, from: [10.0.1.0/24]}]}
---
apiVersion: postern/v1
kind: SecurityGroupAuthorization
metadata: {name: orders}
spec: {gateway: inner, securityGroup: service-sg1, ports: ["8080/8080", "80/90"]}
---
apiVersion: postern/v1
kind: SecurityGroupAuthorization
metadata: {name: catalog}
spec: {gateway: inner, securityGroup: service-sg1, ports: ["9000/9000"]}
`

func TestAuthorizationsAreShownOnBothSides(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	sh.ok("apply", "-f", sh.file("authorized.yaml", authorized))
	has := func(what, out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s does not tell %q:\n%s", what, w, out)
			}
		}
	}
	has("the group", sh.ok("describe", "securitygroup", "service-sg1"),
		"  granted orders-8080-8080: tcp/8080/8080 from group:inner-managed, of SecurityGroupAuthorization/orders\n", "grantedRules:")
	has("the Gateway", sh.ok("describe", "gateway", "inner"),
		"  authorization orders: SecurityGroup/service-sg1 8080/8080, 80/90 (granted)\n", "  authorization catalog: SecurityGroup/service-sg1 9000/9000 (granted)\n")
	has("the table of groups", sh.ok("get", "securitygroups"), "GRANTED", "3")
	has("the table", sh.ok("get", "securitygroupauthorizations"), "PORTS", "8080/8080,80/90", "gsgr-", "Granted")
	var r wire.Resource
	if err := json.Unmarshal([]byte(sh.ok("get", "gateway", "inner", "-o", "json")), &r); err != nil || len(r.Status.Authorizations) != 2 || r.Status.Authorizations[1].Name != "orders" {
		t.Errorf("%+v, %v", r.Status, err)
	}

	if out := sh.ok("revoke", "service-sg1", "orders-80-90"); out != "SecurityGroup/service-sg1 rule orders-80-90 revoked\n" {
		t.Errorf("revoked: %s", out)
	}
	has("the Gateway", sh.ok("describe", "gateway", "inner"), "  authorization orders: SecurityGroup/service-sg1 8080/8080, 80/90 (revoked: 80/90)\n")
	has("the authorization", sh.ok("describe", "securitygroupauthorization", "orders"), "Granted: no (Revoked)", "revoked in SecurityGroup/service-sg1 and is not restored")
	if out := sh.run("apply", "-f", "authorized.yaml"); out.code != 0 || !strings.Contains(out.err, "the rule for 80/90 was revoked") {
		t.Errorf("applied again: %+v", out)
	}
	sh.fails([]string{"revoke", "SecurityGroup/service-sg1", "orders-80-90"}, `no rule "orders-80-90" was granted`, "orders-8080-8080")
	sh.fails([]string{"revoke", "service-sg1", "mine"}, "stands in spec.rules")
	sh.fails([]string{"revoke", "none", "x"}, "SecurityGroup/none", "does not exist")
	sh.fails([]string{"revoke", "service-sg1"}, "accepts 2 arg(s)", "postern revoke GROUP RULE")
}

func TestDeletionOfAnAuthorizationTellsOfItsOrphans(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	sh.ok("apply", "-f", sh.file("authorized.yaml", authorized))
	dry := sh.run("delete", "securitygroupauthorization", "orders", "--dry-run")
	r := sh.run("delete", "securitygroupauthorization", "orders")
	if dry.err != r.err || dry.code != 0 {
		t.Errorf("the dry run tells else: %+v", dry)
	}
	if r.code != 0 || r.out != "SecurityGroupAuthorization/orders deleted\n" || strings.Count(r.err, "warning: ") != 2 ||
		!strings.Contains(r.err, "SecurityGroup/service-sg1 keeps the rule orders-8080-8080, which still admits Gateway/inner; to remove it: postern revoke service-sg1 orders-8080-8080\n") {
		t.Errorf("%+v", r)
	}
	out := sh.ok("describe", "securitygroup", "service-sg1")
	if !strings.Contains(out, "  granted orders-8080-8080: tcp/8080/8080 from group:inner-managed, orphan of SecurityGroupAuthorization/orders, which is gone\n") ||
		!strings.Contains(out, "Advice: yes (OrphanedRule)") || strings.Count(out, "granted catalog") != 1 {
		t.Errorf("described: %s", out)
	}
	sh.ok("revoke", "service-sg1", "orders-8080-8080")
	sh.ok("revoke", "service-sg1", "orders-80-90")
	dry = sh.run("delete", "securitygroupauthorization", "catalog", "--cascade", "--dry-run")
	r = sh.run("delete", "securitygroupauthorization", "catalog", "--cascade")
	if r.code != 0 || r.err != "" || r.out != "SecurityGroupAuthorization/catalog deleted\nSecurityGroup/service-sg1 rule catalog-9000-9000 revoked\n" {
		t.Errorf("%+v", r)
	}
	if want := strings.ReplaceAll(r.out, "\n", " (dry run)\n"); dry.out != want {
		t.Errorf("the dry run tells %q, want %q", dry.out, want)
	}
	if out := sh.ok("get", "securitygroup", "service-sg1", "-o", "yaml"); strings.Contains(out, "grantedRules") {
		t.Errorf("rules are left: %s", out)
	}
	sh.fails([]string{"delete", "host", "laptop", "--cascade"}, "cascade", "SecurityGroupAuthorizations")
	sh.fails([]string{"delete", "securitygroupauthorization", "none", "--cascade"}, "SecurityGroupAuthorization/none")
}
