// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
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
	if ca := d.Spec.ClientCA; ca != nil {
		pool, err := b.memo.pool(ca.Bundle)
		if err != nil {
			b.failf(d, "BadBundle", "spec.clientCA.bundle: %w", err)
			return
		}
		x.ClientCA = &snapshot.ClientCA{Bundle: ca.Bundle, Pool: pool, Required: ca.Mode == model.ClientRequired}
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
		x.Certificate, x.Key = t.Certificate, t.Key
		if t.Certificate != "" {
			leaf, err := b.memo.leaf(t.Certificate)
			if err != nil {
				b.failf(d, "BadCertificate", "spec.tls.certificate: %w", err)
				return
			}
			x.NotBefore, x.NotAfter = leaf.NotBefore, leaf.NotAfter
		}
		if t.ACME != nil {
			x.ACME = b.acme(d, t.ACME, g)
		}
	}
	if other := g.Hosts[x.Name]; other != nil {
		b.failf(d, "NameInUse", "%s is already a host name of Gateway/%s", x.Name, g.Name)
		return
	}
	snapshot.SortMappings(x.Mappings)
	b.around(d, x)
	h := &snapshot.Host{Kind: snapshot.HostDomain, Name: x.Name, Domain: x}
	g.Hosts[x.Name] = h
	b.domainHosts = append(b.domainHosts, domainHost{g, h})
}

// acme compiles how a certificate is obtained. Challenges that nothing would
// answer are left out, so that the authority is not asked in vain.
func (b *build) acme(d *model.Domain, a *model.DomainACME, g *snapshot.Gateway) *snapshot.ACME {
	x := &snapshot.ACME{
		Directory: a.Directory, Email: a.Email, Roots: a.Roots,
		HTTP01:    slices.Contains(a.Challenges, model.ChallengeHTTP01),
		TLSALPN01: slices.Contains(a.Challenges, model.ChallengeTLSALPN01),
	}
	clear, secured := len(g.PublicPorts[80]) > 0, g.PublicPorts[443].Has(snapshot.ComponentGateway)
	switch http, alpn := x.HTTP01 && clear, x.TLSALPN01 && secured; {
	case http || alpn:
		x.HTTP01, x.TLSALPN01 = http, alpn
	case x.HTTP01 && !x.TLSALPN01 && secured:
		b.advice(d, "ChallengeUnanswered", "spec.tls.acme.challenges: http-01 asks at port 80, which Gateway/"+g.Name+" does not publish; set http: redirect on it, or allow tls-alpn-01")
	default:
		b.advice(d, "ChallengeUnanswered", "spec.tls.acme: Gateway/"+g.Name+" publishes nothing at which the authority could ask; give certificate and key, or remove tls for one of the private CA")
	}
	return x
}

// around advises of names under which what a Domain asks a client certificate
// for answers without one.
func (b *build) around(d *model.Domain, x *snapshot.Domain) {
	if x.ClientCA == nil || !x.ClientCA.Required {
		return
	}
	seen := map[string]bool{}
	for _, m := range x.Mappings {
		if m.Stage == nil || m.Stage.Deployment == nil {
			continue
		}
		names := []string{}
		if !m.Stage.Deployment.DisableExecuteAPIEndpoint {
			names = append(names, m.API.Host)
		}
		for _, p := range m.API.Gateway.Paths {
			if p.Stage == m.Stage {
				names = append(names, m.API.Gateway.Host+"/"+p.Path)
			}
		}
		if len(names) == 0 || seen[m.API.Name] {
			continue
		}
		seen[m.API.Name] = true
		b.advice(d, "WithoutClientCertificate", "spec.clientCA: API/"+m.API.Name+" answers callers without a certificate at "+strings.Join(names, " and ")+
			"; set disableExecuteApiEndpoint: true on the API, leave out its path, and deploy it")
	}
}

// domainHost is a Domain's name at its Gateway.
type domainHost struct {
	gateway *snapshot.Gateway
	host    *snapshot.Host
}
