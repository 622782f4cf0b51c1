// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/iam"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// web is the HTTP part of a trail.
type web struct {
	arrival request.Arrival
	verdict request.Verdict
}

// request judges what the Gateway does with the request.
func (t *trail) request() {
	t.judged(t.arrival(), 0)
	v := &t.web.verdict
	if v.Redirect {
		t.redirected(v)
		return
	}
	if a := t.meant(); a != nil {
		// What stands behind the missing name is worth knowing too.
		as := t.web.arrival
		as.APIID, as.HasAPIID = a.ID, true
		t.assume("what follows was judged as if the request named API/" + a.Name)
		t.judged(as, len(v.Steps()))
	}
	if len(t.stops) == 0 {
		t.Symptom = answer.Symptom{Kind: answer.Response}
	}
	if t.web.verdict.Operation() != nil {
		t.backend()
	}
}

// meant is the only API that a request at an Endpoint can have meant that names
// none or one that there is not; nil if there are several, or it is plain.
func (t *trail) meant() *snapshot.API {
	v, e := &t.web.verdict, t.web.arrival.Endpoint
	if e == nil || v.API != nil || v.Domain != nil || !stopsAt(v, request.CodeAPIIDMissing) && !stopsAt(v, request.CodeAPIIDUnknown) {
		return nil
	}
	list := t.candidates(e)
	if len(list) != 1 {
		return nil
	}
	return list[0]
}

func stopsAt(v *request.Verdict, code string) bool {
	n := len(v.Steps())
	return n > 0 && v.Steps()[n-1].Code == code
}

// candidates are the private APIs at an Endpoint, those alone that have the
// Stage which the path names if there are such.
func (t *trail) candidates(e *snapshot.Endpoint) []*snapshot.API {
	first, _, _ := strings.Cut(strings.TrimPrefix(t.to.path, "/"), "/")
	var named, others []*snapshot.API
	for _, name := range keys(t.s.APIs) {
		a := t.s.APIs[name]
		switch {
		case a.Gateway != e.Gateway || a.Type != model.Private:
		case a.Stages[first] != nil:
			named = append(named, a)
		default:
			others = append(others, a)
		}
	}
	if len(named) > 0 {
		return named
	}
	return others
}

// judged judges an arrival and adds its steps as hops, but for those that an
// earlier judgement gave.
func (t *trail) judged(a request.Arrival, known int) {
	w := &web{arrival: a}
	t.web = w
	w.verdict = request.Judge(t.s, &w.arrival, true)
	v := &w.verdict
	for i, s := range v.Steps() {
		if i < known {
			continue
		}
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
			t.stop(h, t.refusal(), stop{in: w, web: i})
			if s.Code == request.CodeStageNotDeployed {
				t.undeployable()
			}
			continue
		case request.Finding:
			t.find(s.Code, h.Component, h.Reason)
		}
		t.hop(h)
	}
}

// redirected ends a question that a Gateway sends to https.
func (t *trail) redirected(v *request.Verdict) {
	if len(t.stops) == 0 {
		t.Symptom = answer.Symptom{Kind: answer.Response, Status: v.Response.Status}
	}
	g := model.Ref{Kind: model.KindGateway, Name: t.web.arrival.Gateway.Name}.String()
	t.hop(answer.Hop{
		Layer: answer.LayerHost, Component: g, Outcome: answer.Pass, Code: flow.ListenAccepted,
		Rule: &answer.Rule{Resource: g, Path: "spec.http"}, Out: map[string]string{"location": v.Response.Location},
		Reason: g + " sends callers of port 80 on to " + v.Response.Location + "; no API is asked.",
	})
}

// undeployable adds what stands behind a Stage that has no Deployment because
// the API cannot be deployed.
func (t *trail) undeployable() {
	v := &t.web.verdict
	a, ok := model.Get[*model.API](t.w.Set, v.API.Name)
	if !ok || a.Spec.Type != model.Private || written(a.Spec.Policy) || bytes.Contains(a.Spec.OpenAPI, []byte("x-amazon-apigateway-policy")) {
		return
	}
	ref := model.Ref{Kind: model.KindAPI, Name: v.API.Name}.String()
	t.stop(answer.Hop{
		Layer: answer.LayerPolicy, Component: ref, Outcome: answer.Stop, Code: request.CodePolicyAbsent,
		Rule:   &answer.Rule{Resource: ref, Path: "spec.policy"},
		Reason: ref + " has no resource policy, and a private API without one cannot be deployed.",
	}, t.refusal(), stop{in: t.web, web: -1})
}

// written tells whether a policy is there.
func written(policy []byte) bool {
	t := string(bytes.TrimSpace(policy))
	return t != "" && t != "null" && t != `""`
}

// arrival is the request as it would reach the Gateway.
func (t *trail) arrival() request.Arrival {
	a := arrive(&t.from, &t.to, &t.flow.Target, t.flow.Query.Dst)
	a.Now, a.Method, a.Verify = t.w.Now, method(&t.q), !t.q.Insecure && a.TLS
	if h, ok := header(&t.q, "host"); ok {
		a.Host = h
	}
	a.APIID, a.HasAPIID = header(&t.q, apiIDHeader)
	a.Key, a.HasKey = header(&t.q, "x-api-key")
	a.Override, _ = header(&t.q, "x-http-method-override")
	a.UserAgent, _ = header(&t.q, "user-agent")
	a.Referer, _ = header(&t.q, "referer")
	return a
}

// arrive is a plain GET as it reaches the Gateway at g.
func arrive(from *source, to *target, g *flow.Target, dst netip.Addr) request.Arrival {
	a := request.Arrival{
		TLS: to.scheme == "https", SNI: to.name, Host: to.host, Method: "GET", Path: to.path, Query: to.query,
	}
	o := from.origin
	src := from.flow.Addr
	if g.NAT.IsValid() {
		src = g.NAT
	}
	o.Source, o.Local = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, to.port)
	if g.Kind == flow.ToGateway {
		a.Gateway = g.Gateway
	} else {
		a.Endpoint = g.Interface.Endpoint
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
	if d := t.web.verdict.Deployment; d != nil && d.Number > 0 && s.Component.Kind == model.KindAPI {
		in["deployment"] = strconv.Itoa(d.Number)
	}
	if e := t.web.arrival.Endpoint; e != nil {
		in["aws:SourceVpce"] = e.ID
		in["aws:SourceVpc"] = e.Network.ID
		in["aws:VpcSourceIp"] = t.web.arrival.Origin.Source.Addr().String()
	} else {
		in["aws:SourceIp"] = t.web.arrival.Origin.Source.Addr().String()
	}
	return in
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
		return "The name " + a.Host + " is the Endpoint's own; without the header " + apiIDHeader + " it names no API."
	case request.CodeAPIIDUnknown:
		return t.idUnknown(s, note)
	case request.CodeAPINotPrivate:
		return s.Component.String() + " is not a private API, and execute-api names at an Endpoint serve private APIs only" + note + "."
	case request.CodeStageFound:
		if v.Deployment != nil && v.Deployment.Number > 0 {
			return "The Stage " + v.Stage.Name + " serves Deployment " + strconv.Itoa(v.Deployment.Number) + " of " + s.Component.String() + "."
		}
		return "The Stage " + v.Stage.Name + " serves " + s.Component.String() + " as it is written."
	case request.CodeStageMissing:
		return t.stageMissing(s, note)
	case request.CodeStageNotDeployed:
		text := s.Component.String() + " has no Deployment to serve"
		if why := t.w.unready(s.Component); why != "" {
			text += ": " + why
		}
		return text + "."
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
	switch s.Code {
	case request.CodeKeyMissing:
		return "The operation needs an API key, and the request has no x-api-key."
	case request.CodeKeyUnknown:
		return "The operation needs an API key, and the one in x-api-key was not issued here."
	}
	return s.Component.String() + ": " + s.Code + note + "."
}

// idUnknown says what was meant to name an API and does not.
func (t *trail) idUnknown(s *request.Step, note string) string {
	a := &t.web.arrival
	if s.Note == request.NoteNoPath || s.Note == request.NoteNoMapping || s.Note == request.NotePrivateHost {
		return "Nothing is served under " + a.Host + a.Path + note + "."
	}
	id, _, _ := strings.Cut(a.Host, ".")
	where := "in the host name"
	if a.Endpoint != nil && a.HasAPIID {
		id, where = a.APIID, "in "+apiIDHeader
	}
	text := "No API of Gateway/" + a.Gateway.Name + " has the id " + id + " that the request names " + where + note
	if ref, ok := t.w.withID(id); ok {
		text += "; " + t.w.unready(ref)
	}
	return text + "."
}

func (t *trail) stageMissing(s *request.Step, note string) string {
	api := t.web.verdict.API
	text := "The path names no Stage of API/" + api.Name
	switch {
	case s.Component.Kind == model.KindAPI && s.Field != "":
		text = s.Component.String() + " does not say which Stage is served under " + t.web.arrival.Gateway.Host
	case s.Component.Kind == model.KindDomain:
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
