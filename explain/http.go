// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/iam"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/operation"
)

// web is the HTTP part of a trail.
type web struct {
	arrival request.Arrival
	verdict request.Verdict
}

// request judges what the Gateway does with the request.
func (t *trail) request() {
	w := &web{arrival: t.arrival()}
	t.web = w
	w.verdict = request.Judge(t.s, &w.arrival, true)
	v := &w.verdict
	before := len(t.stops)
	for i, s := range v.Steps() {
		h := answer.Hop{
			Layer: answer.Layer(s.Layer()), Component: s.Component.String(), Code: s.Code,
			Outcome: outcome(s.Outcome), Reason: t.webReason(&s),
		}
		if r := s.Rule(); !r.IsZero() {
			h.Rule = wireRule(&r)
		}
		if h.Layer == answer.LayerPolicy || s.Policy != nil {
			h.In = t.policyInput(&s)
		}
		switch s.Outcome {
		case request.Stop:
			t.stop(h, t.refusal(), stop{web: i})
			continue
		case request.Finding:
			t.find(s.Code, h.Component, h.Reason)
		}
		t.hop(h)
	}
	if len(t.stops) > before || !v.Allowed {
		return
	}
	if len(t.stops) == 0 {
		t.Symptom = answer.Symptom{Kind: answer.Response}
	}
	if v.Redirect {
		if len(t.stops) == 0 {
			t.Symptom.Status = v.Response.Status
		}
		return
	}
	t.backend(v)
}

// arrival is the request as it would reach the Gateway.
func (t *trail) arrival() request.Arrival {
	target := &t.flow.Target
	a := request.Arrival{
		TLS: t.to.scheme == "https", SNI: t.to.name, Verify: !t.q.Insecure && t.to.scheme == "https",
		Host: t.to.host, Method: method(&t.q), Path: t.to.path, Query: t.to.query, Now: t.w.Now,
	}
	if h, ok := header(&t.q, "host"); ok {
		a.Host = h
	}
	a.APIID, a.HasAPIID = header(&t.q, "x-apigw-api-id")
	a.Key, a.HasKey = header(&t.q, "x-api-key")
	a.Override, _ = header(&t.q, "x-http-method-override")
	a.UserAgent, _ = header(&t.q, "user-agent")
	a.Referer, _ = header(&t.q, "referer")
	o := t.from.origin
	src := t.flow.Query.Source.Addr
	if target.NAT.IsValid() {
		src = target.NAT
	}
	o.Source = netip.AddrPortFrom(src, 0)
	o.Local = netip.AddrPortFrom(t.flow.Query.Dst, t.flow.Query.Port)
	if target.Kind == flow.ToGateway {
		a.Gateway = target.Gateway
	} else {
		a.Endpoint = target.Interface.Endpoint
		a.Gateway = a.Endpoint.Gateway
		o.Endpoint = a.Endpoint.Name
	}
	a.Origin = &o
	return a
}

// refusal is what the caller sees of the first stop of the request.
func (t *trail) refusal() answer.Symptom {
	v := &t.web.verdict
	if v.Symptom == request.Handshake {
		return answer.Symptom{Kind: answer.TLS}
	}
	return answer.Symptom{Kind: answer.Response, Status: v.Response.Status, Body: v.Response.Body}
}

func outcome(o request.Outcome) answer.Outcome {
	switch o {
	case request.Stop:
		return answer.Stop
	case request.Skip:
		return answer.Skip
	default:
		return answer.Pass
	}
}

// policyInput is what a policy was asked.
func (t *trail) policyInput(s *request.Step) map[string]string {
	if s.Policy == nil || t.web.verdict.API == nil {
		return nil
	}
	r := request.Asked(&t.web.arrival, &t.web.verdict, s.Component.Kind == model.KindDomain)
	in := map[string]string{"principal": "anonymous", "action": r.Action, "resource": r.Resource.ARN()}
	if e := t.web.arrival.Endpoint; e != nil {
		in["aws:SourceVpce"] = e.ID
		in["aws:SourceVpc"] = e.Network.ID
		in["aws:VpcSourceIp"] = t.web.arrival.Origin.Source.Addr().String()
	} else {
		in["aws:SourceIp"] = t.web.arrival.Origin.Source.Addr().String()
	}
	return in
}

// backend tells what answers an allowed request.
func (t *trail) backend(v *request.Verdict) {
	op := v.Operation()
	in := &op.Integration
	h := answer.Hop{
		Layer: answer.LayerBackend, Component: model.Ref{Kind: model.KindAPI, Name: v.API.Name}.String(),
		Outcome: answer.Pass, Code: "backend/ok",
	}
	switch in.Kind {
	case operation.Petstore:
		h.Reason = "The built-in petstore answers."
	case operation.Mock:
		h.Reason = "The operation's MOCK integration answers."
	case operation.None:
		h.Outcome, h.Code = answer.Stop, "backend/none"
		h.Reason = "The operation has no integration, API/" + v.API.Name + " no backend, and its document no server."
		r := request.ConfigurationError
		t.stop(h, answer.Symptom{Kind: answer.Response, Status: r.Status, Body: r.Body}, stop{web: -1})
		return
	default:
		uri := in.URI.Source
		h.Reason = "The request is sent on to " + uri + "."
		h.Out = map[string]string{"uri": uri}
		t.assume("the backend at " + uri + " answers")
	}
	t.hop(h)
}

// webReason is one sentence about a step of the request.
func (t *trail) webReason(s *request.Step) string {
	v, a := &t.web.verdict, &t.web.arrival
	note := ""
	if s.Note != "" {
		note = ": " + s.Note
	}
	switch s.Code {
	case request.CodeTLS:
		return s.Component.String() + " presents a certificate for " + a.SNI + "."
	case request.CodeUnknownName:
		return s.Component.String() + " has no certificate for " + a.SNI + note + "."
	case request.CodePublicAccessOff:
		return s.Component.String() + " answers no callers from outside its Endpoints: its public access is off."
	case request.CodeHostUnknown:
		return s.Component.String() + " serves nothing under " + a.Host + note + "."
	case request.CodeAPIFound:
		return "The request is for " + s.Component.String() + "."
	case request.CodeAPIIDMissing:
		return "The name " + a.Host + " is the Endpoint's own; without the header x-apigw-api-id it names no API."
	case request.CodeAPIIDUnknown:
		return "No API of Gateway/" + a.Gateway.Name + " has the id that the request names" + note + "."
	case request.CodeAPINotPrivate:
		return s.Component.String() + " is not a private API, and execute-api names at an Endpoint serve private APIs only" + note + "."
	case request.CodeStageFound:
		if v.Deployment != nil && v.Deployment.Number > 0 {
			return s.Component.String() + " serves Deployment " + strconv.Itoa(v.Deployment.Number) + "."
		}
		return s.Component.String() + " serves the API."
	case request.CodeStageMissing:
		return t.stageMissing(s, note)
	case request.CodeStageNotDeployed:
		return s.Component.String() + " has no Deployment to serve."
	case request.CodeStageStale:
		if v.Stage != nil {
			return s.Component.String() + " serves the API as it was deployed; since then " + strings.Join(v.Stage.Stale, ", ") + " was changed and not deployed."
		}
	case request.CodeMethodFound:
		if op := v.Operation(); op != nil {
			return v.Method + " " + v.Path + " is served by " + op.Method + " " + op.Path + "."
		}
	case request.CodeMethodUnknown:
		return "The deployed API has no operation for " + v.Method + " " + v.Path + note + "."
	case request.CodePolicyAbsent:
		return s.Component.String() + " has no resource policy" + note + "."
	}
	if s.Policy != nil {
		return t.policyReason(s)
	}
	if s.Code == request.CodeEndpointAccepted {
		return s.Component.String() + " has no policy of its own and lets every call through."
	}
	return s.Component.String() + ": " + s.Code + note + "."
}

func (t *trail) stageMissing(s *request.Step, note string) string {
	api := t.web.verdict.API
	text := "The path names no Stage of API/" + api.Name
	if s.Component.Kind == model.KindDomain {
		text = s.Component.String() + " maps the path to a Stage that API/" + api.Name + " does not have"
	}
	if names := keys(api.Stages); len(names) > 0 {
		text += "; it has " + strings.Join(names, ", ")
	} else {
		text += "; it has none"
	}
	return text + note + "."
}

// policyReason says which statement decided, and by which of its elements.
func (t *trail) policyReason(s *request.Step) string {
	r := request.Asked(&t.web.arrival, &t.web.verdict, s.Component.Kind == model.KindDomain)
	tr := iam.Explain(s.Policy, &r)
	what := "The policy of " + s.Component.String()
	switch {
	case tr.Verdict.Decision == iam.Allow:
		return what + " allows it: " + statement(&tr, tr.Verdict.Statement, false) + "."
	case tr.Verdict.Decision == iam.ExplicitDeny:
		return what + " denies it: " + statement(&tr, tr.Verdict.Statement, false) + "."
	case tr.Nearest >= 0:
		return what + " allows it nowhere; the nearest Allow is " + statement(&tr, tr.Nearest, true) + "."
	}
	return what + " has no Allow."
}

// statement names a statement and the conditions that hold in it, or what
// fails in it.
func statement(tr *iam.Trace, i int, failed bool) string {
	if i < 0 || i >= len(tr.Statements) {
		return "a statement"
	}
	s := &tr.Statements[i]
	text := s.Path
	if s.Sid != "" {
		text += " (" + s.Sid + ")"
	}
	var why []string
	for _, c := range s.Checks {
		if failed && !c.Holds || !failed && c.Operator != "" && c.Holds {
			why = append(why, c.String())
		}
	}
	if len(why) > 0 {
		text += ", because " + strings.Join(why, " and ")
	}
	return text
}
