// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strconv"
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

	answer.Answer
	stops []stop
	name  name.Verdict
	flow  flow.Verdict
	web   *web
}

// stop is a blocker with what decided it.
type stop struct {
	hop  int // index into Hops
	code string
	flow *flow.Step
	web  int // index of the step in web.verdict, or -1
}

// trace follows the question hop by hop. It answers no fixes.
func trace(w *World, q answer.Question) (*trail, error) {
	t := &trail{w: w, s: w.Snapshot(), q: q}
	t.Verdict = answer.Allow
	t.Revision = t.s.Revision
	t.Blockers, t.Fixes, t.Assumptions = []answer.Blocker{}, []answer.Fix{}, []string{}
	var err error
	if t.from, err = parseSource(t.s, q.From); err != nil {
		return nil, err
	}
	if t.to, err = parseTarget(q.URL); err != nil {
		return nil, err
	}
	t.assume(w.Assumed...)
	t.assume(w.Result.Assumptions...)
	addrs := t.resolve()
	if t.to.scheme != "dns" && len(addrs) > 0 {
		t.connect(addrs)
	}
	t.conclude()
	return t, nil
}

// resolve asks for the name in the caller's view and returns where it may be
// connected.
func (t *trail) resolve() []netip.Addr {
	if t.to.name == "" {
		t.hop(answer.Hop{
			Layer: answer.LayerDNS, Component: t.view(), Outcome: answer.Skip, Code: name.Answered,
			Reason: t.to.addr.String() + " is an address; no name is asked for.",
		})
		if t.to.scheme == "dns" {
			t.Symptom = answer.Symptom{Kind: answer.Answered, Addresses: []string{t.to.addr.String()}}
		}
		return []netip.Addr{t.to.addr}
	}
	view := name.View(t.s, t.from.net)
	v := name.Resolve(t.s, view, t.to.name, snapshot.TypeA)
	if len(v.Addrs) == 0 {
		if six := name.Resolve(t.s, view, t.to.name, snapshot.TypeAAAA); len(six.Addrs) > 0 {
			v = six
		}
	}
	t.name = v
	h := answer.Hop{
		Layer: answer.LayerDNS, Component: t.view(), Outcome: answer.Pass, Code: v.Code,
		In:     map[string]string{"name": t.to.name},
		Reason: nameReason(t.to.name, &v),
	}
	if v.Zone != nil && !v.Zone.Owner.IsZero() {
		h.Component = v.Zone.Owner.String()
	}
	if len(v.Addrs) == 0 {
		if v.Forward && t.from.net != nil && t.from.net.InternetGateway && len(t.from.net.Forward) > 0 {
			t.Verdict = answer.Unknown
			t.assume("what " + v.Name + " resolves to is asked of the forwarders of Network/" + t.from.net.Name + " and not known here")
			h.Reason = v.Name + " is not held by Postern; the forwarders of Network/" + t.from.net.Name + " are asked."
			t.hop(h)
			return nil
		}
		h.Outcome = answer.Stop
		t.stop(h, answer.Symptom{Kind: answer.NXDomain}, stop{web: -1})
		return nil
	}
	h.Out = map[string]string{"addresses": join(v.Addrs)}
	if v.Name != t.to.name {
		h.Out["name"] = v.Name
	}
	t.hop(h)
	if v.Code == name.PrivateShadowsPublic {
		t.find(v.Code, h.Component, h.Reason)
	}
	if t.to.scheme == "dns" {
		t.Symptom = answer.Symptom{Kind: answer.Answered, Addresses: texts(v.Addrs)}
	}
	return v.Addrs
}

// view names whose resolver is asked.
func (t *trail) view() string {
	if t.from.net != nil {
		return model.Ref{Kind: model.KindNetwork, Name: t.from.net.Name}.String()
	}
	return "internet"
}

// connect judges the flow to each address and goes on with the first that is
// delivered, as a client does that tries them in turn; else with the first.
func (t *trail) connect(addrs []netip.Addr) {
	for i, a := range addrs {
		v := flow.Judge(t.s, flow.Query{
			Source: t.from.flow, Proto: t.to.proto, Dst: a, Port: t.to.port, LinkDown: t.w.linkDown,
		}, true)
		if i == 0 || v.Outcome == flow.Deliver {
			t.flow = v
		}
		if v.Outcome == flow.Deliver {
			break
		}
	}
	t.flowHops()
	if t.to.web() && t.reachesGateway() {
		t.request()
	} else if t.to.web() && len(t.stops) == 0 {
		t.Verdict = answer.Unknown
		t.assume("what answers at " + t.flow.Query.Dst.String() + " is not Postern's")
	}
}

// flowHops turns the steps of the flow into hops.
func (t *trail) flowHops() {
	v := &t.flow
	for i := range v.Steps() {
		s := &v.Steps()[i]
		h := answer.Hop{
			Layer: answer.Layer(s.Layer), Component: s.Component.String(), Outcome: answer.Outcome(s.Outcome.String()),
			Code: s.Code, Rule: wireRule(s.Rule), Reason: v.Reason(i),
		}
		if s.Component.IsZero() {
			h.Component = "internet"
		}
		switch s.Layer {
		case flow.LayerRoute:
			h.In = map[string]string{
				"source": v.Query.Source.Addr.String(), "destination": v.Query.Dst.String(),
				"protocol": v.Query.Proto.String(), "port": strconv.Itoa(int(v.Query.Port)),
			}
			if v.Target.NAT.IsValid() {
				h.Out = map[string]string{"source": v.Target.NAT.String()}
			}
		case flow.LayerSGIn, flow.LayerSGOut:
			if s.Remote.IsValid() {
				h.In = map[string]string{"remote": s.Remote.String()}
			}
		}
		if s.Cause == flow.Assumed {
			t.assume(strings.TrimSuffix(h.Reason, "."))
		}
		if !s.Overlap.IsZero() {
			t.find(flow.RouteOverlap, h.Component, h.Reason)
		}
		if s.Outcome != flow.Stop {
			t.hop(h)
			continue
		}
		sym := answer.Symptom{Kind: answer.Timeout}
		if v.Outcome == flow.Refuse {
			sym.Kind = answer.Refused
		}
		t.stop(h, sym, stop{flow: s, web: -1})
	}
	if len(t.stops) == 0 && t.Symptom.Kind == "" {
		t.Symptom = answer.Symptom{Kind: answer.Connected}
	}
	if v.Target.Kind == flow.ToEgress && len(t.stops) == 0 {
		t.Verdict = answer.Unknown
	}
}

// reachesGateway tells whether something of a Gateway listens where the flow
// leads, so that the request can be judged even behind a stop.
func (t *trail) reachesGateway() bool {
	g := t.flow.Target
	switch g.Kind {
	case flow.ToGateway:
		return g.Component == snapshot.ComponentGateway || g.Component == snapshot.ComponentRedirect
	case flow.ToInterface:
		return g.Interface.Endpoint != nil && t.to.port == flow.EndpointPort
	}
	return false
}

// conclude sets what sums the answer up.
func (t *trail) conclude() {
	if len(t.stops) > 0 {
		t.Verdict = answer.Deny
		t.DecidedBy = t.stops[0].hop
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
	h.Evidence = t.w.Evidence
	t.Hops = append(t.Hops, h)
	return len(t.Hops) - 1
}

// stop adds a hop that stops the request. The first one makes the symptom.
func (t *trail) stop(h answer.Hop, sym answer.Symptom, s stop) {
	s.hop, s.code = t.hop(h), h.Code
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

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
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
