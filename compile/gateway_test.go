// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// inside is a Network with a Gateway injected into it, by mode, and a Host.
func inside(mode string, group ...model.Rule) []model.Object {
	return []model.Object{
		&model.Network{Head: named("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}, InternetGateway: true}},
		&model.Network{Head: named("far"), Spec: model.NetworkSpec{CIDRs: []string{"10.30.0.0/16"}}},
		&model.SecurityGroup{Head: named("nsg"), Spec: model.SecurityGroupSpec{Network: "corp", Defaults: model.DefaultsAzure, Rules: group}},
		&model.Subnet{Head: named("gateways"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.1.0/28", SecurityGroup: "nsg"}},
		&model.Subnet{Head: named("hosts"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.2.0/24", InternetRoute: true}},
		&model.Host{Head: named("app"), Spec: model.HostSpec{Subnet: "hosts"}},
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1", NetworkMode: mode, Subnet: "gateways"}},
	}
}

func compiled(t *testing.T, objects ...model.Object) *compile.Result {
	t.Helper()
	return new(compile.Compiler).Compile(admit(t, objects...), options)
}

func condition(r *compile.Result, ref model.Ref, typ, reason string) *model.Condition {
	for i, c := range r.Conditions[ref] {
		if c.Type == typ && (reason == "" || c.Reason == reason) {
			return &r.Conditions[ref][i]
		}
	}
	return nil
}

func TestEachModeResolvesItsNamesInEachView(t *testing.T) {
	const public, private = "public", "private"
	for _, x := range []struct {
		mode, component string
		internet, own   string
	}{
		{model.ModeExternal, "", public, private},
		{model.ModeExternal, "management", public, private},
		{model.ModeExternal, "configuration", "configuration", private},
		{model.ModeExternal, "portal", public, private},
		{model.ModeExternal, "scm", public, private},
		{model.ModeInternal, "", "", private},
		{model.ModeInternal, "management", public, private},
		{model.ModeInternal, "configuration", "configuration", private},
		{model.ModeInternal, "portal", "", private},
		{model.ModeInternal, "scm", "", private},
	} {
		s := compiled(t, inside(x.mode)...).Snapshot
		g := s.Gateways["main"]
		host := "main.postern.internal"
		if x.component != "" {
			host = "main." + x.component + ".postern.internal"
		}
		where := func(n *snapshot.Network) string {
			v := name.Resolve(s, name.View(s, n), host, snapshot.TypeA)
			switch {
			case len(v.Addrs) == 0:
				return ""
			case v.Addrs[0] == g.Public[0]:
				return public
			case v.Addrs[0] == g.Nodes[0].Addr:
				return private
			case v.Addrs[0] == g.Configuration[0]:
				return "configuration"
			}
			return v.Addrs[0].String()
		}
		if got := where(nil); got != x.internet {
			t.Errorf("%s: the internet finds %s at %q, not %q", x.mode, host, got, x.internet)
		}
		if got := where(s.Networks["corp"]); got != x.own {
			t.Errorf("%s: its own Network finds %s at %q, not %q", x.mode, host, got, x.own)
		}
		if got := where(s.Networks["far"]); got != x.internet {
			t.Errorf("%s: another Network finds %s at %q, not %q", x.mode, host, got, x.internet)
		}
	}
}

func TestEndpointWithPrivateDNSAnswersBeforeTheNode(t *testing.T) {
	s := compiled(t, append(inside(model.ModeExternal),
		&model.Endpoint{Head: named("pe"), Spec: model.EndpointSpec{Gateway: "main", Subnets: []string{"hosts"}}})...).Snapshot
	v := name.Resolve(s, name.View(s, s.Networks["corp"]), "main.postern.internal", snapshot.TypeA)
	if len(v.Addrs) != 1 || v.Addrs[0] != s.Endpoints["pe"].Interfaces[0].Addr {
		t.Errorf("the Gateway's own name is at %v", v.Addrs)
	}
}

func TestManagementIsReachableWhereItsTagIsAdmitted(t *testing.T) {
	ref := model.Ref{Kind: model.KindGateway, Name: "main"}
	rule := model.Rule{Name: "management", Direction: model.Inbound, Protocol: "tcp", Ports: []string{"3443"}, From: []string{"tag:ApiManagement"}}
	for _, mode := range []string{model.ModeExternal, model.ModeInternal} {
		shut := condition(compiled(t, inside(mode)...), ref, compile.ConditionManagementReachable, "")
		if shut == nil || shut.Status || !strings.HasPrefix(shut.Message, "Failed to connect to management endpoint main.management.postern.internal:3443 for a service deployed in a Virtual Network.") {
			t.Errorf("%s, without a rule: %+v", mode, shut)
		}
		if open := condition(compiled(t, inside(mode, rule)...), ref, compile.ConditionManagementReachable, ""); open == nil || !open.Status {
			t.Errorf("%s, with a rule for the tag: %+v", mode, open)
		}
	}
}

func TestManagementIsNotReachableInAnotherFamily(t *testing.T) {
	r := compiled(t, &model.Gateway{Head: named("six"), Spec: model.GatewaySpec{Region: "eu-1", PublicAddress: "2001:db8::10"}})
	c := condition(r, model.Ref{Kind: model.KindGateway, Name: "six"}, compile.ConditionManagementReachable, "")
	if c == nil || c.Status || !strings.Contains(c.Message, "2001:db8::10") {
		t.Errorf("%+v", c)
	}
}

func TestPublicListenersAreSubjectToTheSubnetsGroup(t *testing.T) {
	ask := func(from string, port uint16, rules ...model.Rule) string {
		s := compiled(t, inside(model.ModeExternal, rules...)...).Snapshot
		v := flow.Judge(s, flow.Query{
			Source: flow.FromInternet(netip.MustParseAddr(from)), Proto: sg.TCP, Dst: s.Gateways["main"].Public[0], Port: port,
		}, false)
		if v.Allowed() {
			return "deliver"
		}
		return v.Outcome.String() + " " + v.Code
	}
	admit := func(tag string, port string) model.Rule {
		return model.Rule{Direction: model.Inbound, Protocol: "tcp", Ports: []string{port}, From: []string{tag}}
	}
	for _, x := range []struct {
		from string
		port uint16
		rule model.Rule
		want string
	}{
		{"203.0.113.7", 443, admit("tag:ApiManagement", "3443"), "drop sg/no-inbound-rule"},
		{"203.0.113.7", 443, admit("tag:Internet", "443"), "deliver"},
		{"203.0.113.7", 443, admit("tag:VirtualNetwork", "443"), "drop sg/no-inbound-rule"},
		{"203.0.113.7", 8443, admit("tag:Internet", "443"), "refuse listen/refused"},
		{"203.0.113.7", 3443, admit("tag:ApiManagement", "3443"), "drop sg/no-inbound-rule"},
		{"198.18.0.1", 3443, admit("tag:ApiManagement", "3443"), "deliver"},
		{"198.18.0.2", 443, admit("tag:ApiManagement", "3443"), "deliver"}, // the probes, by the azure defaults
	} {
		if got := ask(x.from, x.port, x.rule); got != x.want {
			t.Errorf("%s to port %d with %v: %s, not %s", x.from, x.port, x.rule.From, got, x.want)
		}
	}
}

func TestModesThatAzureCannotCombineAreNoted(t *testing.T) {
	ref := model.Ref{Kind: model.KindGateway, Name: "main"}
	if c := condition(compiled(t, inside(model.ModeInternal)...), ref, compile.ConditionAdvice, compile.ReasonNotPortable); c != nil {
		t.Errorf("injection alone: %+v", c)
	}
	r := compiled(t, append(inside(model.ModeInternal),
		&model.Endpoint{Head: named("pe"), Spec: model.EndpointSpec{Gateway: "main", Subnets: []string{"hosts"}}})...)
	if c := condition(r, ref, compile.ConditionAdvice, compile.ReasonNotPortable); c == nil || !strings.Contains(c.Message, "Endpoint/pe") {
		t.Errorf("with an Endpoint: %+v", c)
	}
}

func TestManagedGroupAdmitsPublishedPortsAndLetsEverythingOut(t *testing.T) {
	s := compiled(t, inside(model.ModeInternal)...).Snapshot
	node := s.Gateways["main"].Nodes[0]
	app := s.Hosts["app"]
	v := flow.Judge(s, flow.Query{Source: flow.FromInterface(app), Proto: sg.TCP, Dst: node.Addr, Port: 3443}, false)
	if !v.Allowed() {
		t.Errorf("a published port: %s", v.Reason(v.Decided))
	}
	v = flow.Judge(s, flow.Query{Source: flow.FromInterface(app), Proto: sg.TCP, Dst: node.Addr, Port: 22}, false)
	if v.Outcome != flow.Drop || v.Steps()[v.Decided].Set.Groups[0].Name != "main-managed" {
		t.Errorf("another port: %s %s", v.Outcome, v.Code)
	}
	src, ok := flow.Dials(s.Gateways["main"], s.Networks["corp"])
	if !ok {
		t.Fatal("the Gateway has no address in its own Network")
	}
	if v := flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: app.Addr, Port: 8080}, false); !v.Allowed() {
		t.Errorf("outward: %s", v.Reason(v.Decided))
	}
}

func TestGatewayStaysInsideUnlessExternal(t *testing.T) {
	for mode, want := range map[string]bool{model.ModeExternal: true, model.ModeInternal: false} {
		s := compiled(t, inside(mode)...).Snapshot
		src, _ := flow.Dials(s.Gateways["main"], nil)
		v := flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: netip.MustParseAddr("1.1.1.1"), Port: 443}, false)
		if v.Allowed() != want {
			t.Errorf("%s: to the internet %s %s", mode, v.Outcome, v.Reason(v.Decided))
		}
		v = flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: s.Hosts["app"].Addr, Port: 8080}, false)
		if v.Allowed() {
			t.Errorf("%s: a backend outside Networks leads into one", mode)
		}
	}
}

func TestOutboundIntegrationDialsButListensNowhere(t *testing.T) {
	s := compiled(t,
		&model.Network{Head: named("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}, InternetGateway: true}},
		&model.Subnet{Head: named("out"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.1.0/27", DelegatedTo: "main", InternetRoute: true}},
		&model.Subnet{Head: named("hosts"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.2.0/24"}},
		&model.Host{Head: named("app"), Spec: model.HostSpec{Subnet: "hosts"}},
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1", Outbound: &model.GatewayOutbound{Subnet: "out"}}},
	).Snapshot
	g := s.Gateways["main"]
	src, ok := flow.Dials(g, s.Networks["corp"])
	if !ok || src.Addr != g.Outbound.Addr {
		t.Fatalf("dials from %v", src.Addr)
	}
	if v := flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: s.Hosts["app"].Addr, Port: 8080}, false); !v.Allowed() {
		t.Errorf("to a Host: %s", v.Reason(v.Decided))
	}
	if v := flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: netip.MustParseAddr("1.1.1.1"), Port: 443}, false); v.Allowed() {
		t.Error("it leads to the internet")
	}
	v := flow.Judge(s, flow.Query{Source: flow.FromInterface(s.Hosts["app"]), Proto: sg.TCP, Dst: g.Outbound.Addr, Port: 443}, false)
	if v.Allowed() {
		t.Errorf("something listens at the integration's address: %s", v.Reason(v.Decided))
	}
}

// A group that admits the Network must not admit who comes from outside with an
// address like those within.
func TestNobodyComesFromTheInternetWithAnInsideAddress(t *testing.T) {
	objects := append(inside(model.ModeExternal, model.Rule{Direction: model.Inbound, Protocol: "tcp", Ports: []string{"443"}, From: []string{"tag:VirtualNetwork", "tag:Internet"}}),
		&model.Peering{Head: named("corp-far"), Spec: model.PeeringSpec{Networks: []string{"corp", "far"}}},
		&model.Link{Head: named("site"), Spec: model.LinkSpec{Network: "corp", Type: "vpn", CIDRs: []string{"192.168.50.0/24"}}})
	s := compiled(t, objects...).Snapshot
	for from, want := range map[string]flow.Outcome{
		"203.0.113.7": flow.Deliver, "10.20.2.9": flow.Drop, "10.30.0.9": flow.Drop, "192.168.50.9": flow.Drop, "192.168.51.9": flow.Deliver,
	} {
		v := flow.Judge(s, flow.Query{Source: flow.FromInternet(netip.MustParseAddr(from)), Proto: sg.TCP, Dst: s.Gateways["main"].Public[0], Port: 443}, false)
		if v.Outcome != want {
			t.Errorf("%s: %s, %s", from, v.Outcome, v.Reason(v.Decided))
		}
	}
}
