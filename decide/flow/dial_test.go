// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// gatewayIn is a Gateway of a mode with a node in app's private Subnet, which
// has no route to the internet.
func gatewayIn(w *world, mode string) *snapshot.Gateway {
	var private *snapshot.Subnet
	for _, s := range w.s.Networks["app"].Subnets {
		if s.Name == "private" {
			private = s
		}
	}
	g := &snapshot.Gateway{Name: "in", Mode: mode, Public: []netip.Addr{addr("198.18.0.30")}}
	if mode == model.ModeNone {
		return g
	}
	i := &snapshot.Interface{
		Owner: model.Ref{Kind: model.KindGateway, Name: "in"}, Network: private.Network, Subnet: private, Addr: addr("10.0.2.30"), Gateway: g,
	}
	private.Network.Interfaces[i.Addr] = i
	g.Nodes = []*snapshot.Interface{i}
	return g
}

func TestGatewaysDialOutsideByMode(t *testing.T) {
	for _, c := range []struct {
		mode, dst string
		confined  bool
		code      string
	}{
		{model.ModeNone, "8.8.8.8", false, flow.RouteInternet},
		{model.ModeNone, "2001:4860:4860::8888", false, flow.RouteInternet},
		{model.ModeNone, "10.9.9.9", false, flow.RouteNone},
		{model.ModeExternal, "8.8.8.8", false, flow.RouteInternet},
		{model.ModeInternal, "8.8.8.8", true, flow.RouteNone},
		{model.ModeInternal, "198.18.0.10", true, flow.RouteNone},
	} {
		w := newWorld(t)
		src, ok := flow.Dials(gatewayIn(w, c.mode), nil)
		if !ok || src.Confined() != c.confined {
			t.Errorf("%s: confined %v, %v", c.mode, src.Confined(), ok)
		}
		v := flow.Judge(w.s, flow.Query{Source: src, Proto: sg.TCP, Dst: addr(c.dst), Port: 443}, false)
		if got := v.Steps()[0].Code; got != c.code || v.Allowed() != (c.code != flow.RouteNone) {
			t.Errorf("%s to %s: %s %s: %s", c.mode, c.dst, v.Outcome, got, v.Reason(v.Decided))
		}
	}
}

func TestGatewaysDialIntoTheirNetworksAlone(t *testing.T) {
	w := newWorld(t)
	g := gatewayIn(w, model.ModeInternal)
	if src, ok := flow.Dials(g, w.s.Networks["app"]); !ok || src.Interface != g.Nodes[0] || src.Outside || src.Confined() {
		t.Errorf("%+v, %v", src, ok)
	}
	if _, ok := flow.Dials(g, w.s.Networks["tools"]); ok {
		t.Error("it has no address there")
	}
	g.Outbound = &snapshot.Interface{Network: w.s.Networks["tools"], Addr: addr("10.1.1.30"), Gateway: g}
	if src, ok := flow.Dials(g, w.s.Networks["tools"]); !ok || src.Interface != g.Outbound {
		t.Errorf("%+v, %v", src, ok)
	}
}

// TestGatewayOfOneFamilyReachesNoGatewayOfTheOther: beyond the segment its server
// has both families, on it the Gateway has its own address alone.
func TestGatewayOfOneFamilyReachesNoGatewayOfTheOther(t *testing.T) {
	w := newWorld(t)
	six := addr("2001:db8::10")
	edge := w.s.Gateways["edge"]
	edge.Public = append(edge.Public, six)
	w.s.Internet.Gateways[six] = edge
	node := w.endpoint()
	edge.Nodes = []*snapshot.Interface{{Owner: node.Owner, Network: node.Network, Subnet: node.Subnet, Addr: addr("10.0.2.40"), Gateway: edge, Groups: w.group("closed")}}
	src, _ := flow.Dials(gatewayIn(w, model.ModeNone), nil)
	for _, every := range []bool{false, true} {
		v := flow.Judge(w.s, flow.Query{Source: src, Proto: sg.TCP, Dst: six, Port: 443}, every)
		if v.Allowed() || v.Code != flow.RouteNone || !strings.Contains(v.Reason(v.Decided), "no address of the family of 2001:db8::10") {
			t.Errorf("every %v: %s %s: %s", every, v.Outcome, v.Code, v.Reason(v.Decided))
		}
		for i := range v.Steps() {
			if text := v.Reason(i); strings.Contains(text, "invalid") {
				t.Error(text)
			}
		}
	}
	edge.Nodes = nil
	if v := flow.Judge(w.s, flow.Query{Source: src, Proto: sg.TCP, Dst: edge.Public[0], Port: 443}, false); !v.Allowed() {
		t.Errorf("its own family: %s %s", v.Outcome, v.Code)
	}
}

func TestReasonKnowsOfTheManagedGroup(t *testing.T) {
	w := newWorld(t)
	node := gatewayIn(w, model.ModeExternal).Nodes[0]
	node.Managed = w.group("in-managed", in("443", "0.0.0.0/0"))
	v := flow.Judge(w.s, flow.Query{Source: flow.FromInterface(node), Proto: sg.TCP, Dst: addr("10.0.2.10"), Port: 443}, true)
	var texts []string
	for i := range v.Steps() {
		texts = append(texts, v.Reason(i))
	}
	all := strings.Join(texts, "\n")
	if !strings.Contains(all, "Gateway/in carries no security group of its own") || !strings.Contains(all, "Subnet/private carries no security group, which allows everything") {
		t.Error(all)
	}
}
