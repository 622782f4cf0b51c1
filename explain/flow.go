// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/sg"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// internet is the component where no resource stands.
const internet = "internet"

// connect judges the way to the addresses and, behind it, what answers there.
func (t *trail) connect(addrs []netip.Addr) {
	t.way(addrs)
	switch {
	case !t.to.web():
	case len(t.flow.Target.Components) > 0 && t.gateway() != nil:
		t.serve()
	case len(t.stops) == 0:
		t.Verdict = answer.Unknown
		t.assume("what answers at " + t.flow.Query.Dst.String() + " is not Postern's and not known")
	}
}

// way judges the flow to each address and goes on with the first that is
// delivered, as a client does that tries them in turn; else with the first.
func (t *trail) way(addrs []netip.Addr) {
	all := make([]flow.Verdict, len(addrs))
	taken := -1
	for i, a := range addrs {
		all[i] = flow.Judge(t.s, flow.Query{
			Source: t.from.flow, Proto: t.to.proto, Dst: a, Port: t.to.port, LinkDown: t.w.linkDown,
		}, true)
		if all[i].Outcome == flow.Deliver {
			t.open = append(t.open, a)
			if taken < 0 {
				taken = i
			}
		}
	}
	t.flow = all[max(taken, 0)]
	t.flowHops()
	if taken >= 0 {
		for i := range all {
			t.deadEnd(&all[i])
		}
	}
}

// portClear is where a Gateway's connections are in clear; elsewhere they are
// TLS.
const portClear = 80

// language stops a request in clear where TLS is spoken, and the reverse.
func (t *trail) language() {
	if !misspoken(&t.to) {
		return
	}
	h := answer.Hop{Layer: answer.LayerListen, Component: model.Ref{Kind: model.KindGateway, Name: t.gateway().Name}.String(), Outcome: answer.Stop, Code: flow.ListenRefused}
	if e := t.endpoint(); e != nil {
		h.Component = model.Ref{Kind: model.KindEndpoint, Name: e.Name}.String()
	}
	sym := answer.Symptom{Kind: answer.Reset}
	h.Reason = h.Component + " speaks TLS on port " + strconv.Itoa(int(t.to.port)) + ", and the request is in clear."
	if t.to.port == portClear {
		sym.Kind = answer.TLS
		h.Reason = h.Component + " is in clear on port " + strconv.Itoa(int(t.to.port)) + ", and the caller begins with TLS."
	}
	t.stop(h, sym, stop{web: -1})
}

// misspoken tells whether a target speaks TLS where a Gateway does not, or the
// reverse.
func misspoken(to *target) bool { return (to.port == portClear) == (to.scheme == "https") }

// endpoint is the Endpoint that the flow leads to, if any.
func (t *trail) endpoint() *snapshot.Endpoint {
	if i := t.flow.Target.Interface; i != nil {
		return i.Endpoint
	}
	return nil
}

// gateway is the Gateway that the flow leads to, if any.
func (t *trail) gateway() *snapshot.Gateway { return gatewayOf(&t.flow.Target) }

func gatewayOf(at *flow.Target) *snapshot.Gateway {
	if i := at.Interface; i != nil && i.Endpoint != nil {
		return i.Endpoint.Gateway
	} else if i != nil && i.Gateway != nil {
		return i.Gateway
	}
	return at.Gateway
}

// deadEnd tells of an address of the name that leads nowhere, although another
// one does.
func (t *trail) deadEnd(v *flow.Verdict) {
	if v.Outcome == flow.Deliver {
		return
	}
	s := &v.Steps()[v.Decided]
	t.find(s.Code, t.component(s), "Of the addresses of "+t.to.name+", "+v.Query.Dst.String()+" does not answer this caller: "+v.Reason(v.Decided))
}

func (t *trail) component(s *flow.Step) string {
	if s.Component.IsZero() {
		return internet
	}
	return s.Component.String()
}

// flowHops turns the steps of the flow into hops.
func (t *trail) flowHops() {
	v := &t.flow
	for i := range v.Steps() {
		s := &v.Steps()[i]
		h := answer.Hop{
			Layer: answer.Layer(s.Layer), Component: t.component(s), Outcome: answer.Outcome(s.Outcome.String()),
			Code: s.Code, Rule: wireRule(s.Rule), Reason: v.Reason(i),
		}
		if t.leg != nil {
			t.leg.hop(&h)
		}
		switch s.Layer {
		case flow.LayerRoute:
			t.routeFacts(&h, s)
		case flow.LayerSGIn, flow.LayerSGOut:
			t.groupFacts(&h, s)
		}
		if t.leg != nil && s.Layer == flow.LayerListen && s.Outcome != flow.Stop {
			continue // the hop of the backend tells it
		}
		if s.Cause == flow.Assumed && s.Outcome != flow.Stop {
			t.assume(strings.TrimSuffix(h.Reason, "."))
		}
		if s.Outcome != flow.Stop {
			if !s.Overlap.IsZero() {
				t.find(flow.RouteOverlap, h.Component, h.Reason)
			}
			t.hop(h)
			continue
		}
		sym := answer.Symptom{Kind: answer.Timeout}
		switch {
		case t.leg != nil:
			sym = unreachable
		case v.Outcome == flow.Refuse:
			sym.Kind = answer.Refused
		}
		t.stop(h, sym, stop{flow: s, web: -1})
	}
	switch {
	case len(t.stops) > 0 || t.leg != nil:
	case v.Target.Kind == flow.ToEgress:
		t.Verdict = answer.Unknown
	default:
		t.Symptom = answer.Symptom{Kind: answer.Connected}
	}
}

func (t *trail) routeFacts(h *answer.Hop, s *flow.Step) {
	q := &t.flow.Query
	h.In = map[string]string{
		"source": q.Source.Addr.String(), "destination": q.Dst.String(),
		"protocol": q.Proto.String(), "port": strconv.Itoa(int(q.Port)),
	}
	out := map[string]string{}
	if s.Route != nil {
		out["prefix"] = s.Route.Prefix.String()
	}
	if n := t.flow.Target.NAT; n.IsValid() && s.Outcome == flow.Pass {
		out["source"] = n.String()
	}
	if len(out) > 0 {
		h.Out = out
	}
}

func (t *trail) groupFacts(h *answer.Hop, s *flow.Step) {
	if s.Set == nil {
		return
	}
	names := make([]string, len(s.Set.Groups))
	for i, g := range s.Set.Groups {
		names[i] = g.Name
		if why := t.w.unready(g); why != "" && s.Outcome == flow.Stop {
			h.Reason = strings.TrimSuffix(h.Reason, ".") + "; " + why + ", and so it denies everything."
		}
	}
	h.In = map[string]string{
		"remote": s.Remote.String(), "groups": strings.Join(names, ", "),
		"protocol": t.flow.Query.Proto.String(), "port": strconv.Itoa(int(t.flow.Query.Port)),
	}
	if len(names) > 1 {
		t.eachGroup(h, s)
	}
}

// eachGroup tells what every group of several would say by itself.
func (t *trail) eachGroup(h *answer.Hop, s *flow.Step) {
	q := &t.flow.Query
	var open, closed []string
	for _, g := range sg.JudgeEach(s.Set, s.Way, q.Proto, s.Remote, q.Port) {
		h.In[g.Group.String()] = g.Code
		if g.Allowed {
			open = append(open, g.Group.Name)
		} else {
			closed = append(closed, g.Group.Name)
		}
	}
	if s.Outcome != flow.Stop {
		return
	}
	text := strings.Join(closed, ", ") + " would not allow it"
	if len(open) > 0 {
		text = strings.Join(open, ", ") + " would allow it, " + text
	}
	h.Reason = strings.TrimSuffix(h.Reason, ".") + "; each by itself, " + text + "."
}
