// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/model"
)

// backends is a Gateway in a Network with two groups of backends.
func backends(t *testing.T, more ...model.Object) *model.Set {
	t.Helper()
	s, _, err := model.Admit(model.NewSet(), model.Change{Puts: append([]model.Object{
		&model.Network{Head: head("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/16"}}},
		&model.Subnet{Head: head("nodes"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.0.1.0/24"}},
		&model.Gateway{Head: head("inner"), Spec: model.GatewaySpec{Region: "eu-1", NetworkMode: model.ModeInternal, Subnet: "nodes"}},
		&model.SecurityGroup{Head: head("one"), Spec: model.SecurityGroupSpec{Network: "corp"}},
		&model.SecurityGroup{Head: head("two"), Spec: model.SecurityGroupSpec{Network: "corp", Defaults: model.DefaultsEnterprise}},
	}, more...)}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func head(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

func authorize(name, group string, ports ...string) *model.SecurityGroupAuthorization {
	return &model.SecurityGroupAuthorization{Head: head(name), Spec: model.SecurityGroupAuthorizationSpec{Gateway: "inner", SecurityGroup: group, Ports: ports}}
}

var refOne = model.Ref{Kind: model.KindAuthorization, Name: "a"}

func change(t *testing.T, s *model.Set, c model.Change, server bool) *model.Set {
	t.Helper()
	next, _, err := model.Admit(s, c, model.Options{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// revoke removes a rule as the server does when asked.
func revoke(t *testing.T, s *model.Set, group, rule string) *model.Set {
	t.Helper()
	g, _ := model.Get[*model.SecurityGroup](s, group)
	g = model.Clone(g)
	n := len(g.Status.GrantedRules)
	g.Status.GrantedRules = slices.DeleteFunc(g.Status.GrantedRules, func(r model.GrantedRule) bool { return r.Name == rule })
	if len(g.Status.GrantedRules) == n {
		t.Fatalf("%s has no rule %s", group, rule)
	}
	return change(t, s, model.Change{Puts: []model.Object{g}}, true)
}

// rules lists the granted rules of a group, orphans with a star.
func rules(s *model.Set, group string) []string {
	g, _ := model.Get[*model.SecurityGroup](s, group)
	var out []string
	for _, r := range g.Status.GrantedRules {
		if r.Orphan {
			r.Name += "*"
		}
		out = append(out, r.Name)
	}
	return out
}

func TestRevokedRuleIsNotRestored(t *testing.T) {
	s := revoke(t, backends(t, authorize("a", "one", "80/80", "443/443")), "one", "a-80-80")
	steps := []struct {
		what    string
		change  model.Change
		want    []string
		revoked []string
	}{
		{"nothing", model.Change{}, []string{"a-443-443"}, []string{"80/80"}},
		{"the authorization again", model.Change{Puts: []model.Object{authorize("a", "one", "80/80", "443/443")}}, []string{"a-443-443"}, []string{"80/80"}},
		{"the group with a rule of its own", model.Change{Puts: []model.Object{&model.SecurityGroup{Head: head("one"), Spec: model.SecurityGroupSpec{Network: "corp", Rules: []model.Rule{{Direction: "inbound"}}}}}}, []string{"a-443-443"}, []string{"80/80"}},
		{"another range", model.Change{Puts: []model.Object{authorize("a", "one", "80/80", "443/443", "9/9")}}, []string{"a-9-9", "a-443-443"}, []string{"80/80"}},
		{"without the revoked range", model.Change{Puts: []model.Object{authorize("a", "one", "443/443")}}, []string{"a-443-443"}, nil},
		{"with it again", model.Change{Puts: []model.Object{authorize("a", "one", "80/80", "443/443")}}, []string{"a-80-80", "a-443-443"}, nil},
	}
	for _, st := range steps {
		s = change(t, s, st.change, false)
		z, _ := model.Get[*model.SecurityGroupAuthorization](s, "a")
		if d := cmp.Diff(st.want, rules(s, "one")) + cmp.Diff(st.revoked, model.Revoked(s, z)); d != "" {
			t.Errorf("%s:\n%s", st.what, d)
		}
	}
}

func TestAuthorizationAppliedAgainGrantsWhatWasRevoked(t *testing.T) {
	s := revoke(t, backends(t, authorize("a", "one", "80/80", "443/443")), "one", "a-80-80")
	s = change(t, s, model.Change{Deletes: []model.Ref{refOne}}, false)
	if d := cmp.Diff([]string{"a-443-443*"}, rules(s, "one")); d != "" {
		t.Error("deleted:", d)
	}
	s = change(t, s, model.Change{Puts: []model.Object{authorize("a", "one", "80/80", "443/443")}}, false)
	if d := cmp.Diff([]string{"a-80-80", "a-443-443"}, rules(s, "one")); d != "" {
		t.Error("applied again:", d)
	}
}

func TestOrphanIsTakenUpOnlyForItsRange(t *testing.T) {
	s := backends(t, authorize("a", "one", "80/80", "443/443"))
	s = change(t, s, model.Change{Deletes: []model.Ref{refOne}}, false)
	s = change(t, s, model.Change{Puts: []model.Object{authorize("a", "one", "80/80")}}, false)
	if d := cmp.Diff([]string{"a-80-80", "a-443-443*"}, rules(s, "one")); d != "" {
		t.Error(d)
	}
	// The orphan is nobody's: cascade leaves it, an authorization that asks for
	// the range takes it up.
	gone := change(t, s, model.Change{Deletes: []model.Ref{refOne}, Cascade: true}, false)
	if d := cmp.Diff([]string{"a-443-443*"}, rules(gone, "one")); d != "" {
		t.Error("cascade:", d)
	}
	s = change(t, s, model.Change{Puts: []model.Object{authorize("a", "one", "80/80", "443/443")}}, false)
	if d := cmp.Diff([]string{"a-80-80", "a-443-443"}, rules(s, "one")); d != "" {
		t.Error("asked for again:", d)
	}
}

func TestOrphanOfAnotherGatewayKeepsItsName(t *testing.T) {
	s := backends(t, authorize("a", "one", "80/80"),
		&model.Subnet{Head: head("more"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.0.2.0/24"}},
		&model.Gateway{Head: head("second"), Spec: model.GatewaySpec{Region: "eu-2", NetworkMode: model.ModeInternal, Subnet: "more"}})
	s = change(t, s, model.Change{Deletes: []model.Ref{refOne}}, false)
	other := authorize("a", "one", "80/80")
	other.Spec.Gateway = "second"
	_, _, err := model.Admit(s, model.Change{Puts: []model.Object{other}}, model.Options{})
	errs := model.AsErrors(err)
	if len(errs) != 1 || errs[0].Kind != model.Conflict || errs[0].Field != "spec.ports[0]" {
		t.Fatal(err)
	}
	s = change(t, revoke(t, s, "one", "a-80-80"), model.Change{Puts: []model.Object{other}}, false)
	if d := cmp.Diff([]string{"a-80-80"}, rules(s, "one")); d != "" {
		t.Error(d)
	}
}

func TestAuthorizationTakesItsRulesToAnotherGateway(t *testing.T) {
	s := backends(t, authorize("a", "one", "80/80", "81/81"),
		&model.Subnet{Head: head("more"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.0.2.0/24"}},
		&model.Gateway{Head: head("second"), Spec: model.GatewaySpec{Region: "eu-2", NetworkMode: model.ModeInternal, Subnet: "more"}})
	s = revoke(t, s, "one", "a-80-80")
	other := authorize("a", "one", "80/80", "81/81")
	other.Spec.Gateway = "second"
	s = change(t, s, model.Change{Puts: []model.Object{other}}, false)
	g, _ := model.Get[*model.SecurityGroup](s, "one")
	var got []string
	for _, r := range g.Status.GrantedRules {
		got = append(got, fmt.Sprint(r.Name, r.From))
	}
	if d := cmp.Diff([]string{"a-80-80[group:second-managed]", "a-81-81[group:second-managed]"}, got); d != "" {
		t.Error(d)
	}
}

// TestFromOfAGrantedRuleIsNeverEmpty is vital: no peer at all means anywhere.
func TestFromOfAGrantedRuleIsNeverEmpty(t *testing.T) {
	empty := &model.SecurityGroup{Head: head("three"), Spec: model.SecurityGroupSpec{Network: "corp", Defaults: model.DefaultsEnterprise}}
	empty.Status.GrantedRules = []model.GrantedRule{{Authorization: "x", Gateway: "gone", Ports: "1/65535"}}
	s, _, err := model.Admit(backends(t), model.Change{Puts: []model.Object{empty}}, model.Options{Deployments: true})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := model.Get[*model.SecurityGroup](s, "three")
	if d := cmp.Diff([]model.GrantedRule{{Name: "x-1-65535", Authorization: "x", Gateway: "gone", Protocol: "tcp", Ports: "1/65535", From: []string{"group:gone-managed"}, Orphan: true}}, g.Status.GrantedRules); d != "" {
		t.Error(d)
	}
}

func TestBackupWithBadGrantedRulesIsRefused(t *testing.T) {
	bad := &model.SecurityGroup{Head: head("three"), Spec: model.SecurityGroupSpec{Network: "corp"}}
	bad.Status.GrantedRules = []model.GrantedRule{{Authorization: "X", Gateway: "no name", Ports: "80-90", From: []string{"all"}}}
	_, _, err := model.Admit(backends(t), model.Change{Puts: []model.Object{bad}}, model.Options{Deployments: true})
	var got []string
	for _, e := range model.AsErrors(err) {
		got = append(got, e.Field)
	}
	const at = "status.grantedRules[0]."
	if d := cmp.Diff([]string{at + "authorization", at + "from[0]", at + "gateway", at + "ports"}, got); d != "" {
		t.Error(d)
	}
}

// TestDeletionRestoresOrLeaves grants at random in a random world: deleted with
// cascade, every group has exactly the rules it had before; without, exactly
// those it had and the granted ones as orphans.
func TestDeletionRestoresOrLeaves(t *testing.T) {
	ranges := []string{"80/80", "80/9000", "443/443", "8080/8081"}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		some := func() []string {
			var out []string
			for _, i := range r.Perm(len(ranges))[:1+r.IntN(len(ranges))] {
				out = append(out, ranges[i])
			}
			return out
		}
		group := func() string { return []string{"one", "two"}[r.IntN(2)] }
		s := backends(t)
		for i := range r.IntN(4) {
			name := fmt.Sprintf("b%d", i)
			s = change(t, s, model.Change{Puts: []model.Object{authorize(name, group(), some()...)}}, false)
			if r.IntN(2) == 0 {
				s = change(t, s, model.Change{Deletes: []model.Ref{{Kind: model.KindAuthorization, Name: name}}, Cascade: r.IntN(2) == 0}, false)
			}
		}
		before := dump(s)
		with := change(t, s, model.Change{Puts: []model.Object{authorize("a", group(), some()...)}}, false)
		cascade := change(t, with, model.Change{Deletes: []model.Ref{refOne}, Cascade: true}, false)
		if d := cmp.Diff(before, dump(cascade)); d != "" {
			t.Fatalf("seed %d, cascade:\n%s", seed, d)
		}
		left := change(t, with, model.Change{Deletes: []model.Ref{refOne}}, false)
		for _, g := range model.All[*model.SecurityGroup](with) {
			var want []model.GrantedRule
			for _, x := range g.Status.GrantedRules {
				x.Orphan = x.Orphan || x.Authorization == "a"
				want = append(want, x)
			}
			got, _ := model.Get[*model.SecurityGroup](left, g.Metadata.Name)
			if d := cmp.Diff(want, got.Status.GrantedRules); d != "" {
				t.Fatalf("seed %d, left:\n%s", seed, d)
			}
		}
	}
}
