// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

func (c *check) domain(d *Domain) {
	s := &d.Spec
	c.oneOf("spec.type", s.Type, Edge, Regional, Private)
	if s.Type == Private && strings.HasPrefix(d.Metadata.Name, "*.") {
		c.fail("metadata.name", "a private Domain cannot be a wildcard; name the host in full")
	}
	if len(s.Mappings) == 0 {
		c.fail("spec.mappings", "is missing; map a path to an API's Stage: [{path: orders, api: orders, stage: prod}]")
	}
	gateway, first := "", ""
	paths := map[string]int{}
	for i, m := range s.Mappings {
		at := fmt.Sprintf("spec.mappings[%d]", i)
		c.required(at+".api", m.API, "name the API")
		c.required(at+".stage", m.Stage, "name the Stage, without its API's name")
		c.path(at+".path", m.Path)
		p := strings.Trim(m.Path, "/")
		if p == "ping" || p == "sping" {
			c.fail(at+".path", "%q is kept for health checks, as on AWS; map another path, or the root, which serves /%s too", m.Path, p)
		}
		if j, ok := paths[p]; ok {
			c.fail(at+".path", "%q is mapped at [%d] already; remove one", p, j)
		} else {
			paths[p] = i
		}
		a, ok := Get[*API](c.s, m.API)
		if !ok {
			continue
		}
		switch {
		case gateway == "":
			gateway, first = a.Spec.Gateway, m.API
		case gateway != a.Spec.Gateway:
			c.fail(at+".api", "API %q is on Gateway %q, but %q is on %q; a Domain's APIs are all of one Gateway", m.API, a.Spec.Gateway, first, gateway)
		}
		if (a.Spec.Type == Private) != (s.Type == Private) && a.Spec.Type != "" && s.Type != "" {
			c.fail(at+".api", "API %q is %s, but the Domain is %s; private APIs are mapped by private Domains, and nothing else is", m.API, a.Spec.Type, s.Type)
		}
	}
	c.domainEndpoints(d, gateway)
	c.policy("spec.policy", s.Policy)
	if len(s.Policy) > 0 && s.Type != Private {
		c.fail("spec.policy", "only a private Domain has one; set type: private or remove it")
	}
	c.domainTLS(d)
}

func (c *check) domainEndpoints(d *Domain, gateway string) {
	s := &d.Spec
	if s.Type == Private && len(s.Endpoints) == 0 {
		c.fail("spec.endpoints", "is missing; a private Domain is reached through the Endpoints it names")
	}
	if s.Type != Private && len(s.Endpoints) > 0 {
		c.fail("spec.endpoints", "only a private Domain has them; set type: private or remove them")
	}
	c.unique("spec.endpoints", s.Endpoints)
	for i, n := range s.Endpoints {
		if e, ok := Get[*Endpoint](c.s, n); ok && gateway != "" && e.Spec.Gateway != gateway {
			c.fail(fmt.Sprintf("spec.endpoints[%d]", i), "Endpoint %q leads to Gateway %q, but the Domain's APIs are on %q", n, e.Spec.Gateway, gateway)
		}
	}
}

func (c *check) domainTLS(d *Domain) {
	if t := d.Spec.TLS; t != nil {
		given := t.Certificate != "" || !t.Key.IsZero()
		switch {
		case given && t.ACME != nil:
			c.fail("spec.tls", "has a certificate and acme; keep one of them")
		case !given && t.ACME == nil:
			c.fail("spec.tls", "is empty; give certificate and key, or acme, or remove it for one of the private CA")
		case given && t.Certificate == "":
			c.fail("spec.tls.certificate", "is missing; give the chain in PEM beside the key")
		case given && t.Key.IsZero():
			c.fail("spec.tls.key", "is missing; give the key in PEM beside the certificate")
		case given:
			if !hasCertificate(t.Certificate) {
				c.fail("spec.tls.certificate", "is no PEM certificate; write it as a block (certificate: |) with its lines from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----")
			}
			// A redacted one is told of where it is looked for.
			if !t.Key.Redacted() && !strings.Contains(t.Key.Reveal(), "PRIVATE KEY-----") {
				c.fail("spec.tls.key", "is no PEM private key; write it as a block (key: |) with its lines from -----BEGIN to -----END, as openssl pkey prints it")
			}
		}
		if t.ACME != nil {
			c.acme(d, t.ACME)
		}
	}
	if ca := d.Spec.ClientCA; ca != nil {
		c.oneOf("spec.clientCA.mode", ca.Mode, ClientOptional, ClientRequired)
		if !hasCertificate(ca.Bundle) {
			c.fail("spec.clientCA.bundle", "is no bundle of PEM certificates; "+writeBundle)
		}
	}
}

// acme judges how a certificate is to be obtained, and whether one can be.
func (c *check) acme(d *Domain, a *DomainACME) {
	const at = "spec.tls.acme"
	switch {
	case strings.HasPrefix(d.Metadata.Name, "*."):
		c.fail(at, "no certificate for a wildcard can be had: neither http-01 nor tls-alpn-01 proves one; give certificate and key, or remove tls for one of the private CA")
	case d.Spec.Type == Private:
		c.fail(at, "no certificate for a private Domain can be had: the authority reaches no Endpoint to prove the name; give certificate and key, or remove tls for one of the private CA")
	}
	u, err := url.Parse(a.Directory)
	if a.Directory != "" && (err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "") {
		c.fail(at+".directory", "%q is no URL of a directory; write one like %s", a.Directory, DefaultACME)
	}
	if a.Email != "" && !emailAddress.MatchString(a.Email) {
		c.fail(at+".email", "%q is no address; write one like ops@example.com", a.Email)
	}
	for i, x := range a.Challenges {
		c.oneOf(fmt.Sprintf("%s.challenges[%d]", at, i), x, ChallengeHTTP01, ChallengeTLSALPN01)
	}
	c.unique(at+".challenges", a.Challenges)
	if a.Roots != "" && !hasCertificate(a.Roots) {
		c.fail(at+".roots", "is no bundle of PEM certificates; "+writeBundle)
	}
}

const writeBundle = "write it as a block (|) with every certificate from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"

// What stands in a mailto URL without being escaped.
var emailAddress = regexp.MustCompile(`^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,255}$`)

func hasCertificate(pem string) bool { return strings.Contains(pem, "-----BEGIN CERTIFICATE-----") }
