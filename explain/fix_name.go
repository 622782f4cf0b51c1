// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"slices"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// apiIDHeader names the API at an Endpoint.
const apiIDHeader = "x-apigw-api-id"

// proposeName proposes other names for what a name that is not answered was
// meant to be.
func proposeName(t *trail) []change {
	var out []change
	for _, name := range keys(t.s.APIs) {
		a := t.s.APIs[name]
		if a.Host == t.to.name {
			out = append(out, t.byEndpoints(a, t.to.path)...)
			out = append(out, t.privateDNSOn(a.Gateway)...)
		}
	}
	for _, g := range keys(t.s.Gateways) {
		h := t.s.Gateways[g].Hosts[t.to.name]
		if h == nil || h.Kind != snapshot.HostDomain {
			continue
		}
		for _, e := range h.Domain.Endpoints {
			out = append(out, ask(t, "call Endpoint/"+e.Name+" by its own name and send Host: "+h.Name,
				t.url("https", e.Host, t.to.path), map[string]string{"host": h.Name}))
		}
	}
	out = append(out, t.recordInZone()...)
	out = append(out, t.ownZone()...)
	return append(out, t.nearName()...)
}

// recordInZone proposes the record that a private zone lacks although it hides
// a public one.
func (t *trail) recordInZone() []change {
	v := &t.name
	if v.Zone == nil || !v.Zone.Private || v.Zone.Owner.Kind != model.KindZone {
		return nil
	}
	z, ok := object[*model.Zone](t, v.Zone.Owner.Name)
	public, addrs := lookup(t.s, &source{flow: t.from.flow}, v.Name)
	if !ok || len(addrs) == 0 {
		return nil
	}
	relative := strings.TrimSuffix(strings.TrimSuffix(v.Name, v.Zone.Domain), ".")
	if relative == "" {
		relative = "@"
	}
	r := model.Record{Name: relative, Type: "A", Values: texts(addrs)}
	if addrs[0].Is6() {
		r.Type = "AAAA"
	}
	op := answer.PatchOperation{Op: "add", Path: "/spec/records/-", Value: r}
	if len(z.Spec.Records) == 0 {
		op.Path, op.Value = "/spec/records", []model.Record{r}
	}
	z.Spec.Records = append(slices.Clone(z.Spec.Records), r)
	return []change{put("put "+v.Name+" into Zone/"+z.Metadata.Name+", which hides the public answer, with the address of "+public.Owner.String(), z, op)}
}

// ownZone proposes a private zone for a name of an injected Gateway, in a
// Network that is not the Gateway's and so does not have the name: one for this
// name alone, which shadows no other.
func (t *trail) ownZone() []change {
	if t.from.net == nil {
		return nil
	}
	var out []change
	for _, name := range keys(t.s.Gateways) {
		g := t.s.Gateways[name]
		if !g.Injected() || g.Hosts[t.to.name] == nil || g.Hosts[t.to.name].Endpoint != nil {
			continue
		}
		a := g.Nodes[0].Addr
		z := &model.Zone{
			Head: model.Head{Metadata: model.Metadata{Name: t.from.net.Name + "-" + strings.ReplaceAll(t.to.name, ".", "-")}},
			Spec: model.ZoneSpec{
				Networks: []string{t.from.net.Name}, Domain: t.to.name,
				Records: []model.Record{{Name: "@", Type: "A", Values: []string{a.String()}}},
			},
		}
		if a.Is6() {
			z.Spec.Records[0].Type = "AAAA"
		}
		if !t.w.Set.Has(model.RefOf(z)) {
			out = append(out, create("make a private zone for "+t.to.name+" in Network/"+t.from.net.Name+", with the address of Gateway/"+name, z))
		}
	}
	return out
}

// maxTypos is how many letters a name may differ in to be taken for another.
const maxTypos = 3

// nearName proposes the served name that the one asked for looks like.
func (t *trail) nearName() []change {
	best, least := "", maxTypos+1
	for _, g := range keys(t.s.Gateways) {
		for _, host := range keys(t.s.Gateways[g].Hosts) {
			if d := distance(t.to.name, host, least); d > 0 && d < least {
				best, least = host, d
			}
		}
	}
	if best == "" {
		return nil
	}
	return []change{ask(t, "ask for "+best+", which looks like what was meant", t.url(t.to.scheme, best+t.portPart(), t.to.path), nil)}
}

// portPart is the port as it stands in the question's URL.
func (t *trail) portPart() string {
	if i := strings.LastIndexByte(t.to.host, ':'); i >= 0 {
		return t.to.host[i:]
	}
	return ""
}

// distance is how many letters to insert, delete or replace to make a of b;
// most or more is told as most.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most || len(a) > 255 {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, diagonal := i+1, row[0]
		row[0] = left
		for j := range len(b) {
			up := row[j+1]
			if a[i] == b[j] {
				left = diagonal
			} else {
				left = 1 + min(left, up, diagonal)
			}
			diagonal, row[j+1] = up, left
		}
	}
	return min(row[len(b)], most)
}

// byEndpoints proposes to call an API at each Endpoint of its Gateway by the
// Endpoint's own name.
func (t *trail) byEndpoints(a *snapshot.API, path string) []change {
	if a.Type != model.Private {
		return nil
	}
	var out []change
	for _, e := range a.Gateway.Endpoints {
		if !t.to.web() {
			out = append(out, ask(t, "ask for Endpoint/"+e.Name+" by its own name", t.to.scheme+"://"+e.Host+t.portPart(), nil))
			continue
		}
		out = append(out, ask(t, "call Endpoint/"+e.Name+" by its own name and name the API in the header "+apiIDHeader,
			t.url("https", e.Host, path), map[string]string{apiIDHeader: a.ID, "host": ""}))
	}
	return out
}

// privateDNSOn proposes private DNS on an Endpoint in the caller's Network.
func (t *trail) privateDNSOn(g *snapshot.Gateway) []change {
	var out []change
	for _, e := range g.Endpoints {
		if e.PrivateDNS || e.Network != t.from.net {
			continue
		}
		if x, ok := object[*model.Endpoint](t, e.Name); ok {
			on := true
			x.Spec.PrivateDNS = &on
			out = append(out, put("switch private DNS of Endpoint/"+e.Name+" on", x,
				answer.PatchOperation{Op: "add", Path: "/spec/privateDNS", Value: true}))
		}
	}
	return out
}

// privateDNSOff proposes private DNS off on the Endpoint that answered a name.
func (t *trail) privateDNSOff() []change {
	z := t.name.Zone
	if z == nil || z.Owner.Kind != model.KindEndpoint {
		return nil
	}
	x, ok := object[*model.Endpoint](t, z.Owner.Name)
	if !ok {
		return nil
	}
	off := false
	x.Spec.PrivateDNS = &off
	return []change{put("switch private DNS of Endpoint/"+z.Owner.Name+" off; callers of private APIs then need the Endpoint's own name", x,
		answer.PatchOperation{Op: "add", Path: "/spec/privateDNS", Value: false})}
}
