// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// maxSubnets is how many Subnets are tried for a Gateway.
const maxSubnets = 3

// integrate proposes outbound integration into the Network of a Backend: in a
// Subnet that is delegated to the Gateway, or else in one that nobody is in.
func integrate(b *trail) []change {
	g, ok := object[*model.Gateway](b, b.leg.gateway.Name)
	if !ok || g.Spec.Outbound != nil || b.leg.d.Network == nil {
		return nil
	}
	name := g.Metadata.Name
	own, empty, _ := subnets(b, name)
	var out []change
	for _, s := range first(append(own, empty...), maxSubnets) {
		x := model.Clone(g)
		x.Spec.Outbound = &model.GatewayOutbound{Subnet: s.Metadata.Name}
		c := put("integrate Gateway/"+name+" outbound into Subnet/"+s.Metadata.Name, x,
			answer.PatchOperation{Op: "add", Path: "/spec/outbound", Value: x.Spec.Outbound})
		if s.Spec.DelegatedTo == "" {
			s = model.Clone(s)
			s.Spec.DelegatedTo = name
			more := put("", s, answer.PatchOperation{Op: "add", Path: "/spec/delegatedTo", Value: name})
			c.summary += ", delegated to it"
			c.puts, c.patch, c.commands = append(c.puts, more.puts...), append(c.patch, more.patch...), append(c.commands, more.commands...)
		}
		out = append(out, c)
	}
	return alternatives(out)
}

// inject proposes to inject a Gateway that is in no Network into that of a
// Backend: into a Subnet that nobody is in, or else beside others.
func inject(b *trail) []change {
	g, ok := object[*model.Gateway](b, b.leg.gateway.Name)
	if !ok || g.Spec.NetworkMode != model.ModeNone && g.Spec.NetworkMode != "" || g.Spec.Outbound != nil || b.leg.d.Network == nil {
		return nil
	}
	_, empty, used := subnets(b, g.Metadata.Name)
	var out []change
	for _, s := range first(append(empty, used...), maxSubnets) {
		x := model.Clone(g)
		x.Spec.NetworkMode, x.Spec.Subnet = model.ModeExternal, s.Metadata.Name
		out = append(out, put("inject Gateway/"+g.Metadata.Name+" into Subnet/"+s.Metadata.Name, x,
			answer.PatchOperation{Op: "add", Path: "/spec/networkMode", Value: x.Spec.NetworkMode},
			answer.PatchOperation{Op: "add", Path: "/spec/subnet", Value: x.Spec.Subnet}))
	}
	return alternatives(out)
}

// subnets are those of a Backend's Network that a Gateway may be put into: the
// ones delegated to it, those that nobody is in, and the others.
func subnets(b *trail, gateway string) (own, empty, used []*model.Subnet) {
	taken := map[string]bool{}
	for _, i := range b.leg.d.Network.Interfaces {
		if i.Subnet != nil {
			taken[i.Subnet.Name] = true
		}
	}
	for _, s := range model.All[*model.Subnet](b.w.Set) {
		switch {
		case s.Spec.Network != b.leg.d.Network.Name:
		case s.Spec.DelegatedTo == gateway && !taken[s.Metadata.Name]:
			own = append(own, s)
		case s.Spec.DelegatedTo != "":
		case taken[s.Metadata.Name]:
			used = append(used, s)
		default:
			empty = append(empty, s)
		}
	}
	return own, empty, used
}

// alternatives are changes of which one is enough: each is tried if those
// before it do not help. It is worth telling beside changes that need less.
func alternatives(cs []change) []change {
	for i := range cs {
		cs[i].apart = true
		if i > 0 {
			cs[i-1].or = &cs[i]
		}
	}
	return first(cs, 1)
}
