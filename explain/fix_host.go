// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"slices"
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// proposeOtherName proposes the name or header under which the API is served
// where the caller arrives, or another place where it is.
func proposeOtherName(t *trail, s stop) []change {
	if t.web == nil {
		if t.gateway() != nil {
			return t.otherPort() // the handshake was refused
		}
		return nil
	}
	a, g := t.web.verdict.API, t.web.arrival.Gateway
	switch s.code {
	case request.CodeAPINotPrivate:
		if a == nil {
			return nil
		}
		out := append(t.byOwnName(a), t.byDomains(a)...)
		if len(out) == 0 {
			out = t.newDomain(a)
		}
		return append(out, t.privateDNSOff()...)
	case request.CodeAPIIDMissing, request.CodeAPIIDUnknown, request.CodeHostUnknown, request.CodeUnknownName:
		out := append(t.aliasForCNAME(), t.otherPort()...)
		if a == nil {
			out = append(out, t.byMapping()...)
			out = append(out, t.withAPIID()...)
		}
		for _, name := range keys(t.s.APIs) {
			api := t.s.APIs[name]
			if api.Gateway != g || a != nil && api != a {
				continue
			}
			if a != nil && api.Type == model.Private && t.web.arrival.Endpoint == nil {
				out = append(out, t.byEndpoints(api, t.staged(api))...)
			}
			out = append(out, t.byOwnName(api)...)
			out = append(out, t.byDomains(api)...)
			out = append(out, t.byPublicName(api)...)
		}
		return append(out, t.associate()...)
	case request.CodePublicAccessOff:
		var out []change
		if a != nil {
			out = t.byEndpoints(a, t.staged(a))
			out = append(out, t.ownNameAtEndpoints(a)...)
		}
		out = append(out, t.privateDNSOn(g)...)
		if x, ok := object[*model.Gateway](t, g.Name); ok {
			on := true
			x.Spec.PublicAccess = &on
			out = append(out, put("open the public access of Gateway/"+g.Name, x,
				answer.PatchOperation{Op: "add", Path: "/spec/publicAccess", Value: true}))
		}
		return out
	}
	return nil
}

// staged is the question's path with the Stage that serves it in front.
func (t *trail) staged(a *snapshot.API) string {
	v := &t.web.verdict
	if v.API != a || v.Stage == nil || v.Base == "/"+v.Stage.Name {
		return t.to.path
	}
	return "/" + v.Stage.Name + v.Path
}

// byOwnName proposes the Gateway's own host name, where the API has a path.
func (t *trail) byOwnName(a *snapshot.API) []change {
	g := a.Gateway
	for _, m := range g.Paths {
		if m.API == a && m.Stage != nil && t.to.name != g.Host {
			return []change{ask(t, "call it by the name of Gateway/"+g.Name+", which serves it under /"+m.Path,
				t.url("https", g.Host, t.below(a, m.Path)), map[string]string{apiIDHeader: "", "host": ""})}
		}
	}
	return nil
}

// ownNameAtEndpoints proposes the same through each Endpoint by its own name.
func (t *trail) ownNameAtEndpoints(a *snapshot.API) []change {
	var out []change
	for _, m := range a.Gateway.Paths {
		if m.API != a || m.Stage == nil {
			continue
		}
		for _, e := range a.Gateway.Endpoints {
			out = append(out, ask(t, "call it through Endpoint/"+e.Name+" and send Host: "+a.Gateway.Host,
				t.url("https", e.Host, t.below(a, m.Path)), map[string]string{apiIDHeader: "", "host": a.Gateway.Host}))
		}
	}
	return out
}

// byPublicName proposes a public API's execute-api name to who called the
// Gateway by a name or address that is not served.
func (t *trail) byPublicName(a *snapshot.API) []change {
	name, _, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/")
	if a.Type == model.Private || a.Stages[name] == nil || a.Host == t.to.name || t.web.arrival.Endpoint != nil {
		return nil
	}
	return []change{ask(t, "call API/"+a.Name+" by its own name", t.url("https", a.Host, t.to.path),
		map[string]string{apiIDHeader: "", "host": ""})}
}

// associate proposes that a private Domain lists the Endpoint that the caller
// came through.
func (t *trail) associate() []change {
	d, e := t.web.verdict.Domain, t.web.arrival.Endpoint
	if d == nil || e == nil || d.Type != model.Private || slices.Contains(d.Endpoints, e) {
		return nil
	}
	x, ok := object[*model.Domain](t, d.Name)
	if !ok {
		return nil
	}
	op := answer.PatchOperation{Op: "add", Path: "/spec/endpoints/-", Value: e.Name}
	if len(x.Spec.Endpoints) == 0 {
		op.Path, op.Value = "/spec/endpoints", []string{e.Name}
	}
	x.Spec.Endpoints = append(slices.Clone(x.Spec.Endpoints), e.Name)
	return []change{put("add Endpoint/"+e.Name+" to those of Domain/"+d.Name, x, op)}
}

// withAPIID proposes the header that names a private API, those first that
// have the Stage which the path names.
func (t *trail) withAPIID() []change {
	e := t.web.arrival.Endpoint
	if e == nil {
		return nil
	}
	var out []change
	for _, a := range t.candidates(e) {
		out = append(out, ask(t, "name API/"+a.Name+" in the header "+apiIDHeader, t.url("https", e.Host, t.to.path),
			map[string]string{apiIDHeader: a.ID, "host": ""}))
	}
	return out
}

// byMapping proposes the paths that a Domain, or the Gateway's own name, serves
// in place of one that it does not.
func (t *trail) byMapping() []change {
	h := t.web.verdict.Host
	var ms []snapshot.PathMapping
	switch {
	case h == nil:
	case h.Kind == snapshot.HostDomain:
		ms = h.Domain.Mappings
	case h.Kind == snapshot.HostOwn:
		ms = t.web.arrival.Gateway.Paths
	}
	var out []change
	for _, m := range ms {
		_, rest, more := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/")
		if more {
			rest = "/" + rest
		}
		c := ask(t, "ask below /"+m.Path+", which is served there", t.url(t.to.scheme, t.to.host, "/"+m.Path+rest), nil)
		whole := ask(t, c.summary, t.url(t.to.scheme, t.to.host, "/"+m.Path+t.to.path), nil)
		c.or = &whole
		out = append(out, c)
	}
	return out
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
				out = append(out, ask(t, "call it by its Domain "+host+t.resolvesTo(host),
					t.url("https", host, t.below(a, m.Path)), map[string]string{apiIDHeader: "", "host": ""}))
				break
			}
		}
	}
	return out
}

// resolvesTo says what kind of address a name has for the caller.
func (t *trail) resolvesTo(host string) string {
	_, addrs := lookup(t.s, &t.from, host)
	switch {
	case len(addrs) == 0:
		return ""
	case t.s.Internet.Gateways[addrs[0]] != nil:
		return ", which resolves to a public address"
	}
	return ", which resolves to the private address " + addrs[0].String()
}

// below is the question's path without the Stage, under a mapping's path.
func (t *trail) below(a *snapshot.API, base string) string {
	path := strings.TrimPrefix(t.to.path, "/")
	if w := t.web; w != nil && w.verdict.API == a && w.verdict.Stage != nil {
		path = strings.TrimPrefix(w.verdict.Path, "/")
	} else if first, rest, _ := strings.Cut(path, "/"); a.Stages[first] != nil {
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
	host := a.Name + ".example.com" // any name outside the base domain
	d := &model.Domain{
		Head: model.Head{Metadata: model.Metadata{Name: host}},
		Spec: model.DomainSpec{Type: model.Edge, Mappings: []model.Mapping{{API: a.Name, Stage: first}}},
	}
	resolves := ", which resolves to a public address,"
	for _, i := range a.Gateway.Nodes {
		if i.Network == t.from.net {
			resolves = "" // it is a private one there
		}
	}
	c := create("give API/"+a.Name+" a Domain"+resolves+" and call it by that (any name of yours will do)", d)
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
		z.Spec.Records = slices.Clone(z.Spec.Records)
		z.Spec.Records[i] = model.Record{Name: r.Name, Type: "A", TTL: r.TTL, Values: []string{"${Gateway/" + g.Name + ".address}"}}
		return []change{put("make "+first.Name+" an alias of Gateway/"+g.Name+": its addresses in place of the CNAME", z,
			answer.PatchOperation{Op: "replace", Path: "/spec/records/" + itoa(i), Value: z.Spec.Records[i]})}
	}
	return nil
}
