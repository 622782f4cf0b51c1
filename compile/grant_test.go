// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/compile"
	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
)

// granted is an injected Gateway, a backend behind a group, and an
// authorization between them.
func granted(t *testing.T, defaults string) *model.Set {
	t.Helper()
	return admit(t,
		&model.Network{Head: named("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}}},
		&model.Subnet{Head: named("nodes"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.1.0/24"}},
		&model.Subnet{Head: named("apps"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.2.0/24"}},
		&model.Gateway{Head: named("inner"), Spec: model.GatewaySpec{Region: "eu-1", NetworkMode: model.ModeInternal, Subnet: "nodes"}},
		&model.SecurityGroup{Head: named("service"), Spec: model.SecurityGroupSpec{Network: "corp", Defaults: defaults}},
		&model.Host{Head: named("app"), Spec: model.HostSpec{Subnet: "apps", SecurityGroups: []string{"service"}}},
		&model.SecurityGroupAuthorization{Head: named("a"), Spec: model.SecurityGroupAuthorizationSpec{
			Gateway: "inner", SecurityGroup: "service", Ports: []string{"8080/8080", "80/90"},
		}},
	)
}

var (
	authorization = model.Ref{Kind: model.KindAuthorization, Name: "a"}
	service       = model.Ref{Kind: model.KindSecurityGroup, Name: "service"}
)

// admits judges TCP from the Gateway's node, or from beside it, to the backend.
func admits(r *compile.Result, from string, port uint16) decide.Verdict {
	return decide.Judge(r.Snapshot.Hosts["app"].Groups, sg.Inbound, sg.TCP, netip.MustParseAddr(from), port)
}

const node, beside = "10.20.1.4", "10.20.1.5"

// grantedOf is the condition Granted of the authorization.
func grantedOf(r *compile.Result) model.Condition {
	list := r.Conditions[authorization]
	if i := slices.IndexFunc(list, func(c model.Condition) bool { return c.Type == compile.ConditionGranted }); i >= 0 {
		return list[i]
	}
	return model.Condition{}
}

func alter(t *testing.T, s *model.Set, c model.Change, server bool) *model.Set {
	t.Helper()
	next, _, err := model.Admit(s, c, model.Options{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestGrantedRuleLetsTheNodesIn(t *testing.T) {
	for defaults, want := range map[string]struct {
		beside bool
		says   string
	}{
		model.DefaultsStrict:     {false, "from group:inner-managed"},
		model.DefaultsAzure:      {true, "from group:inner-managed"}, // VirtualNetwork is let in anyway
		model.DefaultsBasic:      {false, "from group:inner-managed"},
		model.DefaultsEnterprise: {true, "from 10.20.1.0/24, the Gateway's Subnets"},
	} {
		t.Run(defaults, func(t *testing.T) {
			r := new(compile.Compiler).Compile(granted(t, defaults), options)
			for port, path := range map[uint16]string{8080: "status.grantedRules[1]", 80: "status.grantedRules[0]", 90: "status.grantedRules[0]"} {
				v := admits(r, node, port)
				if !v.Allowed || v.Rule.Resource != service || v.Rule.Path != path || !strings.HasPrefix(v.Rule.Name, "a-80") {
					t.Errorf("port %d: %v by %+v", port, v.Allowed, v.Rule)
				}
			}
			if v := admits(r, beside, 8080); v.Allowed != want.beside {
				t.Errorf("from beside the node: %+v", v)
			}
			if v := admits(r, node, 91); v.Allowed != (defaults == model.DefaultsAzure) {
				t.Errorf("another port: %+v", v)
			}
			c := grantedOf(r)
			if !c.Status || !strings.Contains(c.Message, "SecurityGroup/service admits tcp to 8080/8080, 80/90 "+want.says) {
				t.Errorf("%+v", c)
			}
			if err := new(compile.Compiler).Check(granted(t, defaults), []model.Ref{service, authorization}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOwnDenyBeatsAGrantedRule(t *testing.T) {
	s := alter(t, granted(t, ""), model.Change{Puts: []model.Object{&model.SecurityGroup{Head: named("service"), Spec: model.SecurityGroupSpec{
		Network: "corp", Rules: []model.Rule{{Direction: model.Inbound, Action: model.Deny, Ports: []string{"85"}}},
	}}}}, false)
	r := new(compile.Compiler).Compile(s, options)
	if v := admits(r, node, 85); v.Allowed || v.Rule.Path != "spec.rules[0]" {
		t.Errorf("at the same priority deny comes first: %+v", v)
	}
	if v := admits(r, node, 84); !v.Allowed {
		t.Errorf("beside it: %+v", v)
	}
}

func TestRevokedRangeIsTold(t *testing.T) {
	s := granted(t, "")
	g, _ := model.Get[*model.SecurityGroup](s, "service")
	g = model.Clone(g)
	g.Status.GrantedRules = g.Status.GrantedRules[:1]
	r := new(compile.Compiler).Compile(alter(t, s, model.Change{Puts: []model.Object{g}}, true), options)
	if v := admits(r, node, 8080); v.Allowed {
		t.Errorf("still let in: %+v", v)
	}
	c := grantedOf(r)
	for _, want := range []string{
		"the rule for 8080/8080 was revoked in SecurityGroup/service and is not restored",
		"postern delete securitygroupauthorization a, and apply it again", "admits tcp to 80/90 from group:inner-managed",
	} {
		if c.Status || c.Reason != "Revoked" || !strings.Contains(c.Message, want) {
			t.Errorf("%+v does not say %q", c, want)
		}
	}
}

func TestOrphansAreToldAndOutliveTheirGateway(t *testing.T) {
	c := new(compile.Compiler)
	s := granted(t, "")
	s = alter(t, s, model.Change{Deletes: []model.Ref{authorization}}, false)
	r := c.Compile(s, options)
	if v := admits(r, node, 8080); !v.Allowed {
		t.Errorf("no longer let in: %+v", v)
	}
	advice := func() []string {
		var out []string
		for _, x := range r.Conditions[service] {
			if x.Type == compile.ConditionAdvice && x.Reason == compile.ReasonOrphanedRule && x.Status {
				out = append(out, x.Message)
			}
		}
		return out
	}
	if got := advice(); len(got) != 2 || !strings.HasSuffix(got[0], "postern revoke service a-80-90") || !strings.HasSuffix(got[1], "postern revoke service a-8080-8080") {
		t.Errorf("advice: %q", got)
	}
	s = alter(t, s, model.Change{Deletes: []model.Ref{{Kind: model.KindGateway, Name: "inner"}}}, false)
	r = c.Compile(s, options)
	if v := admits(r, node, 8080); v.Allowed {
		t.Errorf("let in, though nobody is in the group: %+v", v)
	}
	if got := advice(); len(got) != 2 || !strings.Contains(got[0], "Gateway/inner, which is gone too") {
		t.Errorf("advice: %q", got)
	}
	// Group references of orphans must not keep a group from compiling.
	s = alter(t, s, model.Change{Puts: []model.Object{&model.SecurityGroup{Head: named("service"), Spec: model.SecurityGroupSpec{
		Network: "corp", Defaults: model.DefaultsEnterprise, Rules: []model.Rule{{Direction: model.Inbound, From: []string{"10.20.1.5"}}},
	}}}}, false)
	r = c.Compile(s, options)
	if ready, why := r.Ready(service); !ready || !admits(r, beside, 1).Allowed || admits(r, node, 8080).Allowed {
		t.Errorf("not compiled: %+v", why)
	}
	if err := c.Check(s, []model.Ref{service}); err != nil {
		t.Error(err)
	}
}
