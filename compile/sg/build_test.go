// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg_test

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"

	build "postern.dev/postern/compile/sg"
	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
)

func group(name, defaults string, rules ...model.Rule) *model.SecurityGroup {
	g := &model.SecurityGroup{}
	g.Metadata.Name = name
	g.Spec.Defaults, g.Spec.Rules = defaults, rules
	return g
}

var https = model.Rule{Name: "https", Direction: "inbound", Protocol: "tcp", Ports: []string{"443"}, From: []string{"10.0.0.0/16"}}

func TestNoGroupsAllowEverything(t *testing.T) {
	set, err := build.New().In(noEnv).Set()
	if set != nil || err != nil {
		t.Fatalf("no groups make %v, %v", set, err)
	}
	v := decide.Judge(nil, sg.Inbound, sg.TCP, netip.MustParseAddr("10.0.0.1"), 443)
	if !v.Allowed || v.Code != decide.Allowed || v.Rule != nil {
		t.Errorf("no groups judge %+v", v)
	}
}

func TestVerdictsPointAtTheRule(t *testing.T) {
	set, err := build.New().In(noEnv).Set(group("web", "", https))
	if err != nil {
		t.Fatal(err)
	}
	v := decide.Judge(set, sg.Inbound, sg.TCP, netip.MustParseAddr("::ffff:10.0.0.1"), 443)
	if !v.Allowed || v.Rule.Resource.String() != "SecurityGroup/web" || v.Rule.Path != "spec.rules[0]" || v.Rule.Name != "https" {
		t.Errorf("allowed by %+v", v.Rule)
	}
	v = decide.Judge(set, sg.Inbound, sg.TCP, netip.MustParseAddr("10.1.0.1"), 443)
	if v.Allowed || v.Rule.Resource.Name != "web" || v.Rule.Path != "" {
		t.Errorf("denied by %+v", v.Rule)
	}
}

func TestEqualContentIsOneSet(t *testing.T) {
	b := build.New()
	first, err := b.In(noEnv).Set(group("web", "", https), group("db", ""))
	if err != nil {
		t.Fatal(err)
	}
	scope := b.In(noEnv) // of the next compilation: all resources are new objects
	if again, _ := scope.Set(group("db", ""), group("web", "", https)); again != first {
		t.Error("equal groups are built again")
	}
	other := https
	other.Name = "tls"
	if renamed, _ := b.In(noEnv).Set(group("web", "", other), group("db", "")); renamed == first {
		t.Error("another name of a rule has to show in answers")
	}
}

func TestMembersChangeTheSet(t *testing.T) {
	b := build.New()
	within := model.Rule{Direction: "inbound", From: []string{"group:web"}}
	env := func(a ...netip.Addr) build.Env {
		return build.Env{Members: func(string) []netip.Addr { return a }}
	}
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	first, _ := b.In(env(one)).Set(group("web", "", within))
	second, _ := b.In(env(one, two)).Set(group("web", "", within))
	if decide.Judge(first, sg.Inbound, sg.TCP, two, 1).Allowed || !decide.Judge(second, sg.Inbound, sg.TCP, two, 1).Allowed {
		t.Error("a new member is not admitted, or an absent one is")
	}
}

func TestTrimForgetsWhatIsNotInUse(t *testing.T) {
	b := build.New()
	keep := group("keep", "", https)
	build := func(gs ...*model.SecurityGroup) *sg.Set {
		s, err := b.In(noEnv).Set(gs...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	kept, gone := build(keep), build(group("gone", ""))
	b.Trim()
	build(keep)
	b.Trim()
	if build(keep) != kept {
		t.Error("a Set in use was forgotten")
	}
	if build(group("gone", "")) == gone {
		t.Error("a Set out of use was kept")
	}
}

func TestErrorsNameEveryField(t *testing.T) {
	scope := build.New().In(noEnv)
	f := func(g *model.SecurityGroup, want ...string) {
		t.Helper()
		err := scope.Check(g)
		if err == nil {
			t.Errorf("%s: no error", g.Metadata.Name)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not mention %q", g.Metadata.Name, err, w)
			}
		}
	}
	f(group("defaults", "lax"), "spec.defaults", "lax")
	f(group("two", "", model.Rule{Direction: "sideways"}, https, model.Rule{Direction: "inbound", Ports: []string{"1", "x"}}),
		"spec.rules[0].direction", "spec.rules[2].ports[1]")
	f(group("peer", "", model.Rule{Direction: "outbound", To: []string{"tag:Moon"}}), "spec.rules[0].to")
	f(group("protocol", "", model.Rule{Direction: "inbound", Protocol: "sctp"}), "spec.rules[0].protocol")
	f(group("priority", "", model.Rule{Direction: "inbound", Priority: 65000}), "spec.rules[0].priority")
	f(group("action", "", model.Rule{Direction: "inbound", Action: "reject"}), "spec.rules[0].action")
	f(group("enterprise", "enterprise", model.Rule{Direction: "inbound", From: []string{"10.0.0.0/8", "group:web"}}),
		"spec.rules[0].from[1]", "CIDR")
	if set, err := scope.Set(group("bad", "lax")); set != nil || err == nil || !strings.Contains(err.Error(), "SecurityGroup/bad") {
		t.Errorf("a bad group makes %v, %v", set, err)
	}
	if err := scope.Check(group("good", "enterprise", https)); err != nil {
		t.Error(err)
	}
}

func TestManyHostsShareOneSet(t *testing.T) {
	g := many(10_000, shapes[0].rule)
	scope := build.New().In(noEnv)
	first, err := scope.Set(g)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if s, _ := scope.Set(g); s != first {
			t.Error("another host gets another Set")
		}
	}); n > 10 {
		t.Errorf("%v allocations for each further host", n)
	}
}

// TestMemoryGrowsWithTheRules would notice if rules were copied into every
// narrower prefix.
func TestMemoryGrowsWithTheRules(t *testing.T) {
	var rules []model.Rule
	for i := range 5000 {
		rules = append(rules, shapes[0].rule(i), shapes[1].rule(i))
	}
	g := group("product", "", rules...)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	set, err := build.New().In(noEnv).Set(g)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := after.HeapAlloc - before.HeapAlloc; grown > 32<<20 {
		t.Errorf("10,000 rules take %d MB", grown>>20)
	}
	runtime.KeepAlive(set)
}
