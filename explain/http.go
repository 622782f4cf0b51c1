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
	if v.Status {
		if len(t.stops) == 0 {
			t.Symptom = answer.Symptom{Kind: answer.Response, Status: v.Response.Status, Body: v.Response.Body}
		}
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
	t.supposeKey(w)
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
		if h.Layer == answer.LayerLimit {
			h.Evidence = t.limitEvidence(&s)
		}
		if h.Layer == answer.LayerPolicy || s.Policy != nil {
			h.In = t.policyInput(&s)
		}
		switch s.Outcome {
		case request.Stop:
			t.stop(h, t.refusal(), stop{in: w, web: i})
			t.noEndpoint(&s)
			switch {
			case s.Code == request.CodeStageNotDeployed:
				t.undeployable()
			case s.Code == request.CodeStageMissing && v.Stage != nil && v.Deployment != nil:
				t.assume("what follows was judged as if the request named the Stage " + v.Stage.Name + " of API/" + v.API.Name)
			}
			continue
		case request.Finding:
			t.find(s.Code, h.Component, h.Reason)
		}
		t.hop(h)
	}
}

// noEndpoint tells of a policy that asks for an Endpoint where the caller came
// to the Gateway's own node: no such condition ever holds there.
func (t *trail) noEndpoint(s *request.Step) {
	a := &t.web.arrival
	if s.Policy == nil || a.Origin.Node == "" {
		return
	}
	r := request.Asked(a, &t.web.verdict, s.Component.Kind == model.KindDomain)
	for _, st := range iam.Explain(s.Policy, &r).Statements {
		for _, c := range st.Checks {
			switch strings.ToLower(c.Key) {
			case "aws:sourcevpce", "aws:sourcevpc", "aws:vpcsourceip", "postern:sourceendpoint":
			default:
				continue
			}
			if !c.Missing {
				continue
			}
			t.find(s.Code, s.Component.String(), "The policy of "+s.Component.String()+" asks for "+c.Key+", which a request has that comes through an Endpoint; Gateway/"+
				a.Gateway.Name+" is injected, and this one came to its own address in Network/"+t.flow.Target.Network.Name+".")
			return
		}
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
	a.Asked = a.TLS
	if h, ok := header(&t.q, "host"); ok {
		a.Host = h
	}
	a.Present(t.shown)
	if d := request.Authority(a.Gateway, a.Endpoint, a.SNI); d != nil && a.TLS && len(t.shown) == 0 && t.q.ClientCertSubject != "" {
		a.ClientCert = &request.ClientCert{Domain: d.Name, Subject: t.q.ClientCertSubject}
		t.assume("the authorities of Domain/" + d.Name + " vouch for the certificate of " + t.q.ClientCertSubject)
	}
	a.APIID, a.HasAPIID = header(&t.q, apiIDHeader)
	t.keys(&a)
	a.Override, _ = header(&t.q, "x-http-method-override")
	a.UserAgent, _ = header(&t.q, "user-agent")
	a.Referer, _ = header(&t.q, "referer")
	for _, h := range t.q.Headers {
		if strings.EqualFold(h.Name, request.FieldForwardedFor) {
			a.ForwardedFor = append(a.ForwardedFor, h.Value)
		}
	}
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
	a.Listens = g.Components
	switch {
	case g.Kind == flow.ToGateway:
		a.Gateway = g.Gateway
	case g.Interface.Endpoint != nil:
		a.Endpoint = g.Interface.Endpoint
		a.Gateway = a.Endpoint.Gateway
		o.Endpoint = a.Endpoint.Name
	default:
		a.Gateway = g.Interface.Gateway
		o.Node = a.Gateway.Name
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
		in["aws:SourceIp"] = t.web.arrival.Source().String()
	}
	return in
}
