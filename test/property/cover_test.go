// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// covered is what the default run has to come across, so that it cannot go blind
// unnoticed: each networking model as it is reached, each component, each kind of
// backend and of what stops one on the way to it.
var covered = []string{
	"model none", "model external", "model external at its node", "model internal", "model internal at its node", "model outbound integration",
	"endpoint answers", "endpoint pending", "endpoint rejected", "public access off",
	"component gateway", "component management on 443", "component management on 3443", "component configuration", "component portal", "component scm",
	"component by address", "from the management plane's address", "from a gateway", "from a link", "from the internet", "from a host",
	"backend answers: its own network", "backend answers: a peer", "backend answers: behind a link", "backend answers: by name", "backend answers: a gateway",
	"backend refused", "backend unhealthy", "backend tls", "backend timeout", "backend name unknown", "backend kept out: route", "backend kept out: sg-out", "backend kept out: sg-in",
	"domain edge", "domain regional", "domain private", "domain wildcard", "domain with several segments", "domain with a given certificate",
	"client certificate shown", "client certificate missing",
	"key opens", "key missing", "key unknown", "limit passed", "limit reached",
	"authorization lets in", "rule revoked", "rule orphaned", "enterprise group granted",
	"http redirect", "http serve", "IPv6", "overlap", "public address chosen",
}

// meets notes what a question that was asked of a world came across.
func (l *lab) meets(q answer.Question, r *result, note func(string)) {
	s, o := l.Snapshot(), r.outcome
	source, _, _ := strings.Cut(q.From, "/")
	for _, h := range r.answer.Hops {
		what := map[string]string{
			"auth/ok": "key opens", "auth/key-missing": "key missing", "auth/key-unknown": "key unknown",
			"limit/ok": "limit passed", "limit/throttled": "limit reached",
		}[h.Code]
		if what != "" && (h.Outcome == answer.Pass || h.Code == r.answer.Code) {
			note(what)
		}
	}
	note(map[string]string{"gateway": "from a gateway", "link": "from a link", "internet": "from the internet", "host": "from a host"}[source])
	if q.From == "internet/"+managementAt {
		note("from the management plane's address")
	}
	if r.answer.Code == "route/overlap" {
		note("overlap")
	}
	reached := o.flow != nil && o.kind != answer.Timeout && o.kind != answer.Refused
	if o.flow != nil {
		l.meetsFlow(o, reached, note)
	}
	if o.component != "" && o.kind == answer.Response {
		name := "component " + string(o.component)
		if o.component == snapshot.ComponentManagement {
			name += map[bool]string{true: " on 3443", false: " on 443"}[strings.Contains(q.URL, ":3443")]
		}
		note(name)
		if strings.Contains(q.URL, ".address}") {
			note("component by address")
		}
	}
	if o.kind == answer.Response && strings.HasPrefix(q.URL, "http:") && o.flow.gateway() != nil {
		note("http " + o.flow.gateway().HTTP)
	}
	if r.answer.Code == "tls/client-cert" {
		note("client certificate missing")
	}
	for i := range r.answer.Hops {
		l.meetsHop(&r.answer.Hops[i], q, note)
	}
	meetsBackend(s, r, note)
}

// meetsFlow notes where a flow led.
func (l *lab) meetsFlow(o *outcome, reached bool, note func(string)) {
	switch o.flow.code {
	case "endpoint/pending":
		note("endpoint pending")
	case "endpoint/rejected":
		note("endpoint rejected")
	}
	g := o.flow.gateway()
	if g == nil || !reached {
		return
	}
	at := o.flow.to.Interface
	switch {
	case at != nil && at.Endpoint != nil:
		note("endpoint answers")
	case o.flow.to.Gateway == nil:
		note("model " + g.Mode + " at its node")
	default:
		note("model " + g.Mode)
	}
	if o.request == "listen/public-access-off" {
		note("public access off")
	}
	if at != nil && at.Addr.Is6() {
		note("IPv6")
	}
	if x, ok := model.Get[*model.Gateway](l.Resources(), g.Name); ok && x.Spec.PublicAddress != "" && o.flow.to.Gateway != nil {
		note("public address chosen")
	}
}

// meetsHop notes what one hop of an answer shows.
func (l *lab) meetsHop(h *answer.Hop, q answer.Question, note func(string)) {
	kind, name, _ := strings.Cut(h.Component, "/")
	switch {
	case kind == string(model.KindDomain) && h.Layer == answer.LayerTLS:
		x, ok := model.Get[*model.Domain](l.Resources(), name)
		if !ok {
			return
		}
		note("domain " + x.Spec.Type)
		if name[0] == '*' {
			note("domain wildcard")
		}
		if x.Spec.TLS != nil {
			note("domain with a given certificate")
		}
		if slices.ContainsFunc(x.Spec.Mappings, func(m model.Mapping) bool { return strings.Contains(m.Path, "/") }) {
			note("domain with several segments")
		}
		if x.Spec.ClientCA != nil && q.ClientCertSubject != "" {
			note("client certificate shown")
		}
	case h.Rule != nil && strings.HasPrefix(h.Rule.Path, "status.grantedRules") && h.Outcome == answer.Pass:
		note("authorization lets in")
		_, group, _ := strings.Cut(h.Rule.Resource, "/")
		if g, ok := model.Get[*model.SecurityGroup](l.Resources(), group); ok && g.Spec.Defaults == model.DefaultsEnterprise {
			note("enterprise group granted")
		}
	}
}

// meetsBackend notes how far a request got on its way to a backend.
func meetsBackend(s *snapshot.Snapshot, r *result, note func(string)) {
	hops := r.answer.Hops
	if len(hops) == 0 || r.outcome.kind != answer.Response || r.answer.Verdict == answer.Unknown {
		return
	}
	last := &hops[len(hops)-1]
	if r.answer.Verdict == answer.Deny {
		last = &hops[r.answer.DecidedBy]
	}
	name, ok := strings.CutPrefix(last.Component, string(model.KindBackend)+"/")
	b := s.Backends[name]
	byName, peer, link, out := false, false, false, false
	for i := range hops {
		switch h := &hops[i]; h.Layer {
		case answer.LayerBackendDNS:
			byName = h.Outcome == answer.Pass
		case answer.LayerBackendRoute:
			peer, link = h.Code == "route/peering", h.Code == "route/link"
		case answer.LayerBackendSGOut:
			out = out || strings.Contains(h.Reason, "-managed")
		}
	}
	switch last.Layer {
	case answer.LayerBackendDNS:
		note("backend name unknown")
	case answer.LayerBackendRoute, answer.LayerBackendSGOut, answer.LayerBackendSGIn:
		note("backend kept out: " + strings.TrimPrefix(string(last.Layer), "backend-"))
	case answer.LayerBackend:
		if last.Outcome == answer.Stop {
			note(strings.Replace(last.Code, "/", " ", 1))
			return
		}
		if !ok || b == nil || b.Network == nil {
			return
		}
		switch {
		case slices.ContainsFunc(b.Targets, func(t snapshot.Target) bool { return t.Port == 443 }):
			note("backend answers: a gateway")
		case byName:
			note("backend answers: by name")
		case peer:
			note("backend answers: a peer")
		case link:
			note("backend answers: behind a link")
		default:
			note("backend answers: its own network")
		}
		if len(b.Targets) > 0 {
			if a, err := netip.ParseAddr(b.Targets[0].Host); err == nil && a.Is6() {
				note("IPv6")
			}
		}
		if out {
			note("model outbound integration")
		}
	}
}

// standing notes what stands in a world when it ends.
func (l *lab) standing(note func(string)) {
	for _, g := range model.All[*model.SecurityGroup](l.Resources()) {
		if slices.ContainsFunc(g.Status.GrantedRules, func(r model.GrantedRule) bool { return r.Orphan }) {
			note("rule orphaned")
		}
	}
	for _, z := range model.All[*model.SecurityGroupAuthorization](l.Resources()) {
		if len(model.Revoked(l.Resources(), z)) > 0 {
			note("rule revoked")
		}
	}
}

// blind fails for what a run has not come across at all.
func (sum *tally) blind(t *testing.T) {
	t.Helper()
	var missing []string
	for _, c := range covered {
		if sum.met[c] == 0 {
			missing = append(missing, c)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(sum.met)) {
		t.Logf("%6d %s", sum.met[c], c)
	}
	if len(missing) > 0 {
		t.Errorf("the run came across none of: %s; draw more of it", strings.Join(missing, ", "))
	}
}
