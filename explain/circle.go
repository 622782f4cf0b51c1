// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strconv"
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// configurationError is what the caller sees of a request that leads nowhere.
var configurationError = answer.Symptom{
	Kind: answer.Response, Status: request.ConfigurationError.Status, Body: request.ConfigurationError.Body,
}

// passes is how many Gateways the request says it has passed.
func (t *trail) passes() int {
	n := 0
	for _, h := range t.q.Headers {
		if strings.EqualFold(h.Name, request.FieldLoop) {
			n += request.Passes(h.Value)
		}
	}
	return n
}

// passed stops a request that comes with too many passes already.
func (t *trail) passed(h answer.Hop) {
	h.Outcome, h.Code = answer.Stop, request.CodeBackendNone
	h.Reason = "The request says in " + request.FieldLoop + " that it has passed " + strconv.Itoa(t.passes()) + " Gateways; after " +
		strconv.Itoa(request.MaxPasses) + " none sends it on."
	t.stop(h, configurationError, stop{web: -1})
}

// gatewayAnswers tells what a Gateway makes of what it is sent as a backend. It
// reports false where that never ends.
func (t *trail) gatewayAnswers(h *answer.Hop) bool {
	g := model.Ref{Kind: model.KindGateway, Name: t.gateway().Name}.String()
	h.Reason = strings.TrimSuffix(h.Reason, ".") + ", where " + g + " itself listens"
	first, circle := t.onward()
	switch {
	case circle:
		h.Outcome, h.Code, h.Evidence = answer.Stop, request.CodeBackendNone, ""
		h.Rule = &answer.Rule{Resource: model.Ref{Kind: model.KindAPI, Name: t.web.verdict.API.Name}.String(), Path: "spec.openapi"}
		h.Reason += ", and comes to " + first.Operation().Method + " " + first.Operation().Path + " of API/" + first.API.Name +
			", which sends it on in its turn: it goes round in a circle, which ends after " + strconv.Itoa(request.MaxPasses) +
			" Gateways; let the backend be what is to answer in the end."
		t.stop(*h, configurationError, stop{web: -1})
		return false
	case first != nil && first.Allowed && (first.Status || answersItself(first)):
		by := g
		if first.API != nil {
			by = "API/" + first.API.Name
		}
		h.Reason += "; " + by + " answers it there."
	case first != nil && !first.Allowed && first.Symptom == request.Answered:
		s := &first.Steps()[first.Decided()]
		h.Reason += ", which answers " + strconv.Itoa(first.Response.Status) + " (" + s.Code + " at " + s.Component.String() + "), and that is sent back."
	default:
		h.Reason += "; what it makes of that request is another question."
		t.assume(g + " answers what it is sent as a backend at " + t.leg.url())
	}
	return true
}

// answersItself tells whether a Gateway calls nobody for what a verdict allows.
func answersItself(v *request.Verdict) bool {
	op := v.Operation()
	return op != nil && (op.Integration.Kind == operation.Petstore || op.Integration.Kind == operation.Mock)
}

// onward follows a request that a Gateway is sent as a backend, from one to the
// next as long as each has one place to send it to: what the first makes of it,
// nil where that is not known, and whether it comes to no end.
func (t *trail) onward() (first *request.Verdict, circle bool) {
	v, at := &t.web.verdict, t
	for n := t.passes() + 1; ; n++ {
		a, ok := at.sentOn(v)
		if !ok {
			return first, false
		}
		next := &web{arrival: a}
		v = &next.verdict
		v.Judge(t.s, &next.arrival, false)
		if first == nil {
			first = v
		}
		if !v.Allowed || v.Operation() == nil {
			return first, false
		}
		to, err := v.Destinations(t.s)
		switch {
		case err != nil || len(to) != 1:
			return first, false
		case n >= request.MaxPasses:
			return first, true
		}
		one := &trail{w: t.w, s: t.s, q: t.q, web: next, names: t.names}
		if at = one.dial(&to[0]); len(at.stops) > 0 || at.Verdict != answer.Allow || at.gateway() == nil {
			return first, false
		}
	}
}

// sentOn is the request of a verdict as it comes to the Gateway that the leg
// leads to.
func (t *trail) sentOn(v *request.Verdict) (request.Arrival, bool) {
	path, known := v.Onward()
	c, served := serves(&t.flow.Target, &t.to)
	if !known || !served || c != snapshot.ComponentGateway || misspoken(&t.to) {
		return request.Arrival{}, false
	}
	from, to := t.from, t.to
	from.origin = snapshot.Origin{Gateway: t.leg.gateway.Name}
	if from.net != nil {
		from.origin.Network = from.net.Name
	}
	to.path = path
	a := arrive(&from, &to, &t.flow.Target, t.flow.Query.Dst)
	in := &v.Operation().Integration
	a.Now, a.Method, a.Verify, a.Asked = t.w.Now, in.Method, a.TLS && !t.leg.d.Insecure, a.TLS
	if a.Method == "" {
		a.Method = v.Method
	}
	if in.Kind == operation.HTTPProxy {
		showKeys(&t.q, &a)
		a.Override, _ = header(&t.q, "x-http-method-override")
	}
	return a, true
}
