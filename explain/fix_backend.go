// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// proposeBackend proposes changes for what stops a Gateway on its way to a
// backend. What does not answer at the end of that way no change of resources
// makes answer.
func proposeBackend(t *trail, s stop) []change {
	b := s.by
	switch {
	case s.flow == nil && !b.leg.placed:
		return slices.Concat(integrate(b), inject(b), inside(b), outside(b))
	case s.flow == nil:
		return nil
	}
	switch s.flow.Layer {
	case flow.LayerSGIn:
		return append(authorize(b, s), proposeGroup(b, s)...)
	case flow.LayerSGOut:
		return proposeGroup(b, s)
	case flow.LayerEndpoint:
		return proposeApproval(b, s)
	case flow.LayerRoute, flow.LayerReturn:
		if b.leg.d.Network != nil {
			return proposeRoute(b, s)
		}
		return append(inside(b), egress(b, s)...)
	}
	return nil
}

// authorize proposes to grant the Gateway the port in the groups of the host
// that it calls: a port more for an authorization that there is, or a new one.
func authorize(b *trail, s stop) []change {
	if s.flow.Set == nil {
		return nil
	}
	g, port := b.leg.gateway.Name, strconv.Itoa(int(b.to.port))
	ports := port + "/" + port
	var out []change
	for _, ref := range s.flow.Set.Groups {
		name := ref.Name
		if !b.w.Set.Has(model.Ref{Kind: model.KindSecurityGroup, Name: name}) {
			continue
		}
		found := false
		for _, z := range model.All[*model.SecurityGroupAuthorization](b.w.Set) {
			if z.Spec.Gateway != g || z.Spec.SecurityGroup != name || found || covers(z.Spec.Ports, b.to.port) {
				continue
			}
			found = true
			z = model.Clone(z)
			z.Spec.Ports = append(slices.Clone(z.Spec.Ports), ports)
			out = append(out, put("let "+model.RefOf(z).String()+" grant port "+port+" of SecurityGroup/"+name+" too", z,
				answer.PatchOperation{Op: "add", Path: "/spec/ports/-", Value: ports}))
		}
		if found {
			continue
		}
		z := &model.SecurityGroupAuthorization{
			Head: model.Head{Metadata: model.Metadata{Name: g + "-" + name}},
			Spec: model.SecurityGroupAuthorizationSpec{Gateway: g, SecurityGroup: name, Ports: []string{ports}},
		}
		if !b.w.Set.Has(model.RefOf(z)) {
			out = append(out, create("authorize Gateway/"+g+" in SecurityGroup/"+name+" for port "+port, z))
		}
	}
	return out
}

// inside proposes to dial a Backend in a Network where its Gateway has an
// address.
func inside(b *trail) []change {
	d := b.leg.d
	if d.Backend == nil {
		return nil
	}
	var out []change
	networks := map[string]bool{}
	for _, i := range b.leg.gateway.Interfaces() {
		networks[i.Network.Name] = true
	}
	if a := b.to.addr; len(networks) == 0 && a.IsValid() {
		for _, name := range keys(b.s.Networks) {
			if b.s.Networks[name].Interfaces[a] != nil {
				networks[name] = true
			}
		}
	}
	for _, name := range keys(networks) {
		if x, ok := object[*model.Backend](b, d.Backend.Name); ok && x.Spec.Network != name {
			x.Spec.Network = name
			out = append(out, put("dial Backend/"+d.Backend.Name+" inside Network/"+name, x,
				answer.PatchOperation{Op: "add", Path: "/spec/network", Value: name}))
		}
	}
	return out
}

// outside proposes to dial a Backend from where the Gateway stands.
func outside(b *trail) []change {
	d := b.leg.d
	if d.Backend == nil {
		return nil
	}
	x, ok := object[*model.Backend](b, d.Backend.Name)
	if !ok {
		return nil
	}
	x.Spec.Network = ""
	return []change{put("let Gateway/"+b.leg.gateway.Name+" dial Backend/"+d.Backend.Name+" from where it stands: leave its spec.network out", x,
		answer.PatchOperation{Op: "remove", Path: "/spec/network"})}
}

// egress proposes to let the server dial where the backend is.
func egress(b *trail, s stop) []change {
	a := b.flow.Query.Dst
	if s.flow.Cause != flow.EgressForbidden && s.flow.Cause != flow.PrivateAddress || !a.IsValid() {
		return nil
	}
	for _, n := range b.s.Networks {
		if n.Interfaces[a] != nil {
			return nil // who has it is in there, and not where the server dials
		}
	}
	p := netip.PrefixFrom(a, a.BitLen())
	return []change{{
		summary: "start the server so that it may dial " + a.String(), egress: []netip.Prefix{p},
		commands: []string{"postern server --allow-egress " + p.String() + "   # with the flags that it has now"},
	}}
}

// maxAuthorizations is how many authorizations are told of.
const maxAuthorizations = 4

// grants tells why a Gateway's authorizations do not let it through to a host:
// the questions that whoever has set rules and still has no access asks first.
func (t *trail) grants(b *trail) {
	for i := range b.stops {
		step := b.stops[i].flow
		if step == nil || step.Layer != flow.LayerSGIn || step.Set == nil || step.Component.Kind == model.KindGateway {
			continue
		}
		t.moved(b, step)
		t.authorizations(b, step)
	}
}

// moved tells which other ports the Gateway is admitted to.
func (t *trail) moved(b *trail, step *flow.Step) {
	var open []string
	for _, p := range rulePorts(step.Set) {
		if decide.Judge(step.Set, step.Way, b.to.proto, step.Remote, p).Allowed {
			open = append(open, strconv.Itoa(int(p)))
		}
	}
	if len(open) == 0 {
		return
	}
	t.find(step.Code, step.Component.String(), step.Component.String()+" admits "+step.Remote.String()+" of Gateway/"+
		b.leg.gateway.Name+" on port "+strings.Join(open, ", ")+", and "+b.leg.component+" names port "+strconv.Itoa(int(b.to.port))+
		": if the service has moved, so must the rule.")
}

// authorizations tells of those of the Gateway that do not help.
func (t *trail) authorizations(b *trail, step *flow.Step) {
	told := 0
	all := model.All[*model.SecurityGroupAuthorization](b.w.Set)
	carried := func(z *model.SecurityGroupAuthorization) bool {
		return z.Spec.Gateway == b.leg.gateway.Name && slices.Contains(step.Set.Groups, model.Ref{Kind: model.KindSecurityGroup, Name: z.Spec.SecurityGroup})
	}
	right := slices.ContainsFunc(all, carried)
	for _, z := range all {
		g, ok := model.Get[*model.SecurityGroup](b.w.Set, z.Spec.SecurityGroup)
		n := b.flow.Target.Network
		if z.Spec.Gateway != b.leg.gateway.Name || told == maxAuthorizations || !ok || n == nil || g.Spec.Network != n.Name {
			continue
		}
		name := model.RefOf(z).String()
		text := ""
		if group := (model.Ref{Kind: model.KindSecurityGroup, Name: z.Spec.SecurityGroup}); !carried(z) {
			if right {
				continue // it is for another host
			}
			var carried []string
			for _, c := range step.Set.Groups {
				carried = append(carried, c.Name)
			}
			text = name + " admits Gateway/" + z.Spec.Gateway + " to " + group.String() + ", but " + step.Component.String() + " carries " + strings.Join(carried, ", ") + "."
		} else if revoked := model.Revoked(b.w.Set, z); len(revoked) > 0 {
			text = name + " granted port " + strings.Join(revoked, ", ") + " of " + group.String() + ", and that was revoked there."
		} else if !covers(z.Spec.Ports, b.to.port) {
			text = name + " grants port " + strings.Join(z.Spec.Ports, ", ") + " of " + group.String() + ", and " + b.leg.component + " names port " + strconv.Itoa(int(b.to.port)) + "."
		}
		if text != "" {
			told++
			t.find(step.Code, name, text)
		}
	}
}

func covers(ranges []string, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r string) bool {
		p, err := model.ParseRange(r)
		return err == nil && int(p.First) <= int(port) && int(port) <= int(p.Last)
	})
}
