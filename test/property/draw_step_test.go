// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"slices"

	"postern.dev/postern/model"
)

func (d *draw) drawSteps() {
	for _, e := range d.endpoints {
		n := d.IntN(12)
		if d.closed(e.Spec.Gateway) {
			continue // it needs its Endpoints
		}
		switch n {
		case 0:
			d.steps = append(d.steps, step{reject: e.Metadata.Name})
		case 1, 2, 3, 4:
			d.steps = append(d.steps, step{approve: e.Metadata.Name})
		}
	}
	for _, a := range d.apis {
		if slices.Contains(d.open, a) {
			d.steps = append(d.steps, step{deploy: a.Metadata.Name, stage: "prod"})
			continue
		}
		if d.one(8) {
			continue
		}
		d.steps = append(d.steps, step{deploy: a.Metadata.Name, stage: pick(d, "prod", "prod", "prod", "test")})
		if d.one(4) {
			// What is saved now differs from what is served.
			c := model.Clone(a)
			switch d.IntN(4) {
			case 0:
				c.Spec.Policy = d.policy(a.Metadata.Name)
			case 1:
				c.Spec.OpenAPI = d.document()
			case 2:
				c.Spec.DisableExecuteAPIEndpoint = !c.Spec.DisableExecuteAPIEndpoint
			case 3:
				c.Spec.Path = "moved" + a.Metadata.Name
			}
			d.steps = append(d.steps, step{apply: []model.Object{c}})
		}
	}
}

// change draws something that is changed while the world runs: what is new must
// be enforced, and explained, from then on.
func (d *draw) change() step {
	switch n := d.IntN(19); {
	case n < 3 && len(d.groups) > 0:
		g := pick(d, d.groups...)
		return step{apply: []model.Object{d.redrawn(g)}}
	case n == 3:
		g := model.Clone(pick(d, d.gateways...))
		g.Spec.HTTP = pick(d, model.HTTPOff, model.HTTPRedirect, model.HTTPServe)
		return step{apply: []model.Object{g}}
	case n == 4:
		s := model.Clone(pick(d, d.subnets...))
		s.Spec.InternetRoute = !s.Spec.InternetRoute
		return step{apply: []model.Object{s}}
	case n == 5 && len(d.endpoints) > 0:
		e := pick(d, d.endpoints...)
		if d.one(2) {
			return step{reject: e.Metadata.Name}
		}
		return step{approve: e.Metadata.Name}
	case n == 6:
		return step{remove: model.RefOf(pick(d, d.objects...))}
	case n == 7:
		return step{apply: []model.Object{d.moved(pick(d, d.gateways...))}}
	case n == 8 && len(d.groups) > 0:
		s := model.Clone(pick(d, append(slices.Clip(d.subnets), d.delegated...)...))
		s.Spec.SecurityGroup = ""
		if names := d.groupsOf(s.Spec.Network); len(names) > 0 && !d.one(3) {
			s.Spec.SecurityGroup = pick(d, names...)
		}
		return step{apply: []model.Object{s}}
	case n == 9 && len(d.groups) > 0:
		h := model.Clone(d.host(d.server().serve))
		h.Spec.SecurityGroups = some(d, 2, d.groupsOf(d.networkOf(h.Spec.Subnet)))
		return step{apply: []model.Object{h}}
	case n == 10:
		// A service that goes, or comes back.
		st := d.server()
		if d.one(2) {
			st = step{stop: st.serve, port: st.port}
		}
		return st
	case n == 11 && len(d.backends) > 0:
		b := model.Clone(pick(d, d.backends...))
		b.Spec.Targets, b.Spec.Protocol, b.Spec.Network = nil, "", ""
		d.drawInside(b)
		return step{apply: []model.Object{b}}
	case n == 12 && len(d.domains) > 0:
		x := model.Clone(pick(d, d.domains...))
		x.Spec.TLS, x.Spec.ClientCA = nil, nil
		d.secure(x)
		return step{apply: []model.Object{x}}
	case n == 13:
		g := model.Clone(pick(d, d.gateways...))
		g.Spec.PublicAccess = new(!d.one(3))
		return step{apply: []model.Object{g}}
	case n == 14 || n == 15 && len(d.authorizations) == 0:
		if z := d.authorization(fmt.Sprintf("z%d", len(d.authorizations))); z != nil {
			d.authorizations = append(d.authorizations, z)
			return step{apply: []model.Object{z}}
		}
	case n == 15:
		z := pick(d, d.authorizations...)
		return step{revoke: z.Spec.SecurityGroup, rule: granted(d, z)}
	case n == 16 && len(d.authorizations) > 0:
		z := pick(d, d.authorizations...)
		return step{remove: model.RefOf(z), cascade: d.one(2)}
	}
	a := pick(d, d.apis...)
	return step{deploy: a.Metadata.Name, stage: pick(d, "prod", "test")}
}

// redrawn draws other rules for a group.
func (d *draw) redrawn(g *model.SecurityGroup) *model.SecurityGroup {
	keep, objects := d.groups, d.objects
	d.drawGroup(g.Metadata.Name, g.Spec.Network, d.groupsOf(g.Spec.Network))
	c := d.groups[len(d.groups)-1]
	d.groups, d.objects = keep, objects
	return c
}

// moved draws another place for a Gateway. A Subnet that is delegated to it
// stays so.
func (d *draw) moved(g *model.Gateway) *model.Gateway {
	c := model.Clone(g)
	c.Spec.NetworkMode, c.Spec.Subnet, c.Spec.PrivateAddress, c.Spec.SecurityGroups = model.ModeNone, "", "", nil
	if !d.one(3) {
		c.Spec.NetworkMode = pick(d, model.ModeExternal, model.ModeInternal)
		c.Spec.Subnet = pick(d, d.subnets...).Metadata.Name
		if g.Spec.Subnet != "" && !d.one(3) {
			c.Spec.Subnet = g.Spec.Subnet
		}
	}
	if d.one(4) {
		c.Spec.Outbound = nil
	}
	return c
}
