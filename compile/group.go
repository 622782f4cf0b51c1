// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"strings"

	compilesg "postern.dev/postern/compile/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// groups gives every interface and Subnet the merge of its security groups.
// All members have to be known by now, because rules refer to them.
func (b *build) groups() {
	scopes := map[string]*compilesg.Scope{}
	for name, n := range b.out.Networks {
		scopes[name] = b.memo.groups.In(b.env(n))
	}
	for _, g := range all[*model.SecurityGroup](b) {
		scope := scopes[g.Spec.Network]
		if scope == nil {
			b.absent(g, "spec.network", model.KindNetwork, g.Spec.Network)
			continue
		}
		if err := scope.Check(g); err != nil {
			b.fail(g, "BadRules", err)
			b.broken[g.Metadata.Name] = true
		}
	}
	for _, s := range all[*model.Subnet](b) {
		if x := b.subnets[s.Metadata.Name]; x != nil && s.Spec.SecurityGroup != "" {
			x.Groups = b.merge(scopes[x.Network.Name], x.Network.Name, []string{s.Spec.SecurityGroup})
		}
	}
	for _, name := range sortedKeys(b.out.Gateways) {
		g := b.out.Gateways[name]
		for _, i := range g.Interfaces() {
			m := managed(g, i.Network.Name)
			var err error
			if i.Managed, err = scopes[i.Network.Name].Set(m); err != nil {
				b.note(model.Ref{Kind: model.KindGateway, Name: name}, model.Condition{Type: ConditionReady, Reason: "CannotMerge", Message: err.Error()})
				b.withdraw(g)
				break
			}
		}
	}
	for i, names := range b.carried {
		i.Groups = b.merge(scopes[i.Network.Name], i.Network.Name, names)
	}
}

// env is what the rules of a Network's groups can refer to.
func (b *build) env(n *snapshot.Network) compilesg.Env {
	e := compilesg.Env{
		VirtualNetwork:    append([]netip.Prefix(nil), n.Prefixes...),
		ApiManagement:     hosts(b.opts.Management),
		AzureLoadBalancer: hosts(b.opts.Probes),
	}
	near := map[*snapshot.Network]bool{n: true}
	for _, p := range n.Peers {
		near[p] = true
		e.VirtualNetwork = append(e.VirtualNetwork, p.Prefixes...)
	}
	for _, l := range n.Links {
		e.VirtualNetwork = append(e.VirtualNetwork, l.Prefixes...)
	}
	e.Members = func(group string) []netip.Addr {
		var out []netip.Addr
		for _, i := range b.members[group] {
			if near[i.Network] {
				out = append(out, i.Addr)
			}
		}
		return out
	}
	return e
}

// merge returns the merge of some groups. One that cannot be read denies all:
// leaving it out could let in what it was written to keep out.
func (b *build) merge(scope *compilesg.Scope, network string, names []string) *sg.Set {
	key := network + "/" + strings.Join(names, ",")
	if s, ok := b.sets[key]; ok {
		return s
	}
	groups := make([]*model.SecurityGroup, 0, len(names))
	for _, name := range names {
		g, ok := get[*model.SecurityGroup](b, name)
		if !ok || b.broken[name] {
			g = &model.SecurityGroup{
				Head: model.Head{Metadata: model.Metadata{Name: name}},
				Spec: model.SecurityGroupSpec{Network: network, Defaults: "enterprise"},
			}
		}
		groups = append(groups, g)
	}
	s, err := scope.Set(groups...)
	if err != nil {
		// Check has passed each of them, so this is what the set could not be
		// merged for: the last group is told.
		b.fail(groups[len(groups)-1], "CannotMerge", err)
		s, _ = scope.Set(&model.SecurityGroup{
			Head: model.Head{Metadata: model.Metadata{Name: names[0]}},
			Spec: model.SecurityGroupSpec{Network: network, Defaults: "enterprise"},
		})
	}
	b.sets[key] = s
	return s
}

// hosts turns addresses into prefixes of one address.
func hosts(as []netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, len(as))
	for i, a := range as {
		out[i] = netip.PrefixFrom(a, a.BitLen())
	}
	return out
}
