// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"sort"
	"strings"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// domains compiles Domains and hangs them on their Gateway.
func (b *build) domains() {
	for _, d := range all[*model.Domain](b) {
		b.domain(d)
	}
}

func (b *build) domain(d *model.Domain) {
	x := &snapshot.Domain{Name: strings.ToLower(d.Metadata.Name), ID: d.Status.ID, Type: d.Spec.Type}
	x.Resource = x.Name + "+" + x.ID
	var g *snapshot.Gateway
	for _, m := range d.Spec.Mappings {
		a := b.out.APIs[m.API]
		if a == nil {
			b.absent(d, "spec.mappings", model.KindAPI, m.API)
			return
		}
		if g != nil && g != a.Gateway {
			b.failf(d, "SeveralGateways", "spec.mappings: API/%s is on Gateway/%s, the ones before it on Gateway/%s; a Domain's APIs are all of one Gateway", m.API, a.Gateway.Name, g.Name)
			return
		}
		g = a.Gateway
		x.Mappings = append(x.Mappings, snapshot.PathMapping{
			Path: strings.Trim(m.Path, "/"), API: a, Stage: a.Stages[m.Stage], StageName: m.Stage,
		})
	}
	if g == nil {
		b.failf(d, "NoMappings", "spec.mappings: a Domain needs at least one mapping to tell whose Gateway serves it")
		return
	}
	if d.Spec.ClientCA != nil {
		b.failf(d, "Unsupported", "spec.clientCA: client certificates are not checked by this version; leave it out")
		return
	}
	for _, name := range d.Spec.Endpoints {
		e := b.out.Endpoints[name]
		if e == nil {
			b.absent(d, "spec.endpoints", model.KindEndpoint, name)
			return
		}
		x.Endpoints = append(x.Endpoints, e)
	}
	policy, err := b.memo.policy(d.Spec.Policy, policyScope{region: g.Region})
	if err != nil {
		b.failf(d, "BadPolicy", "spec.policy: %w", err)
		return
	}
	x.Policy = policy
	b.lint(d, policy, compileiam.Use{Private: d.Spec.Type == model.Private, Unauthenticated: true})
	x.ARN = "arn:aws:execute-api:" + g.Region + ":" + Account + ":/domainnames/" + x.Resource
	if t := d.Spec.TLS; t != nil {
		if len(t.ACME) > 0 {
			b.failf(d, "Unsupported", "spec.tls.acme: this version issues no certificates by ACME; give certificate and key, or leave tls out for the private CA")
			return
		}
		x.Certificate, x.Key = t.Certificate, t.Key
	}
	if other := g.Hosts[x.Name]; other != nil {
		b.failf(d, "NameInUse", "%s is already a host name of Gateway/%s", x.Name, g.Name)
		return
	}
	sortMappings(x.Mappings)
	h := &snapshot.Host{Kind: snapshot.HostDomain, Name: x.Name, Domain: x}
	g.Hosts[x.Name] = h
	b.domainHosts = append(b.domainHosts, domainHost{g, h})
}

// domainHost is a Domain's name at its Gateway.
type domainHost struct {
	gateway *snapshot.Gateway
	host    *snapshot.Host
}

// sortMappings puts the paths with the most segments first, so that the first
// that matches is the longest.
func sortMappings(ms []snapshot.PathMapping) {
	sort.SliceStable(ms, func(i, j int) bool {
		a, b := strings.Count(ms[i].Path, "/"), strings.Count(ms[j].Path, "/")
		if ms[i].Path == "" || ms[j].Path == "" {
			return ms[i].Path != ""
		}
		if a != b {
			return a > b
		}
		return ms[i].Path < ms[j].Path
	})
}
