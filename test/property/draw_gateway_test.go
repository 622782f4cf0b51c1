// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/model"
)

func (d *draw) drawGateways() {
	for i := range 1 + d.IntN(2) {
		g := &model.Gateway{Head: head(fmt.Sprintf("gw%d", i)), Spec: model.GatewaySpec{
			Region: pick(d, "eu-1", "eu-1", "us-2"), HTTP: pick(d, "", model.HTTPOff, model.HTTPRedirect, model.HTTPServe),
			EndpointApproval: pick(d, model.ApprovalAuto, model.ApprovalAuto, model.ApprovalAuto, model.ApprovalManual),
		}}
		d.place(g)
		if d.one(6) {
			g.Spec.PublicAddress = pick(d, "203.0.113.20", "198.18.200.", "198.51.100.20", "2001:db8:7::")
			if strings.HasSuffix(g.Spec.PublicAddress, ".") || strings.HasSuffix(g.Spec.PublicAddress, ":") {
				g.Spec.PublicAddress += "20"
			}
			g.Spec.PublicAddress += fmt.Sprint(i)
		}
		d.gateways = append(d.gateways, g)
		d.put(g)
	}
	d.drawEndpoints()
	for _, g := range d.gateways {
		if d.one(4) && slices.ContainsFunc(d.endpoints, func(e *model.Endpoint) bool { return e.Spec.Gateway == g.Metadata.Name }) {
			g.Spec.PublicAccess = new(false)
			g.Spec.EndpointApproval = model.ApprovalAuto
		}
	}
	// Policies name Endpoints, so they are drawn when all are there.
	for _, e := range d.endpoints {
		if d.one(3) {
			e.Spec.Policy = d.policy("")
		}
	}
}

// place puts a Gateway into Networks, or leaves it outside.
func (d *draw) place(g *model.Gateway) {
	network := ""
	n := d.IntN(8)
	if len(d.gateways) == 0 {
		n = int(d.seed % 7) // the first ones of worlds take turns
	}
	switch n {
	case 0, 1, 2:
		g.Spec.NetworkMode = model.ModeExternal
	case 3, 4:
		g.Spec.NetworkMode = model.ModeInternal
	case 5:
		g.Spec.NetworkMode = model.ModeNone
	}
	if g.Spec.NetworkMode == model.ModeExternal || g.Spec.NetworkMode == model.ModeInternal {
		s := pick(d, d.subnets...)
		g.Spec.Subnet, network = s.Metadata.Name, s.Spec.Network
		if at, ok := strings.CutSuffix(s.Spec.CIDR, "0/24"); ok && d.one(4) {
			g.Spec.PrivateAddress = at + "77"
		}
	}
	// Integration adds to injection in the same Network, or in another.
	if n == 6 || network == "" && d.one(2) || d.one(6) {
		n := pick(d, d.networks...)
		if network != "" && d.one(2) {
			n = d.network(network)
		}
		d.integrate(g, n)
		if network == "" {
			network = n.Metadata.Name
		}
	}
	if network == "" {
		return
	}
	if d.one(3) {
		for _, n := range d.groupsOf(network) {
			if d.one(2) {
				g.Spec.SecurityGroups = append(g.Spec.SecurityGroups, n)
			}
		}
	}
}

// integrate delegates a Subnet of n to g for what it sends.
func (d *draw) integrate(g *model.Gateway, n *model.Network) {
	index := fmt.Sprint(len(d.gateways))
	cidr := strings.TrimSuffix(strings.TrimSuffix(n.Spec.CIDRs[0], "0.0/16"), "0.0/17") + "1" + index + ".0/27"
	if len(n.Spec.CIDRs) > 1 && d.one(4) {
		cidr = strings.TrimSuffix(n.Spec.CIDRs[1], "::/48") + ":0:d" + index + "::/64"
	}
	s := &model.Subnet{Head: head(n.Metadata.Name + "-d" + index), Spec: model.SubnetSpec{Network: n.Metadata.Name, CIDR: cidr, DelegatedTo: g.Metadata.Name, InternetRoute: d.one(2)}}
	if names := d.groupsOf(n.Metadata.Name); len(names) > 0 && d.one(4) {
		s.Spec.SecurityGroup = pick(d, names...)
	}
	d.put(s)
	g.Spec.Outbound = &model.GatewayOutbound{Subnet: s.Metadata.Name}
	d.delegated = append(d.delegated, s)
}

func (d *draw) network(name string) *model.Network {
	return d.networks[slices.IndexFunc(d.networks, func(n *model.Network) bool { return n.Metadata.Name == name })]
}

// groupsOf lists the SecurityGroups of a Network.
func (d *draw) groupsOf(network string) []string {
	var out []string
	for _, g := range d.groups {
		if g.Spec.Network == network {
			out = append(out, g.Metadata.Name)
		}
	}
	return out
}

// presence lists the Networks in which a Gateway has an interface.
func (d *draw) presence(g *model.Gateway) []string {
	var out []string
	if g.Spec.Subnet != "" {
		out = append(out, d.networkOf(g.Spec.Subnet))
	}
	if o := g.Spec.Outbound; o != nil {
		for _, s := range d.delegated {
			if s.Metadata.Name == o.Subnet && !slices.Contains(out, s.Spec.Network) {
				out = append(out, s.Spec.Network)
			}
		}
	}
	return out
}

func (d *draw) drawEndpoints() {
	private := map[string]bool{} // by Network and region: one Endpoint only
	for i := range pick(d, 0, 1, 1, 2, 2, 3, 4) {
		s := pick(d, d.subnets...)
		e := &model.Endpoint{Head: head(fmt.Sprintf("e%d", i)), Spec: model.EndpointSpec{Gateway: pick(d, d.gateways...).Metadata.Name, Subnets: []string{s.Metadata.Name}}}
		for _, o := range d.subnets {
			if o != s && o.Spec.Network == s.Spec.Network && d.one(3) {
				e.Spec.Subnets = append(e.Spec.Subnets, o.Metadata.Name)
			}
		}
		if d.one(3) {
			for _, g := range d.groups {
				if g.Spec.Network == s.Spec.Network && d.one(2) {
					e.Spec.SecurityGroups = append(e.Spec.SecurityGroups, g.Metadata.Name)
				}
			}
		}
		taken := s.Spec.Network + d.region(e.Spec.Gateway)
		e.Spec.PrivateDNS = new(!private[taken] && !d.one(3))
		private[taken] = private[taken] || *e.Spec.PrivateDNS
		d.endpoints = append(d.endpoints, e)
		d.put(e)
	}
}

// closed tells whether a Gateway has no public access.
func (d *draw) closed(gateway string) bool {
	return slices.ContainsFunc(d.gateways, func(g *model.Gateway) bool { return g.Metadata.Name == gateway && g.Spec.PublicAccess != nil })
}
