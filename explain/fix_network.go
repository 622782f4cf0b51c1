// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// proposeGroup proposes the smallest rule that admits the flow, before
// whatever denies it; or, if nothing comes before that, to take it out.
func proposeGroup(t *trail, s stop) []change {
	step := s.flow
	if step == nil || step.Set == nil || step.Rule == nil {
		return nil
	}
	var out []change
	deny, at := denyRule(t, step)
	priority := model.DefaultPriority
	if deny != nil {
		priority = min(priority, deny.Priority-1)
	}
	for _, ref := range step.Set.Groups {
		if g, ok := object[*model.SecurityGroup](t, ref.Name); ok && priority > 0 {
			out = append(out, addRule(t, step, g, priority))
		}
	}
	if g, ok := object[*model.SecurityGroup](t, step.Rule.Resource.Name); ok && len(out) == 0 && deny != nil {
		g.Spec.Rules = slices.Delete(g.Spec.Rules, at, at+1)
		c := put("take the rule "+step.Rule.Path+" out of "+step.Rule.Resource.String()+", which denies it before any other", g,
			answer.PatchOperation{Op: "remove", Path: "/spec/rules/" + strconv.Itoa(at)})
		c.shifts = true
		out = append(out, c)
	}
	return out
}

// addRule adds a rule for exactly this flow.
func addRule(t *trail, step *flow.Step, g *model.SecurityGroup, priority int) change {
	peer := netip.PrefixFrom(step.Remote, step.Remote.BitLen()).String()
	r := model.Rule{Direction: model.Inbound, Protocol: t.to.proto.String(), From: []string{peer}}
	what := r.Protocol
	if priority != model.DefaultPriority {
		r.Priority = priority
	}
	if t.to.proto != sg.ICMP {
		r.Ports = []string{strconv.Itoa(int(t.to.port))}
		what += " port " + r.Ports[0]
	}
	way := "in from"
	if step.Way == sg.Outbound {
		r.Direction, r.From, r.To, way = model.Outbound, nil, r.From, "out to"
	}
	op := answer.PatchOperation{Op: "add", Path: "/spec/rules/-", Value: r}
	if len(g.Spec.Rules) == 0 {
		op.Path, op.Value = "/spec/rules", []model.Rule{r}
	}
	g.Spec.Rules = append(slices.Clone(g.Spec.Rules), r)
	summary := fmt.Sprintf("let SecurityGroup/%s allow %s %s %s", g.Metadata.Name, what, way, peer)
	return put(summary, g, op)
}

// denyRule finds the written rule that stopped the flow, if it denies.
func denyRule(t *trail, step *flow.Step) (*model.Rule, int) {
	g, ok := model.Get[*model.SecurityGroup](t.w.Set, step.Rule.Resource.Name)
	if !ok || step.Rule.Resource.Kind != model.KindSecurityGroup {
		return nil, 0
	}
	for i := range g.Spec.Rules {
		if fmt.Sprintf("spec.rules[%d]", i) == step.Rule.Path && g.Spec.Rules[i].Action == model.Deny {
			return &g.Spec.Rules[i], i
		}
	}
	return nil, 0
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
			summary:  "bring up Link/" + name + ": let its site connect to the hub with the key that is registered, or register another",
			linkUp:   true,
			commands: []string{"postern describe link/" + name, "postern config wireguard link/" + name + "   # makes a new key"},
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
	case flow.NoInternetRoute, flow.NoInternetGateway, flow.NoNAT, flow.NoRoute, flow.StaysInside, flow.EgressForbidden:
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
		out = append(out, create("peer Network/"+own.Name+" with Network/"+name, p))
	}
	return out
}

// internetRoute proposes to give the source's Subnet its way to the internet.
func internetRoute(t *trail) []change {
	i := t.flow.Query.Source.Interface
	if i == nil || i.Subnet == nil || !onInternet(t, t.flow.Query.Dst) {
		return nil
	}
	c := change{summary: "give Subnet/" + i.Subnet.Name + " a route to the internet"}
	if n, ok := object[*model.Network](t, i.Network.Name); ok && !n.Spec.InternetGateway {
		n.Spec.InternetGateway = true
		c.puts = append(c.puts, n)
		c.patch = append(c.patch, answer.Patch{Resource: model.RefOf(n).String(), Ops: []answer.PatchOperation{{Op: "add", Path: "/spec/internetGateway", Value: true}}})
		c.commands = append(c.commands, edits(model.RefOf(n))...)
		c.summary += " and Network/" + i.Network.Name + " an internet gateway"
	}
	if s, ok := object[*model.Subnet](t, i.Subnet.Name); ok && !s.Spec.InternetRoute {
		s.Spec.InternetRoute = true
		c.commands = append(c.commands, edits(model.RefOf(s))...)
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
	if t.gateway() == nil || t.to.proto != sg.TCP {
		return nil
	}
	out := t.otherPort()
	switch {
	case t.to.web() && (t.to.scheme != "https" || t.to.port != flow.EndpointPort):
		out = append(out, ask(t, "call https on port 443", t.url("https", t.hostname(), t.to.path), nil))
	case t.to.scheme == "tcp" && t.to.port != flow.EndpointPort:
		out = append(out, ask(t, "call port 443, the only one that is served there", "tcp://"+t.hostname()+":443", nil))
	}
	return out
}

// otherPort proposes the other port of the management plane, and the one of the
// configuration endpoint.
func (t *trail) otherPort() []change {
	h := request.Find(t.gateway(), t.to.name)
	if h == nil || h.Kind != snapshot.HostComponent || t.to.scheme != "https" {
		return nil
	}
	var out []change
	for _, port := range [...]int{443, 3443} {
		if uint16(port) == t.to.port || port == 3443 && h.Component != snapshot.ComponentManagement {
			continue
		}
		host := h.Name
		if port != 443 {
			host += ":" + itoa(port)
		}
		out = append(out, ask(t, "call port "+itoa(port), t.url("https", host, t.to.path), nil))
	}
	return out
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
