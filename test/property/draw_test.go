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
	subnets   []*model.Subnet // but for those that are delegated
	delegated []*model.Subnet
	groups    []*model.SecurityGroup
	hosts     []*model.Host
	links     []*model.Link
	gateways  []*model.Gateway
	endpoints []*model.Endpoint
	apis      []*model.API
	open      []*model.API // those that lead to every Backend
	backends  []*model.Backend
	domains   []*model.Domain
	zones     []*model.Zone
	// keyed are the Subscriptions that have a key.
	keyed []string
	// authorizations are those that were made at any time.
	authorizations []*model.SecurityGroupAuthorization
	// quiet is a Host that never joins; "" if there is none.
	quiet string
	seed  uint64
	// servers are the ports of Hosts that serve from the beginning.
	servers []step
}

func newDraw(seed uint64) *draw {
	return &draw{seed: seed, Rand: rand.New(rand.NewPCG(seed, 0x706f737465726e))}
}

// world draws everything.
func (d *draw) world() *script {
	d.drawNetworks()
	d.drawGateways()
	d.drawBackends()
	d.drawAuthorizations()
	d.drawAPIs()
	d.drawKeys()
	d.drawDomains()
	d.drawZones()
	d.steps = append(d.steps, d.servers...)
	d.drawSteps()
	d.steps = append(d.steps, d.issued()...)
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
		if d.one(2) {
			l := &model.Link{Head: head(fmt.Sprintf("l%d", i)), Spec: model.LinkSpec{Network: name, Type: pick(d, model.VPN, model.DirectConnect), CIDRs: []string{pick(d, sites...)}}}
			for overlap(l.Spec.CIDRs[0], n.Spec.CIDRs) {
				l.Spec.CIDRs[0] = pick(d, sites...)
			}
			d.links = append(d.links, l)
			d.put(l)
		}
	}
	if d.seed%4 == 1 {
		d.quiet = "quiet"
		d.put(&model.Host{Head: head(d.quiet), Spec: model.HostSpec{Subnet: pick(d, d.subnets...).Metadata.Name}})
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

func (d *draw) drawAPIs() {
	for _, g := range d.gateways {
		d.drawOpenAPI(g)
	}
	for range 1 + d.IntN(3) {
		i := len(d.apis)
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

// drawOpenAPI draws the API of a Gateway that is open to all who get to it and
// leads to every Backend.
func (d *draw) drawOpenAPI(g *model.Gateway) {
	name := fmt.Sprintf("a%d", len(d.apis))
	a := &model.API{Head: head(name), Spec: model.APISpec{Gateway: g.Metadata.Name, Type: model.Regional, Path: "all", Stage: "prod"}}
	paths := object{}
	for _, b := range d.backends {
		paths["/"+b.Metadata.Name] = object{"get": object{
			"responses":                       object{"200": object{"description": "x"}},
			"x-amazon-apigateway-integration": object{"type": "http_proxy", "httpMethod": "GET", "uri": "backend://" + b.Metadata.Name + "/v"},
		}}
	}
	a.Spec.OpenAPI = raw(object{"openapi": "3.0.1", "info": object{"title": "all", "version": "1"}, "paths": paths})
	d.apis = append(d.apis, a)
	d.put(a)
	d.put(&model.Stage{Head: head(name + ".prod"), Spec: model.StageSpec{Deployment: model.Latest}})
	d.open = append(d.open, a)
}

// zoneDomain draws the domain of a Zone: now and then one that takes the place
// of Postern's own names.
func (d *draw) zoneDomain() string {
	if d.one(4) {
		return pick(d, "shop.example.com0", "execute-api.eu-1.postern.internal", "postern.internal", "gw0.postern.internal")
	}
	return pick(d, "corp.example", "www.example", "example.com0", "internal.test")
}

func (d *draw) drawZones() {
	for i := range d.IntN(3) {
		z := &model.Zone{Head: head(fmt.Sprintf("z%d", i)), Spec: model.ZoneSpec{
			Domain: d.zoneDomain(),
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
