// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/decide/flow"
	decide "postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// differ lists in which points an explanation and what happened disagree.
func differ(q answer.Question, a *answer.Answer, o *outcome) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if (len(a.Blockers) > 0) != (a.Verdict == answer.Deny) {
		say("the verdict is %s with %d blockers", a.Verdict, len(a.Blockers))
	}
	if len(a.Blockers) > 0 && a.Blockers[0].Code != a.Code {
		say("the code is %s, the first blocker's %s", a.Code, a.Blockers[0].Code)
	}
	if a.Verdict == answer.Unknown {
		return out // it claims nothing
	}
	s := &a.Symptom
	if o.kind == unreachable {
		// The contract has no word for it; no way leads there.
		if a.Code != "route/none" && a.Code != "dns/nxdomain" {
			say("the caller has no address of that family, explained as %s", a.Code)
		}
		return out
	}
	if s.Kind == answer.Connected && o.kind == answer.Refused && portAssumed(a, o) {
		return out
	}
	if s.Kind != o.kind {
		say("the symptom is %s, explained as %s", o.kind, s.Kind)
		return out
	}
	switch s.Kind {
	case answer.Response:
		if otherTarget(a, o) {
			break
		}
		if s.Status != 0 && s.Status != o.status {
			say("the status is %d, explained as %d", o.status, s.Status)
		}
		if a.Verdict == answer.Deny && s.Status == 0 {
			say("a denial without status")
		}
		if s.Body != "" && s.Body != o.body && q.Method != http.MethodHead {
			say("the body is %q, explained as %q", o.body, s.Body)
		}
		if o.component != "" && o.component != snapshot.ComponentGateway {
			break // it is none of the gateway's requests
		}
		if o.id == "" {
			say("the response carries no x-postern-request-id")
		} else if o.request != a.Code && !nameAssumed(a, o) {
			say("the gateway recorded %s, explained as %s", o.request, a.Code)
		}
	case answer.Timeout, answer.Refused, answer.Connected:
		if o.flow != nil && o.flow.code != a.Code && !carriedNowhere(o) {
			say("the network engine decided %s, explained as %s", o.flow.code, a.Code)
		}
		if o.flow == nil && a.Code != "route/none" && a.Code != "route/link-down" {
			say("the network engine saw nothing, explained as %s", a.Code)
		}
	case answer.Answered:
		if !slices.Equal(slices.Sorted(slices.Values(s.Addresses)), slices.Sorted(slices.Values(o.addrs))) {
			say("the answer is %v, explained as %v", o.addrs, s.Addresses)
		}
	case answer.NXDomain:
		if a.Code != "dns/nxdomain" {
			say("the name does not exist, explained as %s", a.Code)
		}
	case answer.TLS:
		// What listens without TLS is no listener to who speaks it.
		if !strings.HasPrefix(a.Code, "tls/") && a.Code != "listen/refused" {
			say("the handshake failed, explained as %s", a.Code)
		}
	}
	return out
}

// otherTarget tells whether a request came to nothing at another target of its
// backend than the one that the answer begins with: which one is picked is chance,
// so the answer lists what is in the way to each.
func otherTarget(a *answer.Answer, o *outcome) bool {
	targets, first := 0, -1
	for i := range a.Hops {
		if a.Hops[i].Layer == answer.LayerBackendDNS {
			if targets++; first < 0 {
				first = i
			}
		}
	}
	return targets > 1 && a.Verdict == answer.Deny && a.DecidedBy >= first &&
		a.Code != o.request && slices.ContainsFunc(a.Blockers[1:], func(b answer.Blocker) bool { return b.Code == o.request })
}

// nameAssumed tells whether the difference is one that explain could not know:
// it says that it takes for granted that a name which is not Postern's is that of
// a backend, and it is not.
func nameAssumed(a *answer.Answer, o *outcome) bool {
	return a.Code == decide.CodeBackendOK && o.request == decide.CodeNoName &&
		slices.ContainsFunc(a.Assumptions, func(s string) bool { return strings.HasSuffix(s, " resolves to a public address") })
}

// portAssumed tells whether a machine refused a port of which the answer says
// that it takes for granted that something listens there, and the engine let the
// caller through to it.
func portAssumed(a *answer.Answer, o *outcome) bool {
	return o.flow != nil && o.flow.outcome == flow.Deliver &&
		slices.ContainsFunc(a.Assumptions, func(s string) bool { return strings.HasSuffix(s, "; it is assumed") })
}

// carriedNowhere tells whether the engine sent the packet into a Link behind
// which nobody is.
func carriedNowhere(o *outcome) bool { return o.flow.link != "" && o.kind == answer.Timeout }

// result is one question asked both ways.
type result struct {
	q       answer.Question
	answer  answer.Answer
	outcome *outcome
	why     string // the code that postern why gives, "" if it was not asked
	differs []string
}

// errGone marks a question about what the world does not have.
var errGone = errors.New("the question names what is not there")

// askable tells whether all that a question names is there.
func (l *lab) askable(q answer.Question) bool {
	set, s := l.Resources(), l.Snapshot()
	texts := []string{q.URL}
	for _, h := range q.Headers {
		texts = append(texts, h.Value)
	}
	for _, t := range texts {
		if _, err := model.ExpandString(t, set); err != nil {
			return false
		}
	}
	// A Gateway that has moved may have an IPv6 address where there was none.
	if text, err := model.ExpandString(q.URL, set); err == nil {
		if _, err := url.Parse(text); err != nil {
			return false
		}
	}
	if q.KeyOf != "" && (s.Subscriptions[q.KeyOf] == nil || l.keys[q.KeyOf] == "") {
		return false
	}
	kind, rest, _ := strings.Cut(q.From, "/")
	name, _, _ := strings.Cut(rest, "/")
	switch kind {
	case "host":
		return s.Hosts[name] != nil
	case "link":
		return s.Links[name] != nil
	case "gateway":
		return s.Gateways[name] != nil
	}
	return true
}

// ask sends a request, has it explained and compares. Health probes may change the
// state of a backend between the two, so that a question about one is asked again
// where they differ: what comes of it has to settle.
func (l *lab) ask(ctx context.Context, q answer.Question) (*result, error) {
	again := time.NewTicker(settle)
	defer again.Stop()
	for range settleTries {
		r, err := l.askOnce(ctx, q)
		if err != nil || len(r.differs) == 0 || !l.probed(r) {
			return r, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return l.askOnce(ctx, q)
}

// How often, and how many times more, a question about a backend that is probed is
// asked.
const (
	settle      = 600 * time.Millisecond
	settleTries = 5
)

// probed tells whether a question came as far as a backend where health probes
// watch one.
func (l *lab) probed(r *result) bool {
	watched := false
	for _, b := range l.Snapshot().Backends {
		watched = watched || b.Health != nil
	}
	return watched && slices.ContainsFunc(r.answer.Hops, func(h answer.Hop) bool {
		return strings.HasPrefix(string(h.Layer), string(answer.LayerBackend))
	})
}

func (l *lab) askOnce(ctx context.Context, q answer.Question) (*result, error) {
	if !l.askable(q) {
		return nil, errGone
	}
	asked := q
	if q.KeyOf != "" {
		// Whoever has a key shows it, and has it explained.
		q.Headers = slices.DeleteFunc(slices.Clone(q.Headers), func(h answer.Header) bool { return strings.EqualFold(h.Name, "x-api-key") })
		q.Headers = append(q.Headers, answer.Header{Name: "x-api-key", Value: l.keys[q.KeyOf]})
		q.KeyOf = ""
	}
	// The request goes first: it makes Hosts and sites join.
	o, err := l.send(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	a, err := l.explain(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	r := &result{q: asked, answer: a, outcome: o, differs: differ(q, &a, o)}
	if o.request != "" && o.kind == answer.Response {
		w, err := l.client.Request(ctx, o.id)
		if err != nil {
			return nil, fmt.Errorf("why: %w", err)
		}
		r.why = w.Answer.Code
		if r.why != o.request && w.Answer.Verdict != answer.Unknown && !nameAssumed(&w.Answer, o) && !otherTarget(&w.Answer, o) {
			r.differs = append(r.differs, fmt.Sprintf("why says %s (asked as %+v), the gateway recorded %s", r.why, w.Question, o.request))
		}
	}
	return r, nil
}
