// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/token"
	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

// backends is an injected Gateway beside a backend that it is not let in to.
const backends = `
apiVersion: postern/v1
kind: Network
metadata: {name: shop}
spec: {cidrs: [10.7.0.0/16]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: nodes}
spec: {network: shop, cidr: 10.7.1.0/24}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: inner}
spec: {region: eu-1, networkMode: internal, subnet: nodes}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: service}
spec: {network: shop, rules: [{name: own, direction: inbound, ports: ["22"], from: [10.7.9.0/24]}]}
---
apiVersion: postern/v1
kind: Host
metadata: {name: app}
spec: {subnet: nodes, securityGroups: [service]}
`

const authorization = `
apiVersion: postern/v1
kind: SecurityGroupAuthorization
metadata: {name: a}
spec: {gateway: inner, securityGroup: service, ports: ["8080/8080", "80/90"]}
`

var (
	service    = model.Ref{Kind: model.KindSecurityGroup, Name: "service"}
	authorized = model.Ref{Kind: model.KindAuthorization, Name: "a"}
)

// open reports whether what is served lets the Gateway's node in at a port.
func (p *plane) open(port uint16) bool {
	s := p.served.Load()
	node := s.Gateways["inner"].Nodes[0].Addr
	return decide.Judge(s.Hosts["app"].Groups, sg.Inbound, sg.TCP, node, port).Allowed
}

func names(rs []model.GrantedRule) []string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Name)
	}
	return out
}

func TestRevokedRuleIsStoredAndServed(t *testing.T) {
	s := mem.New(store.Limits{})
	t.Cleanup(func() { _ = s.Close() })
	p := newPlaneOn(t, s)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, backends), false); err != nil {
		t.Fatal(err)
	}
	if p.open(8080) {
		t.Fatal("open before")
	}
	if _, err := c.Apply(t.Context(), read(t, authorization), false); err != nil {
		t.Fatal(err)
	}
	if !p.open(8080) || !p.open(80) {
		t.Error("not served")
	}
	got, err := c.Revoke(t.Context(), "service", "a-8080-8080")
	if err != nil || p.open(8080) || !p.open(80) {
		t.Errorf("revoked: %v", err)
	}
	if d := cmp.Diff([]string{"a-80-90"}, names(got.Status.GrantedRules)); d != "" {
		t.Error(d)
	}
	// Applying either side again, or opening the store again, restores nothing.
	if _, err := c.Apply(t.Context(), append(read(t, backends), read(t, authorization)...), false); err != nil || p.open(8080) {
		t.Errorf("applied again: %v", err)
	}
	again := newPlaneOn(t, s)
	if again.open(8080) || !again.open(80) {
		t.Error("the store does not hold it")
	}
	z, err := again.client(again.admin).Get(t.Context(), authorized)
	if err != nil || len(z.Status.Conditions) != 2 || z.Status.Conditions[1].Status || z.Status.Conditions[1].Reason != "Revoked" {
		t.Errorf("%+v, %v", z.Status.Conditions, err)
	}
	for _, rule := range []string{"a-8080-8080", "own", ""} {
		if _, err := c.Revoke(t.Context(), "service", rule); errorKind(err) != model.NotFound {
			t.Errorf("%q: %v", rule, err)
		}
	}
	if _, err := c.Revoke(t.Context(), "none", "x"); errorKind(err) != model.NotFound {
		t.Errorf("a group that is not there: %v", err)
	}
}

func TestRevocationAndCascadeHoldToTheRevision(t *testing.T) {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), append(read(t, backends), read(t, authorization)...), false); err != nil {
		t.Fatal(err)
	}
	const body = `{"rule":"a-80-90"}`
	const revoke, remove = "/v1/securitygroups/service/revoke", "/v1/securitygroupauthorizations/a?cascade=true"
	if got := p.call("POST", revoke, p.admin, body, "If-Match", `"1"`); got.Code != http.StatusPreconditionFailed {
		t.Errorf("revoke with an old tag: %d %s", got.Code, got.Body)
	}
	if got := p.call("DELETE", remove, p.admin, "", "If-Match", `"1"`); got.Code != http.StatusPreconditionFailed {
		t.Errorf("delete with an old tag: %d %s", got.Code, got.Body)
	}
	tag := p.call("GET", "/v1/securitygroups/service", p.admin, "").Header().Get("Etag")
	got := p.call("POST", revoke, p.admin, body, "If-Match", tag)
	if got.Code != http.StatusOK || got.Header().Get("Etag") == tag {
		t.Errorf("revoke: %d %s", got.Code, got.Body)
	}
	// A change of the authorization is one of the group too.
	tag = got.Header().Get("Etag")
	if got := p.call("DELETE", remove, p.admin, ""); got.Code != http.StatusNoContent || p.open(8080) {
		t.Errorf("delete: %d %s", got.Code, got.Body)
	}
	if now := p.call("GET", "/v1/securitygroups/service", p.admin, "").Header().Get("Etag"); now == tag {
		t.Error("the group has the tag that it had with the rule")
	}
	for path, want := range map[string]int{"/v1/hosts/app?cascade=true": http.StatusBadRequest, "/v1/hosts/app?cascade=perhaps": http.StatusBadRequest, "/v1/hosts/app?cascade=false": http.StatusNoContent} {
		if got := p.call("DELETE", path, p.admin, ""); got.Code != want {
			t.Errorf("DELETE %s: %d %s", path, got.Code, got.Body)
		}
	}
}

func TestOnlyAdminsAuthorizeAndRevoke(t *testing.T) {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), append(read(t, backends), read(t, authorization)...), false); err != nil {
		t.Fatal(err)
	}
	c := p.client(p.token(token.Publisher, ""))
	_, apply := c.Apply(t.Context(), read(t, authorization), false)
	_, revoke := c.Revoke(t.Context(), "service", "a-80-90")
	_, remove := c.DeleteAll(t.Context(), wire.Deletion{Resources: []model.Ref{authorized}, Cascade: true}, false)
	for what, err := range map[string]error{"apply": apply, "revoke": revoke, "delete": remove} {
		if errorKind(err) != model.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPlanShowsTheRulesOfAnAuthorization(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, backends), false); err != nil {
		t.Fatal(err)
	}
	plan, err := c.Plan(t.Context(), read(t, authorization))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ch := range plan.Changes {
		got = append(got, ch.Ref.String()+" "+string(ch.Action))
		for _, f := range ch.Fields {
			got = append(got, f.Path)
		}
	}
	if d := cmp.Diff([]string{"SecurityGroup/service configured", "status.grantedRules", "SecurityGroupAuthorization/a created"}, got); d != "" {
		t.Error(d)
	}
	if p.open(8080) {
		t.Error("a plan has opened the port")
	}
	// Where nothing would change, a plan warns as an apply does.
	if _, err := c.Apply(t.Context(), read(t, authorization), false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Revoke(t.Context(), "service", "a-80-90"); err != nil {
		t.Fatal(err)
	}
	plan, err = c.Plan(t.Context(), read(t, authorization))
	if err != nil || len(plan.Changes) > 0 || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "80/90 was revoked") {
		t.Errorf("a plan of what was revoked: %+v, %v", plan, err)
	}
}

func TestDeletionTellsOfOrphans(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), append(read(t, backends), read(t, authorization)...), false); err != nil {
		t.Fatal(err)
	}
	done, err := c.DeleteAll(t.Context(), wire.Deletion{Resources: []model.Ref{authorized}}, false)
	if err != nil || len(done.Warnings) != 2 || !strings.HasSuffix(done.Warnings[0], "postern revoke service a-80-90") || !p.open(8080) {
		t.Errorf("%v, %v", done.Warnings, err)
	}
	g, err := c.Get(t.Context(), service)
	if err != nil || len(g.Status.GrantedRules) != 2 || !g.Status.GrantedRules[0].Orphan {
		t.Errorf("%+v, %v", g.Status.GrantedRules, err)
	}
	// Without its Gateway the rule stands and admits nobody.
	if _, err := c.DeleteAll(t.Context(), wire.Deletion{Resources: []model.Ref{{Kind: model.KindGateway, Name: "inner"}}}, false); err != nil {
		t.Fatal(err)
	}
	s := p.served.Load()
	if decide.Judge(s.Hosts["app"].Groups, sg.Inbound, sg.TCP, netip.MustParseAddr("10.7.1.4"), 8080).Allowed {
		t.Error("the address of a Gateway that is gone is let in")
	}
	if _, err := c.Revoke(t.Context(), "service", "a-80-90"); err != nil {
		t.Errorf("an orphan: %v", err)
	}
}
