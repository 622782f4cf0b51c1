// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"postern.dev/postern/decide/iam"
	"postern.dev/postern/model"
	compiled "postern.dev/postern/snapshot/iam"
)

// action is what every request asks to do.
const action = "execute-api:Invoke"

// maxARN bounds the name of what is asked for: a policy could not name more.
const maxARN = 1600

// nameable judges whether policies can name what is asked for.
func (j *judge) nameable() bool {
	v := j.v
	const rest = len("arn:aws:execute-api:::///") + len(Account)
	if rest+len(j.g.Region)+len(v.API.ID)+len(j.stage)+len(v.Method)+len(v.Path)-len("/") <= maxARN {
		return true
	}
	v.stop(CodePolicyNoAllow, model.KindAPI, v.API.Name, NoteLongARN)
	return j.refuse(uriTooLong)
}

// endpointPolicy asks the policy of the Endpoint the request came through.
func (j *judge) endpointPolicy() bool {
	if j.e == nil {
		return true
	}
	if j.e.Policy == nil {
		j.v.pass(CodeEndpointAccepted, model.KindEndpoint, j.e.Name)
		return true
	}
	d := iam.Evaluate(j.e.Policy, j.request())
	switch d.Decision {
	case iam.Allow:
		judged(j.v.pass(CodeEndpointAccepted, model.KindEndpoint, j.e.Name), j.e.Policy, d)
		return true
	case iam.ExplicitDeny:
		judged(j.v.stop(CodeEndpointPolicyDeny, model.KindEndpoint, j.e.Name, ""), j.e.Policy, d)
	default:
		judged(j.v.stop(CodeEndpointPolicyNoAllow, model.KindEndpoint, j.e.Name, ""), j.e.Policy, d)
	}
	return j.deny(d)
}

// resourcePolicy asks the policy of the API as deployed.
func (j *judge) resourcePolicy() bool {
	v := j.v
	if v.Deployment == nil {
		return true
	}
	p := v.Deployment.Policy
	if p == nil {
		if v.API.Type != model.Private {
			s := v.pass(CodePolicyAbsent, model.KindAPI, v.API.Name)
			s.Outcome, s.Note = Skip, NoteOpen
			return true
		}
		v.stop(CodePolicyAbsent, model.KindAPI, v.API.Name, NoteNeedsPolicy).Field = "spec.policy"
		return j.deny(iam.Verdict{Statement: -1})
	}
	d := iam.Evaluate(p, j.request())
	return j.policy(model.KindAPI, v.API.Name, p, d) || j.deny(d)
}

// domainPolicy asks the policy of a private Domain, whose refusal tells the
// caller nothing.
func (j *judge) domainPolicy() bool {
	d := j.v.Domain
	if d == nil || d.Policy == nil {
		return true
	}
	r := j.request()
	r.Resource.Domain = d.Resource
	defer func() { r.Resource.Domain = "" }()
	return j.policy(model.KindDomain, d.Name, d.Policy, iam.Evaluate(d.Policy, r)) || j.refuse(Forbidden)
}

// policy notes what a policy decided.
func (j *judge) policy(kind model.Kind, name string, p *compiled.Policy, d iam.Verdict) bool {
	switch d.Decision {
	case iam.Allow:
		judged(j.v.pass(CodePolicyAllow, kind, name), p, d)
		return true
	case iam.ExplicitDeny:
		judged(j.v.stop(CodePolicyDeny, kind, name, ""), p, d)
	default:
		judged(j.v.stop(CodePolicyNoAllow, kind, name, ""), p, d)
	}
	return false
}

func judged(s *Step, p *compiled.Policy, d iam.Verdict) {
	s.Field, s.Policy = "spec.policy", p
	if d.Statement >= 0 {
		s.Statement = &p.Statements[d.Statement]
	}
}

func (j *judge) deny(d iam.Verdict) bool {
	if j.v.Response.Status != 0 {
		return j.every // the answer of the first stop stands
	}
	return j.refuse(denied(j.request(), d.Decision == iam.ExplicitDeny))
}

// request is the request as policies see it. The resource names the path as it
// was asked for, not the operation's template. The API, Stage and path do not
// change any more when it is first asked for.
func (j *judge) request() *iam.Request {
	if j.asked.Action != "" {
		return &j.asked
	}
	a, o, r := j.a, j.a.Origin, &j.asked
	*r = iam.Request{
		Action: action,
		Resource: iam.Resource{
			Region: j.g.Region, Account: Account, API: j.v.API.ID,
			Stage: j.stage, Method: j.v.Method, Path: j.v.Path,
		},
		Context: iam.Context{
			Time: a.Now, Referer: a.Referer, UserAgent: a.UserAgent, SecureTransport: a.TLS,
			SourceNetwork: o.Network, SourceHost: o.Host, SourceLink: o.Link, SourceGateway: o.Gateway,
		},
	}
	c := &r.Context
	if j.v.Domain != nil && a.shown(j.v.Domain) {
		c.ClientCertSubject = a.ClientCert.Subject
	}
	if j.e == nil {
		c.SourceIP = a.Source()
		return r
	}
	c.SourceVpce, c.SourceEndpoint = j.e.ID, j.e.Name
	c.VpcSourceIP = o.Source.Addr().Unmap()
	if j.e.Network != nil {
		c.SourceVpc = j.e.Network.ID
	}
	if d := j.v.Domain; d != nil && d.Type == model.Private {
		c.ViaDomainArn = d.ARN
	}
	return r
}

// Asked returns the request of a judged arrival as policies see it: for the
// policies of the Endpoint and the API, or, if domain is set, of the Domain.
// It needs a verdict that found an API.
func Asked(a *Arrival, v *Verdict, domain bool) iam.Request {
	j := judge{a: a, g: a.Gateway, e: a.Endpoint, v: v}
	if v.Stage != nil {
		j.stage = v.Stage.Name
	}
	r := j.request()
	if domain && v.Domain != nil {
		r.Resource.Domain = v.Domain.Resource
	}
	return *r
}
