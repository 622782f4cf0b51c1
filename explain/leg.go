// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// leg is what a Gateway dials for a request: one target of a backend.
type leg struct {
	gateway *snapshot.Gateway
	d       *request.Destination
	// at is the target as host:port, component who names it.
	at, component string
	// placed tells whether the Gateway has an address to dial from.
	placed bool
}

// unanswered is what the caller sees of a backend to which no connection comes
// about in time.
func (t *trail) unanswered() answer.Symptom {
	r := request.ConnectTimedOut(request.CallTimeout(&t.web.verdict.Operation().Integration, t.leg.d.Backend))
	return answer.Symptom{Kind: answer.Response, Status: r.Status, Body: r.Body}
}

// unreachable is what the caller sees of a backend that no flow is delivered
// to.
var unreachable = answer.Symptom{
	Kind: answer.Response, Status: request.NetworkError.Status, Body: request.NetworkError.Body,
}

// hop moves a hop of a flow to the layers of backends.
func (l *leg) hop(h *answer.Hop) {
	switch h.Layer {
	case answer.LayerRoute:
		h.Layer = answer.LayerBackendRoute
	case answer.LayerSGOut:
		h.Layer = answer.LayerBackendSGOut
	case answer.LayerSGIn:
		h.Layer = answer.LayerBackendSGIn
	case answer.LayerListen:
		h.Layer = answer.LayerBackend
	}
	h.Code = request.UndeliveredCode(&flow.Verdict{Code: h.Code})
	if h.Component == internet {
		h.Component = l.component
	}
}

// dial follows what the Gateway of the request would open to a target.
func (t *trail) dial(d *request.Destination) *trail {
	g := t.web.arrival.Gateway
	l := &leg{
		gateway: g, d: d, at: net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port))),
		component: model.Ref{Kind: model.KindAPI, Name: t.web.verdict.API.Name}.String(),
	}
	if d.Backend != nil {
		l.component = model.Ref{Kind: model.KindBackend, Name: d.Backend.Name}.String()
	}
	b := &trail{w: t.w, s: t.s, q: t.q, leg: l, web: t.web, live: t.live, names: t.names}
	b.Verdict = answer.Allow
	b.to = target{scheme: "http", port: d.Port, proto: sg.TCP, host: l.at}
	if d.Secure() {
		b.to.scheme = "https"
	}
	if a, err := netip.ParseAddr(d.Host); err == nil {
		b.to.addr = a.Unmap().WithZone("")
	} else {
		b.to.name = name.Canonical(d.Host)
	}
	src, ok := flow.Dials(g, d.Network)
	b.from, l.placed = source{flow: src, name: "gateway/" + g.Name, net: d.Network}, ok
	if !ok {
		b.unplaced()
		return b
	}
	if addrs := b.backendName(); len(addrs) > 0 {
		b.way(addrs)
	}
	return b
}

// unplaced stops where the Gateway has no address in the Network of a Backend.
func (t *trail) unplaced() {
	l := t.leg
	g := model.Ref{Kind: model.KindGateway, Name: l.gateway.Name}.String()
	n := "Network/" + l.d.Network.Name
	t.stop(answer.Hop{
		Layer: answer.LayerBackendRoute, Component: g, Outcome: answer.Stop, Code: flow.RouteNone,
		Rule: &answer.Rule{Resource: l.component, Path: "spec.network"},
		Reason: l.component + " is dialled inside " + n + ", and " + g + " has no address there: it is neither injected into it" +
			" (spec.networkMode and spec.subnet) nor integrated (spec.outbound).",
	}, unreachable, stop{web: -1})
}

// backendName asks for the name of a target as the Gateway does.
func (t *trail) backendName() []netip.Addr {
	l := t.leg
	if t.to.name == "" {
		t.hop(answer.Hop{
			Layer: answer.LayerBackendDNS, Component: l.component, Outcome: answer.Skip, Code: name.Answered,
			Reason: t.to.addr.String() + " is an address; no name is asked for.",
		})
		return []netip.Addr{t.to.addr}
	}
	v, addrs := lookup(t.s, &t.from, t.to.name)
	t.name = v
	h := answer.Hop{
		Layer: answer.LayerBackendDNS, Component: t.view(), Outcome: answer.Pass, Code: v.Code,
		In:     map[string]string{"name": t.to.name, "view": t.view()},
		Reason: nameReason(t.to.name, &v),
	}
	if v.Zone != nil && !v.Zone.Owner.IsZero() {
		h.Component = v.Zone.Owner.String()
	}
	if len(addrs) > 0 {
		h.Code = name.Answered // what it hides is for the callers of a Network to know
		h.Out = map[string]string{"addresses": join(addrs)}
		t.hop(h)
		return addrs
	}
	n := t.from.net
	forwarded, elsewhere := len(v.Forwarders(n)) > 0, n == nil && v.Zone == nil
	if forwarded || elsewhere && !t.from.flow.Confined() {
		if a, ok := t.lookup(l.d); ok {
			return t.looked(h, &a)
		}
	}
	switch {
	case forwarded:
		t.Verdict = answer.Unknown
		t.assume("what " + v.Name + " resolves to is asked of the forwarders of Network/" + n.Name + " and not known here")
		h.Code = name.Answered
		h.Reason = "Postern does not hold " + v.Name + "; the forwarders of Network/" + n.Name + " are asked."
		t.hop(h)
	case elsewhere:
		t.elsewhere(h)
	default:
		if ref, ok := t.w.named(v.Name); ok {
			h.Component = ref.String()
			h.Reason = strings.TrimSuffix(h.Reason, ".") + ": " + t.w.unready(ref) + "."
		}
		h.Outcome = answer.Stop
		t.stop(h, unreachable, stop{web: -1})
	}
	return nil
}

// looked goes on with what the server's look-up of a name came to: the Gateway
// dials those of the addresses that are of its own family, if there are any.
func (t *trail) looked(h answer.Hop, a *answered) []netip.Addr {
	h.Component, h.Code, h.Reason, h.Evidence = t.leg.component, name.Answered, a.reason, evidenceProbe
	if len(a.addrs) == 0 {
		h.Outcome, h.Code = answer.Stop, a.code
		t.stop(h, unreachable, stop{web: -1})
		return nil
	}
	h.Outcome = answer.Pass
	h.Out = map[string]string{"addresses": join(a.addrs)}
	t.hop(h)
	return t.from.flow.OwnFamily(a.addrs)
}

// elsewhere goes on with a name that only the server's own resolver knows, where
// that cannot be asked: it is taken to be public. Whether groups admit a Gateway to it is known only if they
// do so, or do not, for any public address.
func (t *trail) elsewhere(h answer.Hop) {
	l := t.leg
	h.Component, h.Code, h.Outcome = l.component, name.Answered, answer.Skip
	h.Reason = "Postern does not hold " + t.to.name + "; the server's own resolver is asked."
	confined := t.from.flow.Confined()
	if confined {
		h.Reason = "Postern does not hold " + t.to.name + ", and nobody else is asked."
	} else if t.live.looks() {
		h.Outcome, h.Evidence = answer.Pass, evidenceProbe
		h.Reason = "Postern does not hold " + t.to.name + "; the server's own resolver was asked, and no answer came in time."
	}
	t.hop(h)
	n := len(t.Hops)
	t.flow = flow.Judge(t.s, flow.Query{Source: t.from.flow, Proto: t.to.proto, Dst: somewhere, Port: t.to.port}, false)
	switch {
	case !confined && t.live.looks():
		t.Verdict = answer.Unknown
		t.assume("what " + t.to.name + " resolves to is not known")
		return
	case t.flow.Outcome == flow.Deliver:
		t.supposed = append(t.supposed, t.to.name)
		t.assume(t.to.name + " resolves to a public address")
		return
	case !confined:
		t.Verdict = answer.Unknown
		t.assume("what " + t.to.name + " resolves to, and so whether " + t.component(&t.flow.Steps()[t.flow.Decided]) + " lets the Gateway through to it, is not known")
		return
	}
	t.flowHops()
	for i := range t.Hops[n:] {
		h := &t.Hops[n+i]
		h.Reason = strings.ReplaceAll(h.Reason, somewhere.String(), t.to.name)
		if _, ok := h.In["destination"]; ok {
			h.In["destination"] = t.to.name
		}
	}
	for i := range t.stops {
		t.stops[i].at = t.Hops[t.stops[i].hop]
	}
}

// somewhere is a public address that stands for all of them.
var somewhere = netip.AddrFrom4([4]byte{8, 8, 8, 8})

// probe tries the addresses to which a flow is delivered, until a connection
// comes about, as a Gateway does. If none does, it is as with the first.
func (t *trail) probe(ask *live) (code, reason string, seen *request.Response, ok bool) {
	if len(t.stops) > 0 || t.Verdict != answer.Allow {
		return "", "", nil, false
	}
	for i, a := range t.open {
		c, r, s, known := ask.probe(t.leg.gateway, t.leg.d, netip.AddrPortFrom(a, t.to.port))
		switch {
		case !known:
			return "", "", nil, false // one that was not tried may answer
		case i == 0, c == request.CodeBackendOK, c == request.CodeBackendTLS:
			code, reason, seen, ok = c, r, s, true
		}
		if c == request.CodeBackendOK || c == request.CodeBackendTLS {
			break // there is a connection, and no other is opened
		}
	}
	return code, reason, seen, ok
}

// sent adds the hop of a backend that the flow is delivered to, and what is
// known of it: what a probe found, or else that it is taken to answer.
func (t *trail) sent(ask *live) {
	l := t.leg
	h := answer.Hop{
		Layer: answer.LayerBackend, Component: l.component, Outcome: answer.Pass, Code: request.CodeBackendOK,
		Out: map[string]string{"to": l.url()}, Reason: "The request is sent on to " + l.url() + ".",
	}
	code, reason, answered, ok := t.probe(ask)
	if ok && code != request.CodeBackendOK {
		h.Evidence, h.Reason, h.Outcome, h.Code = evidenceProbe, t.lookAt(code, reason), answer.Stop, code
		seen := unreachable
		switch {
		case answered != nil:
			seen = answer.Symptom{Kind: answer.Response, Status: answered.Status, Body: answered.Body}
		case code == request.CodeBackendTimeout:
			seen = t.unanswered()
		}
		t.stop(h, seen, stop{web: -1})
		return
	}
	switch {
	case t.gateway() != nil:
		if !t.gatewayAnswers(&h) {
			return
		}
	case !ok:
		t.assume("the backend at " + l.url() + " answers")
	}
	if ok {
		h.Evidence, h.Reason = evidenceProbe, strings.TrimSuffix(h.Reason, ".")+"; a connection was tried: "+reason
	}
	t.hop(h)
}

// evidenceProbe marks what was tried and not concluded.
const evidenceProbe = "probe"

// lookAt says of a backend that no change of resources makes answer where to
// look.
func (t *trail) lookAt(code, reason string) string {
	if reason == "" {
		reason = t.leg.at + " did not answer."
	}
	where := "; look whether the service runs there and listens on port " + strconv.Itoa(int(t.to.port)) + "."
	switch code {
	case request.CodeBackendTimeout:
		where = "; look whether the machine is up and joined, and whether it has a filter of its own."
	case request.CodeBackendTLS:
		where = "; look at the certificate that the service shows for " + t.leg.d.Host + "."
	}
	return strings.TrimSuffix(reason, ".") + where
}

func (l *leg) url() string { return l.d.Scheme + "://" + l.at }
