// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"crypto/x509"
	"net/netip"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// trail is one question traced through a World, with what the proposals need
// to know beyond the wire form.
type trail struct {
	w    *World
	s    *snapshot.Snapshot
	q    answer.Question
	from source
	to   target
	// shown are the certificates that the caller shows.
	shown []*x509.Certificate

	answer.Answer
	stops []stop
	name  name.Verdict
	flow  flow.Verdict
	web   *web

	// leg is set where the trail is what a Gateway dials for the request.
	leg *leg
	// maybe are the stops of those targets of a backend that fail where others
	// do not, so that the answer is unknown.
	maybe []stop
	// live asks the running server of backends; nil for all but the question
	// itself.
	live *live
	// names are those that were looked up, supposed those that were not and are
	// taken to be public.
	names    names
	supposed []string
	// open are the addresses to which the flow is delivered.
	open []netip.Addr
}

// stop is a blocker with what decided it.
type stop struct {
	hop  int // index into Hops
	at   answer.Hop
	code string
	flow *flow.Step
	in   *web // of the HTTP part; nil elsewhere
	web  int  // index of the step in the verdict of in, or -1
	// by is the leg to a backend that the stop is on; nil for the caller's own
	// way.
	by *trail
}

// trace follows the question hop by hop, and asks nothing but the model. It
// answers no fixes.
func trace(w *World, q answer.Question) (*trail, error) { return follow(w, q, nil, nil) }

// follow is trace, asking the running server too, and knowing some names that
// Postern does not hold.
func follow(w *World, q answer.Question, ask *live, known names) (*trail, error) {
	t := &trail{w: w, s: w.Snapshot(), q: q, live: ask, names: known}
	t.Verdict = answer.Allow
	t.Revision = t.s.Revision
	t.Blockers, t.Fixes, t.Assumptions = []answer.Blocker{}, []answer.Fix{}, []string{}
	var err error
	if t.from, err = parseSource(w, q.From); err != nil {
		return nil, err
	}
	if t.to, err = parseTarget(q.URL); err != nil {
		return nil, err
	}
	if err := t.to.tell(q.ConnectTo); err != nil {
		return nil, err
	}
	if t.shown, err = certificates(q.ClientCert); err != nil {
		return nil, err
	}
	if err := t.knowsKey(); err != nil {
		return nil, err
	}
	t.assume(w.Assumed...)
	t.assume(w.Result.Assumptions...)
	t.theCaller()
	if !t.from.broken.IsZero() {
		t.nobody()
		return t, nil
	}
	addrs := t.resolve()
	if t.to.scheme != "dns" && len(addrs) > 0 {
		t.connect(addrs)
	}
	t.conclude()
	return t, nil
}

// nobody ends a question whose caller did not compile.
func (t *trail) nobody() {
	t.stop(answer.Hop{
		Layer: answer.LayerRoute, Component: t.from.broken.String(), Outcome: answer.Stop, Code: flow.RouteNone,
		Reason: t.w.unready(t.from.broken) + ".",
	}, answer.Symptom{Kind: answer.Timeout}, stop{web: -1})
	t.conclude()
}

// conclude sets what sums the answer up.
func (t *trail) conclude() {
	if len(t.stops) > 0 {
		t.Verdict = answer.Deny
		t.DecidedBy = t.stops[0].hop
		if t.name.Code == name.ResolvesPublic && t.name.Owner.Kind != model.KindDomain {
			h := &t.Hops[0]
			t.find(h.Code, h.Component, h.Reason)
		}
	} else {
		for i := range t.Hops {
			if t.Hops[i].Outcome == answer.Pass {
				t.DecidedBy = i
			}
		}
	}
	t.Code = t.Hops[t.DecidedBy].Code
}

// hop adds a hop.
func (t *trail) hop(h answer.Hop) int {
	if h.Evidence == "" {
		h.Evidence = t.w.Evidence
	}
	t.Hops = append(t.Hops, h)
	return len(t.Hops) - 1
}

// stop adds a hop that stops the request. The first one makes the symptom.
func (t *trail) stop(h answer.Hop, sym answer.Symptom, s stop) {
	s.hop, s.at, s.code = t.hop(h), h, h.Code
	if len(t.stops) == 0 {
		t.Symptom = sym
	}
	t.stops = append(t.stops, s)
	t.Blockers = append(t.Blockers, answer.Blocker{Code: h.Code, Component: h.Component, Rule: h.Rule})
}

// find adds a finding.
func (t *trail) find(code, component, message string) {
	for _, f := range t.Findings {
		if f.Code == code && f.Component == component {
			return
		}
	}
	t.Findings = append(t.Findings, answer.Finding{Code: code, Component: component, Message: message})
}

// assume adds what the answer takes for granted.
func (t *trail) assume(sentences ...string) {
	for _, s := range sentences {
		if !has(t.Assumptions, s) {
			t.Assumptions = append(t.Assumptions, s)
		}
	}
}

func wireRule(r *snapshot.Rule) *answer.Rule {
	if r == nil || r.IsZero() {
		return nil
	}
	return &answer.Rule{Resource: r.Resource.String(), Path: r.Path, Name: r.Name}
}

func texts(as []netip.Addr) []string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.String()
	}
	return out
}

func join(as []netip.Addr) string { return strings.Join(texts(as), ", ") }
