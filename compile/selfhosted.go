// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// selfHosted says of each SelfHostedGateway what it will not serve. APIs and
// Domains come before: what is assigned is compiled again by the gateway, which
// finds the same.
func (b *build) selfHosted() {
	for _, g := range all[*model.SelfHostedGateway](b) {
		b.assigned(g)
	}
}

func (b *build) assigned(g *model.SelfHostedGateway) {
	if b.out.Gateways[g.Spec.Gateway] == nil {
		b.absent(g, "spec.gateway", model.KindGateway, g.Spec.Gateway)
		return
	}
	if len(g.Spec.APIs) == 0 {
		b.advice(g, "NothingAssigned", "spec.apis is empty: the gateway answers no API call; name the APIs that it is to serve")
	}
	for i, name := range g.Spec.APIs {
		at := fmt.Sprintf("spec.apis[%d]: API/%s ", i, name)
		switch a := b.out.APIs[name]; {
		case a == nil:
			b.advice(g, "APINotReady", at+"is absent or not ready; look at its conditions")
		case a.Type == model.Private:
			b.advice(g, "PrivateAPI", at+"is private, so Endpoints alone serve it; make it regional, or take it off the list")
		case !deployed(a):
			b.advice(g, "NotDeployed", at+"has no Stage with a Deployment; run: postern deploy "+name)
		}
	}
	var kept []string
	for _, d := range all[*model.Domain](b) {
		if d.Spec.TLS != nil && d.Spec.TLS.ACME != nil && slices.ContainsFunc(d.Spec.Mappings, func(m model.Mapping) bool { return slices.Contains(g.Spec.APIs, m.API) }) {
			kept = append(kept, "Domain/"+d.Metadata.Name)
		}
	}
	if len(kept) > 0 {
		b.advice(g, "CertificateStays", strings.Join(kept, ", ")+": a certificate that is got by acme stays with the managed gateway; give certificate and key for one that is shown here")
	}
}

// deployed tells whether any Stage of a serves.
func deployed(a *snapshot.API) bool {
	for _, s := range a.Stages {
		if s.Deployment != nil {
			return true
		}
	}
	return false
}
