// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"

	"postern.dev/postern/decide/request"
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
			out = append(out, t.privateDNSOn(a)...)
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
	return out
}

// byEndpoints proposes to call an API at each Endpoint of its Gateway by the
// Endpoint's own name.
func (t *trail) byEndpoints(a *snapshot.API, path string) []change {
	if a.Type != model.Private {
		return nil
	}
	var out []change
	for _, e := range a.Gateway.Endpoints {
		out = append(out, ask(t, "call Endpoint/"+e.Name+" by its own name and name the API in the header "+apiIDHeader,
			t.url("https", e.Host, path), map[string]string{apiIDHeader: a.ID, "host": ""}))
	}
	return out
}

// privateDNSOn proposes private DNS on an Endpoint in the caller's Network.
func (t *trail) privateDNSOn(a *snapshot.API) []change {
	var out []change
	for _, e := range a.Gateway.Endpoints {
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

// proposeOtherName proposes the name or header under which the API is served
// where the caller arrives, or another place where it is.
func proposeOtherName(t *trail, s stop) []change {
	if t.web == nil {
		return nil
	}
	a := t.web.verdict.API
	switch s.code {
	case request.CodeAPINotPrivate:
		if a == nil {
			return nil
		}
		out := t.byDomains(a)
		if len(out) == 0 {
			out = t.newDomain(a)
		}
		return append(out, t.privateDNSOff()...)
	case request.CodeAPIIDMissing, request.CodeAPIIDUnknown, request.CodeHostUnknown, request.CodeUnknownName:
		out := t.withAPIID()
		out = append(out, t.aliasForCNAME()...)
		for _, name := range keys(t.s.APIs) {
			if api := t.s.APIs[name]; api.Gateway == t.web.arrival.Gateway {
				out = append(out, t.byDomains(api)...)
			}
		}
		return out
	case request.CodePublicAccessOff:
		g, ok := object[*model.Gateway](t, t.web.arrival.Gateway.Name)
		if !ok {
			return nil
		}
		on := true
		g.Spec.PublicAccess = &on
		return []change{put("open the public access of Gateway/"+g.Metadata.Name, g,
			answer.PatchOperation{Op: "replace", Path: "/spec/publicAccess", Value: true})}
	}
	return nil
}

// withAPIID proposes the header that names a private API, those first that
// have the Stage which the path names.
func (t *trail) withAPIID() []change {
	e := t.web.arrival.Endpoint
	if e == nil {
		return nil
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/")
	var named, others []change
	for _, name := range keys(t.s.APIs) {
		a := t.s.APIs[name]
		if a.Gateway != e.Gateway || a.Type != model.Private {
			continue
		}
		c := ask(t, "name API/"+a.Name+" in the header "+apiIDHeader, t.url("https", e.Host, t.to.path),
			map[string]string{apiIDHeader: a.ID, "host": ""})
		if a.Stages[first] != nil {
			named = append(named, c)
		} else {
			others = append(others, c)
		}
	}
	if len(named) > 0 {
		return named
	}
	return others
}

// byDomains proposes the Domains that map to a, outside Endpoints.
func (t *trail) byDomains(a *snapshot.API) []change {
	var out []change
	for _, host := range keys(a.Gateway.Hosts) {
		h := a.Gateway.Hosts[host]
		if h.Kind != snapshot.HostDomain || h.Domain.Type == model.Private || strings.HasPrefix(host, "*.") || host == t.to.name {
			continue
		}
		for _, m := range h.Domain.Mappings {
			if m.API == a && m.Stage != nil {
				out = append(out, ask(t, "call it by its Domain "+host+", which resolves to a public address",
					t.url("https", host, t.below(a, m.Path)), map[string]string{apiIDHeader: "", "host": ""}))
				break
			}
		}
	}
	return out
}

// below is the question's path without the Stage, under a mapping's path.
func (t *trail) below(a *snapshot.API, base string) string {
	path := strings.TrimPrefix(t.to.path, "/")
	if first, rest, _ := strings.Cut(path, "/"); a.Stages[first] != nil {
		path = rest
	}
	if base != "" {
		path = base + "/" + path
	}
	return "/" + path
}

// newDomain proposes a Domain of type edge for a public API that has none.
func (t *trail) newDomain(a *snapshot.API) []change {
	first, _, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/")
	if a.Type == model.Private || a.Stages[first] == nil {
		return nil
	}
	host := a.Name + ".api." + t.s.Base
	d := &model.Domain{
		Head: model.Head{Metadata: model.Metadata{Name: host}},
		Spec: model.DomainSpec{Type: model.Edge, Mappings: []model.Mapping{{API: a.Name, Stage: first}}},
	}
	c := put("give API/"+a.Name+" a Domain, which resolves to a public address, and call it by that (any name of yours will do)", d,
		answer.PatchOperation{Op: "add", Path: "", Value: d})
	r := ask(t, "", t.url("https", host, t.below(a, "")), map[string]string{apiIDHeader: "", "host": ""})
	c.ask, c.request = r.ask, r.request
	return []change{c}
}

// aliasForCNAME proposes addresses in place of a CNAME that a private zone
// chases into private DNS.
func (t *trail) aliasForCNAME() []change {
	if len(t.name.Answers) < 2 {
		return nil
	}
	first := t.name.Answers[0]
	if first.Zone == nil || first.Zone.Owner.Kind != model.KindZone {
		return nil
	}
	z, ok := object[*model.Zone](t, first.Zone.Owner.Name)
	if !ok {
		return nil
	}
	g := t.web.arrival.Gateway
	for i, r := range z.Spec.Records {
		full := strings.TrimSuffix(strings.ToLower(r.Name)+"."+strings.ToLower(z.Spec.Domain), ".")
		if r.Name == "" || r.Name == "@" {
			full = strings.ToLower(z.Spec.Domain)
		}
		if !strings.EqualFold(r.Type, "CNAME") || full != first.Name {
			continue
		}
		z.Spec.Records[i] = model.Record{Name: r.Name, Type: "A", TTL: r.TTL, Values: []string{"${Gateway/" + g.Name + ".address}"}}
		return []change{put("make "+first.Name+" an alias of Gateway/"+g.Name+": its addresses in place of the CNAME", z,
			answer.PatchOperation{Op: "replace", Path: "/spec/records/" + itoa(i), Value: z.Spec.Records[i]})}
	}
	return nil
}
