// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"strconv"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
)

// proposeGroup proposes the smallest rule that admits the flow, before
// whatever denies it.
func proposeGroup(t *trail, s stop) []change {
	step := s.flow
	if step == nil || step.Rule == nil || step.Rule.Resource.Kind != model.KindSecurityGroup {
		return nil
	}
	var out []change
	for _, ref := range step.Set.Groups {
		g, ok := object[*model.SecurityGroup](t, ref.Name)
		if !ok {
			continue
		}
		r := model.Rule{Direction: "inbound", Action: "allow", Protocol: t.to.proto.String()}
		peer := []string{netip.PrefixFrom(step.Remote, step.Remote.BitLen()).String()}
		r.From = peer
		what := "from"
		if step.Way == sg.Outbound {
			r.Direction, r.From, r.To, what = "outbound", nil, peer, "to"
		}
		if t.to.proto != sg.ICMP {
			r.Ports = []string{strconv.Itoa(int(t.to.port))}
		}
		if r.Priority = before(t, step); r.Priority == 0 {
			continue
		}
		g.Spec.Rules = append(g.Spec.Rules, r)
		out = append(out, put(
			fmt.Sprintf("add a rule to SecurityGroup/%s that allows %s %s port %d %s %s", ref.Name, r.Direction, r.Protocol, t.to.port, what, peer[0]),
			g, answer.PatchOperation{Op: "add", Path: "/spec/rules/-", Value: r},
		))
	}
	return out
}

// before is a priority that comes before the rule that stopped the flow; 0 if
// there is none.
func before(t *trail, step *flow.Step) int {
	g, ok := model.Get[*model.SecurityGroup](t.w.Set, step.Rule.Resource.Name)
	if !ok {
		return model.DefaultPriority
	}
	for i := range g.Spec.Rules {
		if fmt.Sprintf("spec.rules[%d]", i) == step.Rule.Path && g.Spec.Rules[i].Action == "deny" {
			return g.Spec.Rules[i].Priority - 1
		}
	}
	return model.DefaultPriority
}

// proposeRoute proposes the route that is missing.
func proposeRoute(t *trail, s stop) []change {
	step := s.flow
	if step == nil {
		return nil
	}
	src, dst := t.flow.Query.Source, t.flow.Query.Dst
	switch step.Cause {
	case flow.LinkDown:
		name := step.Component.Name
		return []change{{
			summary:  "bring up Link/" + name + ": its site has no tunnel to the hub with the key that is registered",
			linkUp:   true,
			commands: []string{"postern config wireguard link/" + name, "postern describe link " + name},
		}}
	case flow.ForeignSource:
		if src.Link == nil {
			return nil
		}
		l, ok := object[*model.Link](t, src.Link.Name)
		if !ok {
			return nil
		}
		p := netip.PrefixFrom(src.Addr, src.Addr.BitLen()).String()
		l.Spec.CIDRs = append(l.Spec.CIDRs, p)
		return []change{put("add "+p+" to the prefixes of Link/"+src.Link.Name, l,
			answer.PatchOperation{Op: "add", Path: "/spec/cidrs/-", Value: p})}
	case flow.NoInternetRoute, flow.NoInternetGateway, flow.NoNAT, flow.NoRoute:
		return append(peer(t, dst), internetRoute(t)...)
	}
	return nil
}

// peer proposes to peer the source's Network with the one that has dst.
func peer(t *trail, dst netip.Addr) []change {
	own := t.flow.Query.Source.Network
	if own == nil || t.flow.Query.Source.Link != nil {
		return nil
	}
	var out []change
	for _, name := range keys(t.s.Networks) {
		n := t.s.Networks[name]
		if n == own || n.Interfaces[dst] == nil {
			continue
		}
		p := &model.Peering{
			Head: model.Head{Metadata: model.Metadata{Name: own.Name + "-" + name}},
			Spec: model.PeeringSpec{Networks: []string{own.Name, name}},
		}
		out = append(out, put("peer Network/"+own.Name+" with Network/"+name, p,
			answer.PatchOperation{Op: "add", Path: "", Value: p}))
	}
	return out
}

// internetRoute proposes to give the source's Subnet its way to the internet.
func internetRoute(t *trail) []change {
	i := t.flow.Query.Source.Interface
	if i == nil || i.Subnet == nil || !onInternet(t, t.flow.Query.Dst) {
		return nil
	}
	c := change{summary: "give Subnet/" + i.Subnet.Name + " a route to the internet", commands: []string{"postern apply -f FILE   # with the change"}}
	if n, ok := object[*model.Network](t, i.Network.Name); ok && !n.Spec.InternetGateway {
		n.Spec.InternetGateway = true
		c.puts = append(c.puts, n)
		c.patch = append(c.patch, answer.Patch{Resource: model.RefOf(n).String(), Ops: []answer.PatchOperation{{Op: "add", Path: "/spec/internetGateway", Value: true}}})
		c.summary += " and Network/" + i.Network.Name + " an internet gateway"
	}
	if s, ok := object[*model.Subnet](t, i.Subnet.Name); ok && !s.Spec.InternetRoute {
		s.Spec.InternetRoute = true
		c.puts = append(c.puts, s)
		c.patch = append(c.patch, answer.Patch{Resource: model.RefOf(s).String(), Ops: []answer.PatchOperation{{Op: "add", Path: "/spec/internetRoute", Value: true}}})
	}
	if len(c.puts) == 0 {
		return nil
	}
	return []change{c}
}

// onInternet tells whether an address is on the segment or public.
func onInternet(t *trail, a netip.Addr) bool {
	return t.s.Internet.Gateways[a] != nil || flow.Egress(&t.s.Internet, a)
}

// proposeListen proposes the port that is published instead.
func proposeListen(t *trail, s stop) []change {
	if s.web >= 0 {
		return proposeOtherName(t, s)
	}
	g := t.flow.Target
	switch {
	case g.Kind == flow.ToGateway, g.Interface != nil && g.Interface.Endpoint != nil:
		if t.to.web() && (t.to.scheme != "https" || t.to.port != flow.EndpointPort) {
			return []change{ask(t, "call https on port 443", t.url("https", t.hostname(), t.to.path), nil)}
		}
	}
	return nil
}

// proposeApproval proposes that the Gateway's owner approves the Endpoint.
func proposeApproval(t *trail, s stop) []change {
	e, ok := object[*model.Endpoint](t, s.flow.Component.Name)
	if !ok {
		return nil
	}
	e.Status.Connection = model.Approved
	c := put("approve the connection of Endpoint/"+e.Metadata.Name, e)
	c.patch = nil
	c.commands = []string{"postern endpoint approve " + e.Metadata.Name}
	return []change{c}
}

// hostname is the name or address that was asked for, as it stands in a URL.
func (t *trail) hostname() string {
	if t.to.name != "" {
		return t.to.name
	}
	if t.to.addr.Is6() {
		return "[" + t.to.addr.String() + "]"
	}
	return t.to.addr.String()
}

// url is the question's URL with another scheme, host and path.
func (t *trail) url(scheme, host, path string) string {
	u := scheme + "://" + host + path
	if t.to.query != "" {
		u += "?" + t.to.query
	}
	return u
}
