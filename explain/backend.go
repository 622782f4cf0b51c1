// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strconv"
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/operation"
)

// backend tells what answers the operation.
func (t *trail) backend() {
	v := &t.web.verdict
	in := &v.Operation().Integration
	h := answer.Hop{
		Layer: answer.LayerBackend, Component: model.Ref{Kind: model.KindAPI, Name: v.API.Name}.String(),
		Outcome: answer.Pass, Code: request.CodeBackendOK,
	}
	to, err := v.Destinations(t.s)
	switch {
	case in.Kind == operation.None:
		h.Reason = "The operation has no integration, API/" + v.API.Name + " no backend, and its document no server."
	case err != nil:
		h.Reason = capital(strings.TrimPrefix(err.Error(), request.ErrNoBackend.Error()+": ")) + "."
	case in.Kind == operation.Petstore:
		h.Reason = "The built-in petstore answers."
	case in.Kind == operation.Mock:
		h.Reason = "The operation's MOCK integration answers."
	}
	if err != nil {
		r := request.ConfigurationError
		h.Outcome, h.Code = answer.Stop, request.CodeBackendNone
		h.Rule = &answer.Rule{Resource: h.Component, Path: "spec.openapi"}
		t.stop(h, answer.Symptom{Kind: answer.Response, Status: r.Status, Body: r.Body}, stop{web: -1})
		return
	}
	switch {
	case len(to) > 0 && t.passes() >= request.MaxPasses:
		t.passed(h)
		return
	case len(to) > 0:
		t.send(to)
		return
	}
	t.hop(h)
}

// maxDialled is how many targets of a Backend are followed.
const maxDialled = 8

// send follows what is dialled for a request. A Gateway picks one of the targets
// by weight and does not try another, so that the answer is known only if they
// all are alike.
func (t *trail) send(to []request.Destination) {
	if more := len(to) - maxDialled; more > 0 {
		to = to[:maxDialled]
		t.assume("the other " + strconv.Itoa(more) + " targets are like the first " + strconv.Itoa(maxDialled))
	}
	ask := t.live
	if len(t.stops) > 0 || t.Verdict != answer.Allow {
		ask = nil
	}
	var good, bad, unknown, out []*trail
	var why []string
	for i := range to {
		b := t.dial(&to[i])
		healthy, known, reason := ask.health(t.web.arrival.Gateway, &to[i], b.leg.at)
		if known && !healthy {
			out, why = append(out, b), append(why, strings.TrimSuffix(reason, "."))
			continue
		}
		if b.Verdict == answer.Allow && len(b.stops) == 0 {
			b.sent(ask)
		}
		switch {
		case len(b.stops) > 0:
			bad = append(bad, b)
		case b.Verdict == answer.Unknown:
			unknown = append(unknown, b)
		default:
			good = append(good, b)
		}
	}
	switch {
	case len(out) == len(to):
		t.unhealthy(out, why)
	case len(bad) == 0 && len(unknown) == 0:
		t.absorb(good[0])
		t.others(good[1:])
	case len(bad) == 0:
		t.absorb(unknown[0])
	case len(good) == 0 && len(unknown) == 0:
		alike := true
		for _, b := range bad {
			alike = alike && b.stops[0].code == bad[0].stops[0].code && b.Symptom.Status == bad[0].Symptom.Status
			t.absorb(b)
		}
		if !alike {
			t.assume(unknownPick(bad[0]))
		}
	default:
		t.uncertain(append(good, unknown...)[0], bad)
	}
	if len(out) < len(to) {
		for i, b := range out {
			t.find(request.CodeBackendUnhealthy, b.leg.component, "The target "+b.leg.at+" of "+b.leg.component+" is not picked: "+why[i]+".")
		}
	}
}

// absorb takes over what a leg came to.
func (t *trail) absorb(b *trail) {
	stops := b.stops
	for i, h := range b.Hops {
		if len(stops) > 0 && stops[0].hop == i {
			s := stops[0]
			s.by, stops = b, stops[1:]
			t.stop(h, b.Symptom, s)
			continue
		}
		t.hop(h)
	}
	for _, f := range b.Findings {
		t.find(f.Code, f.Component, f.Message)
	}
	t.assume(b.Assumptions...)
	t.supposed = append(t.supposed, b.supposed...)
	if b.Verdict == answer.Unknown && t.Verdict == answer.Allow {
		t.Verdict, t.Symptom = answer.Unknown, answer.Symptom{}
	}
	t.grants(b)
}

// others tells of the targets that are as good as the one that was followed.
func (t *trail) others(more []*trail) {
	h := &t.Hops[len(t.Hops)-1]
	for _, b := range more {
		h.Out["to"] += ", " + b.leg.url()
		h.Reason = strings.TrimSuffix(h.Reason, ".") + ", or to " + b.leg.url() + "."
		t.assume(b.Assumptions...)
		t.supposed = append(t.supposed, b.supposed...)
	}
}

// uncertain ends with a Backend some of whose targets cannot be reached. Where
// its targets are probed those are taken out; else it hangs on which one is
// picked.
func (t *trail) uncertain(good *trail, bad []*trail) {
	t.absorb(good)
	for _, b := range bad {
		end := ", and the requests that are sent there fail."
		if b.leg.d.Backend.Health != nil {
			end = "; its health probes find that too and take the target out."
		}
		at := b.stops[0].at
		t.find(at.Code, at.Component, "Of the targets of "+b.leg.component+", "+b.leg.at+" cannot be reached: "+strings.TrimSuffix(at.Reason, ".")+end)
		t.grants(b)
		for _, s := range b.stops {
			s.by = b
			t.maybe = append(t.maybe, s)
		}
	}
	if bad[0].leg.d.Backend.Health != nil {
		t.maybe = nil
		t.assume("health probes have taken out the targets of " + bad[0].leg.component + " that cannot be reached")
		return
	}
	if t.Verdict == answer.Allow && len(t.stops) == 0 {
		t.Verdict, t.Symptom = answer.Unknown, answer.Symptom{}
		t.assume(unknownPick(bad[0]))
	}
}

// unknownPick is the assumption of an answer that hangs on the target that is
// picked. Where all fail, but not alike, the answer is of the first.
func unknownPick(b *trail) string {
	return "which target of " + b.leg.component + " is picked is not known"
}

// unhealthy ends with a Backend all of whose targets were taken out. What is in
// the way to the first is told too.
func (t *trail) unhealthy(out []*trail, why []string) {
	c := out[0].leg.component
	t.stop(answer.Hop{
		Layer: answer.LayerBackend, Component: c, Outcome: answer.Stop, Code: request.CodeBackendUnhealthy,
		Rule: &answer.Rule{Resource: c, Path: "spec.health"}, Evidence: evidenceProbe,
		Reason: strings.Join(why, "; ") + "; no target of " + c + " is left: look whether the service runs and answers the probe there.",
	}, answer.Symptom{
		Kind: answer.Response, Status: request.Unavailable.Status, Body: request.Unavailable.Body,
	}, stop{web: -1})
	t.absorb(out[0])
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
