// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"postern.dev/postern/model"
)

// draw draws a world. The same seed draws the same world.
type draw struct {
	*rand.Rand
	script

	networks  []*model.Network
	subnets   []*model.Subnet
	groups    []*model.SecurityGroup
	hosts     []*model.Host
	links     []*model.Link
	gateways  []*model.Gateway
	endpoints []*model.Endpoint
	apis      []*model.API
	backends  []*model.Backend
	domains   []*model.Domain
	zones     []*model.Zone
}

func newDraw(seed uint64) *draw {
	return &draw{Rand: rand.New(rand.NewPCG(seed, 0x706f737465726e))}
}

// world draws everything.
func (d *draw) world() *script {
	d.drawNetworks()
	d.drawGateways()
	d.drawBackends()
	d.drawAPIs()
	d.drawDomains()
	d.drawZones()
	d.drawSteps()
	return &d.script
}

// one in n.
func (d *draw) one(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d *draw, list ...T) T { return list[d.IntN(len(list))] }

// some draws a part of list, at most n of it, in order.
func some[T any](d *draw, n int, list []T) []T {
	var out []T
	for _, x := range list {
		if len(out) < n && d.one(2) {
			out = append(out, x)
		}
	}
	return out
}

func head(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

func (d *draw) put(o model.Object) { d.objects = append(d.objects, o) }

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps and strings can be written
	}
	return b
}

// The address plan. Networks may overlap; what is beyond Links may overlap
// other Networks.
var (
	plans    = []string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"}
	overlaps = []string{"10.1.0.0/16", "10.1.0.0/17", "10.2.0.0/16"}
	sites    = []string{"192.168.9.0/24", "192.168.10.0/24", "10.2.0.0/16", "10.2.1.0/24", "10.3.1.0/24", "fd00:99::/64", "172.16.0.0/12"}
	callers  = []string{"203.0.113.10", "203.0.113.77", "198.51.100.7", "8.8.4.4"}
)

func (d *draw) drawNetworks() {
	for i := range 1 + d.IntN(3) {
		name := fmt.Sprintf("n%d", i)
		n := &model.Network{Head: head(name), Spec: model.NetworkSpec{CIDRs: []string{plans[i]}, InternetGateway: !d.one(5)}}
		if i > 0 && d.one(5) {
			n.Spec.CIDRs[0] = pick(d, overlaps...)
		}
		v4 := n.Spec.CIDRs[0]
		six := d.one(4)
		if six {
			n.Spec.CIDRs = append(n.Spec.CIDRs, fmt.Sprintf("fd00:%d::/48", i+1))
		}
		d.networks = append(d.networks, n)
		d.put(n)
		var groups []string
		for j := range d.IntN(3) {
			groups = append(groups, fmt.Sprintf("%s-g%d", name, j))
		}
		for _, g := range groups {
			d.drawGroup(g, name, groups)
		}
		base := v4[:len(v4)-len("0.0/16")]
		cidrs := []string{base + "1.0/24", base + "2.0/24"}[:1+d.IntN(2)]
		if six {
			cidrs = append(cidrs, fmt.Sprintf("fd00:%d:0:1::/64", i+1))
		}
		for j, c := range cidrs {
			s := &model.Subnet{Head: head(fmt.Sprintf("%s-s%d", name, j)), Spec: model.SubnetSpec{Network: name, CIDR: c, InternetRoute: !d.one(6)}}
			if len(groups) > 0 && d.one(6) {
				s.Spec.SecurityGroup = pick(d, groups...)
			}
			d.subnets = append(d.subnets, s)
			d.put(s)
			for k := range 1 + d.IntN(2) {
				h := &model.Host{Head: head(fmt.Sprintf("h%d%d%d", i, j, k)), Spec: model.HostSpec{Subnet: s.Metadata.Name}}
				if d.one(3) {
					h.Spec.SecurityGroups = some(d, 2, groups)
				}
				d.hosts = append(d.hosts, h)
				d.put(h)
			}
		}
		if d.one(3) {
			l := &model.Link{Head: head(fmt.Sprintf("l%d", i)), Spec: model.LinkSpec{Network: name, Type: pick(d, model.VPN, model.DirectConnect), CIDRs: []string{pick(d, sites...)}}}
			for overlap(l.Spec.CIDRs[0], n.Spec.CIDRs) {
				l.Spec.CIDRs[0] = pick(d, sites...)
			}
			d.links = append(d.links, l)
			d.put(l)
		}
	}
	for i := range d.networks {
		for j := range i {
			if !d.one(3) {
				a, b := d.networks[j].Metadata.Name, d.networks[i].Metadata.Name
				d.put(&model.Peering{Head: head(a + "-" + b), Spec: model.PeeringSpec{Networks: []string{a, b}}})
			}
		}
	}
}

// overlap tells whether a prefix overlaps one of cidrs.
func overlap(prefix string, cidrs []string) bool {
	return slices.ContainsFunc(cidrs, func(c string) bool {
		return netip.MustParsePrefix(c).Overlaps(netip.MustParsePrefix(prefix))
	})
}

func (d *draw) drawGroup(name, network string, groups []string) {
	g := &model.SecurityGroup{Head: head(name), Spec: model.SecurityGroupSpec{Network: network}}
	g.Spec.Defaults = pick(d, "", model.DefaultsStrict, model.DefaultsAzure, model.DefaultsBasic, model.DefaultsEnterprise)
	if d.one(2) {
		g.Spec.Rules = append(g.Spec.Rules, model.Rule{Name: "https", Direction: model.Inbound, Protocol: "tcp", Ports: []string{"443"}})
	}
	for range d.IntN(4) {
		r := model.Rule{Direction: model.Inbound, Priority: pick(d, 0, 0, 100, 200, 1000)}
		if d.one(4) {
			r.Direction = model.Outbound
		}
		if d.one(4) {
			r.Action = model.Deny
		}
		r.Protocol = pick(d, "", "tcp", "tcp", "udp", model.AnyProto)
		if !d.one(3) {
			r.Ports = []string{pick(d, "443", "443", "80", "8080", "53", "1-1024", "8000-8100")}
		}
		var peers []string
		for range d.IntN(3) {
			p := pick(d, "10.1.0.0/16", "10.2.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "192.168.0.0/16", "10.1.1.0/24", "10.1.1.4/32", "fd00::/16", "198.18.0.0/15",
				"tag:Internet", "tag:VirtualNetwork", "tag:ApiManagement", "tag:AzureLoadBalancer", "group")
			if p == "group" {
				if g.Spec.Defaults == model.DefaultsEnterprise {
					continue
				}
				p = "group:" + pick(d, groups...)
			}
			peers = append(peers, p)
		}
		if r.Direction == model.Inbound {
			r.From = peers
		} else {
			r.To = peers
		}
		g.Spec.Rules = append(g.Spec.Rules, r)
	}
	d.groups = append(d.groups, g)
	d.put(g)
}

func (d *draw) drawGateways() {
	for i := range 1 + d.IntN(2) {
		g := &model.Gateway{Head: head(fmt.Sprintf("gw%d", i)), Spec: model.GatewaySpec{
			Region: pick(d, "eu-1", "eu-1", "us-2"), HTTP: pick(d, "", model.HTTPOff, model.HTTPRedirect, model.HTTPServe),
			EndpointApproval: pick(d, model.ApprovalAuto, model.ApprovalAuto, model.ApprovalAuto, model.ApprovalManual),
		}}
		d.gateways = append(d.gateways, g)
		d.put(g)
	}
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

// closed tells whether a Gateway has no public access.
func (d *draw) closed(gateway string) bool {
	return slices.ContainsFunc(d.gateways, func(g *model.Gateway) bool { return g.Metadata.Name == gateway && g.Spec.PublicAccess != nil })
}

// drawBackends draws Backends: one that answers, one that refuses, and others
// that may not be dialled or not from where the Gateway is.
func (d *draw) drawBackends() {
	for i := range d.IntN(4) {
		b := &model.Backend{Head: head(fmt.Sprintf("b%d", i)), Spec: model.BackendSpec{Timeout: pick(d, "", "5s")}}
		b.Spec.Targets = []model.Target{pick(d,
			target(openBackend), target(openBackend), target(closedBackend), model.Target{Host: "10.99.0.1", Port: 8080}, model.Target{Host: "::1", Port: 80},
		)}
		if d.one(6) {
			b.Spec.Network = pick(d, d.networks...).Metadata.Name
		}
		d.backends = append(d.backends, b)
		d.put(b)
	}
}

func target(at string) model.Target {
	a := netip.MustParseAddrPort(at)
	return model.Target{Host: a.Addr().String(), Port: int(a.Port())}
}

func (d *draw) drawAPIs() {
	for i := range 1 + d.IntN(4) {
		a := &model.API{Head: head(fmt.Sprintf("a%d", i)), Spec: model.APISpec{
			Gateway: pick(d, d.gateways...).Metadata.Name, Type: pick(d, model.Private, model.Private, model.Regional, model.Edge),
			DisableExecuteAPIEndpoint: d.one(10), KeyRequired: d.one(15),
		}}
		a.Spec.OpenAPI = d.document()
		if len(d.backends) > 0 && d.one(3) {
			a.Spec.Backend = pick(d, d.backends...).Metadata.Name
		}
		if a.Spec.Type == model.Private && !d.one(10) || d.one(3) {
			a.Spec.Policy = d.policy(a.Metadata.Name)
		}
		if a.Spec.Type == model.Private {
			for _, e := range d.endpoints {
				if e.Spec.Gateway == a.Spec.Gateway && d.one(2) {
					a.Spec.Endpoints = append(a.Spec.Endpoints, e.Metadata.Name)
				}
			}
		}
		if d.one(2) {
			a.Spec.Path = pick(d, "p", "shop", "orders", "orders/v") + fmt.Sprint(i)
		}
		d.apis = append(d.apis, a)
		d.put(a)
		names := []string{"prod", "test"}[:pick(d, 0, 1, 1, 1, 2, 2)]
		for _, n := range names {
			s := &model.Stage{Head: head(a.Metadata.Name + "." + n)}
			if !d.one(3) {
				s.Spec.Deployment = model.Latest
			}
			s.Spec.AutoDeploy = d.one(4)
			if d.one(2) {
				s.Spec.Variables = map[string]string{"color": "red", "backend": openBackend}
			}
			d.put(s)
		}
		if len(names) > 1 && d.one(2) {
			a.Spec.Stage = pick(d, names...)
		}
	}
}

func (d *draw) drawDomains() {
	for i := range d.IntN(3) {
		x := &model.Domain{Spec: model.DomainSpec{Type: pick(d, model.Regional, model.Edge, model.Private)}}
		x.Metadata.Name = pick(d, "shop.example.com", "*.wild.example.org", "vip.corp.example")
		if x.Spec.Type == model.Private {
			x.Metadata.Name = pick(d, "vip.corp.example", "in.example.com")
		}
		x.Metadata.Name = fmt.Sprintf("%s%d", x.Metadata.Name, i)
		gateway := ""
		for _, a := range d.apis {
			if (a.Spec.Type == model.Private) != (x.Spec.Type == model.Private) || gateway != "" && gateway != a.Spec.Gateway {
				continue
			}
			stage := d.stageOf(a)
			if stage == "" {
				continue
			}
			gateway = a.Spec.Gateway
			p := pick(d, "", "shop", "shop/v2", "o", "o/v1/items") + fmt.Sprint(len(x.Spec.Mappings))
			if len(x.Spec.Mappings) == 0 && d.one(2) {
				p = ""
			}
			x.Spec.Mappings = append(x.Spec.Mappings, model.Mapping{Path: p, API: a.Metadata.Name, Stage: stage})
		}
		if x.Spec.Type == model.Private {
			for _, e := range d.endpoints {
				if e.Spec.Gateway == gateway && !d.one(3) {
					x.Spec.Endpoints = append(x.Spec.Endpoints, e.Metadata.Name)
				}
			}
			if len(x.Spec.Endpoints) == 0 {
				continue
			}
			if d.one(2) {
				x.Spec.Policy = d.policy("")
			}
		}
		if len(x.Spec.Mappings) == 0 {
			continue
		}
		d.domains = append(d.domains, x)
		d.put(x)
	}
}

// stageOf draws a Stage that an API has.
func (d *draw) stageOf(a *model.API) string {
	var names []string
	for _, o := range d.objects {
		if s, ok := o.(*model.Stage); ok && model.APIName(s.Metadata.Name) == a.Metadata.Name {
			names = append(names, s.ShortName())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return pick(d, names...)
}

func (d *draw) drawZones() {
	for i := range d.IntN(3) {
		z := &model.Zone{Head: head(fmt.Sprintf("z%d", i)), Spec: model.ZoneSpec{
			Domain: pick(d, "corp.example", "corp.example", "www.example", "example.com0", "internal.test", "internal.test", "shop.example.com0", "execute-api.eu-1.postern.internal", "postern.internal", "gw0.postern.internal"),
		}}
		for _, n := range d.networks {
			if !d.one(3) {
				z.Spec.Networks = append(z.Spec.Networks, n.Metadata.Name)
			}
		}
		if len(z.Spec.Networks) == 0 {
			continue
		}
		seen := map[string]bool{}
		for range 1 + d.IntN(3) {
			r := model.Record{Name: pick(d, "@", "api", "*", "www", "a.b", "*.b"), Type: pick(d, "A", "CNAME", "CNAME", "TXT")}
			if seen[r.Name] {
				continue
			}
			seen[r.Name] = true
			switch r.Type {
			case "A":
				r.Values = []string{pick(d, "10.1.1.4", "10.1.1.5", "10.2.1.4", "198.18.0.10", "192.0.2.1")}
				if len(d.hosts) > 0 && d.one(2) {
					r.Values[0] = "${Host/" + pick(d, d.hosts...).Metadata.Name + ".address}"
				}
			case "CNAME":
				if r.Name == "@" {
					continue
				}
				r.Values = []string{d.hostName()}
			case "TXT":
				r.Values = []string{"hello"}
			}
			z.Spec.Records = append(z.Spec.Records, r)
		}
		d.zones = append(d.zones, z)
		d.put(z)
	}
}

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
	switch n := d.IntN(8); {
	case n < 3 && len(d.groups) > 0:
		g := pick(d, d.groups...)
		keep, objects := d.groups, d.objects
		var names []string
		for _, o := range keep {
			if o.Spec.Network == g.Spec.Network {
				names = append(names, o.Metadata.Name)
			}
		}
		d.drawGroup(g.Metadata.Name, g.Spec.Network, names)
		c := d.groups[len(d.groups)-1]
		d.groups, d.objects = keep, objects
		return step{apply: []model.Object{c}}
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
	}
	a := pick(d, d.apis...)
	return step{deploy: a.Metadata.Name, stage: pick(d, "prod", "test")}
}
