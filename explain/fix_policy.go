// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/decide/iam"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	compiled "postern.dev/postern/snapshot/iam"
)

// proposePolicy proposes the smallest change of the policy that refuses.
func proposePolicy(t *trail, s stop) []change {
	v := &t.web.verdict
	if s.web < 0 {
		return t.firstPolicy()
	}
	step := &v.Steps()[s.web]
	var out []change
	if step.Component.Kind == model.KindAPI && savedDiffers(v) {
		out = t.deploy(v.API, v.Stage.Name)
	}
	if step.Policy == nil {
		return append(out, t.firstPolicy()...)
	}
	r := request.Asked(&t.web.arrival, v, step.Component.Kind == model.KindDomain)
	tr := iam.Explain(step.Policy, &r)
	var edits []edit
	if tr.Verdict.Decision == iam.ExplicitDeny {
		edits = t.exempt(&tr.Statements[tr.Verdict.Statement])
	} else {
		if tr.Nearest >= 0 {
			edits = t.admit(&tr.Statements[tr.Nearest], &r)
		}
		edits = append(edits, edit{what: "add a statement that allows " + short(&r), statement: -1, allow: t.allow(&r)})
	}
	for i := range edits {
		out = append(out, t.editPolicy(step.Component, &edits[i])...)
	}
	return out
}

// firstPolicy proposes a policy for a private API that has none: the caller's
// Endpoint is let in.
func (t *trail) firstPolicy() []change {
	api, ok := object[*model.API](t, t.web.verdict.API.Name)
	if !ok || t.web.arrival.Endpoint == nil {
		return nil
	}
	raw, err := json.Marshal(map[string]any{
		"Version":   "2012-10-17",
		"Statement": []any{t.throughEndpoint("execute-api:/*")},
	})
	if err != nil {
		return nil
	}
	api.Spec.Policy = raw
	return t.redeployed(api, "give API/"+api.Metadata.Name+" a policy that allows calls through Endpoint/"+t.web.arrival.Endpoint.Name,
		answer.PatchOperation{Op: "add", Path: "/spec/policy", Value: json.RawMessage(raw)})
}

// throughEndpoint is a statement that allows a resource to who comes the way of
// the question.
func (t *trail) throughEndpoint(resource string) map[string]any {
	s := map[string]any{"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource}
	if e := t.web.arrival.Endpoint; e != nil {
		s["Condition"] = map[string]any{"StringEquals": map[string]any{"aws:SourceVpce": "${Endpoint/" + e.Name + ".id}"}}
	}
	return s
}

// allow is a statement for exactly this operation and way in.
func (t *trail) allow(r *iam.Request) map[string]any { return t.throughEndpoint(short(r)) }

// exempt lists the edits that take the caller out of a Deny: its value is added
// to what a negated operator lists, a key that no request has here is replaced,
// or the whole statement goes.
func (t *trail) exempt(s *iam.StatementTrace) []edit {
	var out []edit
	for _, c := range s.Checks {
		if c.Operator == "" || !c.Holds {
			continue
		}
		negated := strings.Contains(c.Operator, "Not")
		switch {
		case c.Missing && negated && strings.EqualFold(c.Key, keySourceIP) && t.web.arrival.Endpoint != nil:
			e := edit{
				what:      fmt.Sprintf("ask %s instead of %s in %s: calls through an Endpoint have no %s", keyVpcSourceIP, c.Key, s.Path, c.Key),
				statement: s.Index, operator: c.Operator, key: c.Key, rename: keyVpcSourceIP,
			}
			more := e
			more.value = t.web.arrival.Origin.Source.Addr().String()
			more.what += ", and add " + more.value
			e.or = &more
			out = append(out, e)
		case !c.Missing && negated && len(c.Got) == 1:
			out = append(out, edit{
				what:      fmt.Sprintf("add %s to %s %s of %s", t.spoken(c.Key, c.Got[0]), c.Operator, c.Key, s.Path),
				statement: s.Index, operator: c.Operator, key: c.Key, value: t.reference(c.Key, c.Got[0]),
			})
		}
	}
	return append(out, edit{what: "take out " + titled(s), statement: s.Index, remove: true})
}

// The keys that are often taken for each other.
const (
	keySourceIP    = "aws:SourceIp"
	keyVpcSourceIP = "aws:VpcSourceIp"
)

// admit lists the edits that bring the caller into an Allow whose one element
// does not hold.
func (t *trail) admit(s *iam.StatementTrace, r *iam.Request) []edit {
	failed := s.Failed()
	if len(failed) != 1 || s.Effect != compiled.Allow {
		return nil
	}
	c := failed[0]
	negated := strings.Contains(c.Operator, "Not")
	switch {
	case c.Operator != "" && c.Missing && !negated && strings.EqualFold(c.Key, keySourceIP) && t.web.arrival.Endpoint != nil:
		e := edit{
			what:      fmt.Sprintf("ask %s instead of %s in %s: calls through an Endpoint have no %s", keyVpcSourceIP, c.Key, s.Path, c.Key),
			statement: s.Index, operator: c.Operator, key: c.Key, rename: keyVpcSourceIP,
		}
		more := e
		more.value = t.web.arrival.Origin.Source.Addr().String()
		more.what += ", and add " + more.value
		e.or = &more
		return []edit{e}
	case c.Operator != "" && !c.Missing && len(c.Got) == 1 && !negated:
		return []edit{{
			what:      fmt.Sprintf("add %s to %s %s of %s", t.spoken(c.Key, c.Got[0]), c.Operator, c.Key, s.Path),
			statement: s.Index, operator: c.Operator, key: c.Key, value: t.reference(c.Key, c.Got[0]),
		}}
	case c.Element == iam.ElementResource:
		return []edit{{
			what:      "add " + short(r) + " to the resources of " + s.Path,
			statement: s.Index, element: "Resource", value: short(r),
		}}
	}
	return nil
}

// reference writes a value so that it outlives a resource's id: as a reference
// to the resource, if it is one's id.
func (t *trail) reference(key, value string) string {
	if e := t.web.arrival.Endpoint; e != nil {
		switch {
		case strings.EqualFold(key, "aws:SourceVpce") && value == e.ID:
			return "${Endpoint/" + e.Name + ".id}"
		case strings.EqualFold(key, "aws:SourceVpc") && e.Network != nil && value == e.Network.ID:
			return "${Network/" + e.Network.Name + ".id}"
		}
	}
	return value
}

// spoken is a value for people: with the resource whose id it is.
func (t *trail) spoken(key, value string) string {
	if r := t.reference(key, value); r != value {
		return value + " (" + strings.TrimSuffix(strings.TrimPrefix(r, "${"), ".id}") + ")"
	}
	return value
}

func titled(s *iam.StatementTrace) string {
	if s.Sid != "" {
		return s.Path + " (" + s.Sid + ")"
	}
	return s.Path
}

// editPolicy applies an edit to the policy of an Endpoint, API or Domain. An
// API's takes effect with its next Deployment, which is part of the change.
func (t *trail) editPolicy(whose model.Ref, e *edit) []change {
	summary := "in the policy of " + whose.String() + ", " + e.what
	var out []change
	switch whose.Kind {
	case model.KindEndpoint:
		if o, ok := object[*model.Endpoint](t, whose.Name); ok {
			if ops := e.apply(&o.Spec.Policy); ops != nil {
				out = []change{put(summary, o, ops...)}
			}
		}
	case model.KindDomain:
		if o, ok := object[*model.Domain](t, whose.Name); ok {
			if ops := e.apply(&o.Spec.Policy); ops != nil {
				out = []change{put(summary, o, ops...)}
			}
		}
	case model.KindAPI:
		if o, ok := object[*model.API](t, whose.Name); ok {
			if ops := e.apply(&o.Spec.Policy); ops != nil {
				out = t.redeployed(o, summary, ops...)
			}
		}
	}
	for i := range out {
		out[i].shifts = e.remove
		if e.or != nil {
			if larger := t.editPolicy(whose, e.or); len(larger) > 0 {
				out[i].or = &larger[0]
			}
		}
	}
	return out
}

// short is the short form of what a request asks for.
func short(r *iam.Request) string {
	if r.Resource.Domain != "" {
		return r.Resource.ARN()
	}
	return "execute-api:/" + r.Resource.Stage + "/" + r.Resource.Method + "/" + strings.TrimPrefix(r.Resource.Path, "/")
}

// has is slices.Contains, for lists of any comparable values.
func has[T comparable](list []T, x T) bool { return slices.Contains(list, x) }
