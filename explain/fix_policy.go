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
)

// proposePolicy proposes the smallest change of the policy that refuses.
func proposePolicy(t *trail, s stop) []change {
	v := &t.web.verdict
	step := &v.Steps()[s.web]
	var out []change
	if step.Component.Kind == model.KindAPI && savedDiffers(v) {
		out = t.deploy(v.API, v.Stage.Name, nil)
	}
	if step.Policy == nil {
		return append(out, t.firstPolicy(step)...)
	}
	r := request.Asked(&t.web.arrival, v, step.Component.Kind == model.KindDomain)
	tr := iam.Explain(step.Policy, &r)
	var target, other *edit
	if tr.Verdict.Decision == iam.ExplicitDeny {
		target = exempt(&tr.Statements[tr.Verdict.Statement])
		other = &edit{what: "take out " + tr.Statements[tr.Verdict.Statement].Path, statement: tr.Verdict.Statement, remove: true}
	} else {
		if tr.Nearest >= 0 {
			target = admit(&tr.Statements[tr.Nearest], &r)
		}
		other = &edit{what: "add a statement that allows " + short(&r), statement: -1, allow: t.allow(&r)}
	}
	for _, e := range []*edit{target, other} {
		if e != nil {
			out = append(out, t.editPolicy(step.Component, e)...)
		}
	}
	return out
}

// firstPolicy proposes a policy for a private API that has none: the caller's
// Endpoint is let in.
func (t *trail) firstPolicy(step *request.Step) []change {
	api, ok := object[*model.API](t, step.Component.Name)
	if !ok || t.web.arrival.Endpoint == nil {
		return nil
	}
	raw, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
			"Condition": map[string]any{"StringEquals": map[string]any{"aws:SourceVpce": t.web.arrival.Endpoint.ID}},
		}},
	})
	if err != nil {
		return nil
	}
	api.Spec.Policy = raw
	return t.redeployed(api, "give API/"+api.Metadata.Name+" a policy that allows calls through Endpoint/"+t.web.arrival.Endpoint.Name,
		answer.PatchOperation{Op: "add", Path: "/spec/policy", Value: raw})
}

// edit is one change of a policy document.
type edit struct {
	what      string
	statement int // index, or -1 for a new one
	remove    bool
	allow     map[string]any
	// A value is added to a condition or an element of the statement.
	operator, key string
	element       string
	value         string
}

// exempt is the edit that takes the caller out of a Deny: its value of a key
// that a negated operator lists.
func exempt(s *iam.StatementTrace) *edit {
	for _, c := range s.Checks {
		if c.Operator == "" || !c.Holds || c.Missing || len(c.Got) != 1 || !strings.Contains(c.Operator, "Not") {
			continue
		}
		return &edit{
			what:      fmt.Sprintf("add %s to %s %s of %s", c.Got[0], c.Operator, c.Key, s.Path),
			statement: s.Index, operator: c.Operator, key: c.Key, value: c.Got[0],
		}
	}
	return nil
}

// admit is the edit that brings the caller into an Allow whose one element
// does not hold.
func admit(s *iam.StatementTrace, r *iam.Request) *edit {
	failed := s.Failed()
	if len(failed) != 1 {
		return nil
	}
	c := failed[0]
	switch {
	case c.Operator != "" && !c.Missing && len(c.Got) == 1 && !strings.Contains(c.Operator, "Not"):
		return &edit{
			what:      fmt.Sprintf("add %s to %s %s of %s", c.Got[0], c.Operator, c.Key, s.Path),
			statement: s.Index, operator: c.Operator, key: c.Key, value: c.Got[0],
		}
	case c.Element == iam.ElementResource:
		short := short(r)
		return &edit{
			what:      "add " + short + " to the resources of " + s.Path,
			statement: s.Index, element: "Resource", value: short,
		}
	}
	return nil
}

// allow is a statement for exactly this operation and way in.
func (t *trail) allow(r *iam.Request) map[string]any {
	s := map[string]any{
		"Effect": "Allow", "Principal": "*", "Action": r.Action, "Resource": short(r),
	}
	if e := t.web.arrival.Endpoint; e != nil {
		s["Condition"] = map[string]any{"StringEquals": map[string]any{"aws:SourceVpce": e.ID}}
	}
	return s
}

// editPolicy applies an edit to the policy of an Endpoint, API or Domain. An
// API's takes effect with its next Deployment, which is part of the change.
func (t *trail) editPolicy(whose model.Ref, e *edit) []change {
	summary := "in the policy of " + whose.String() + ", " + e.what
	switch whose.Kind {
	case model.KindEndpoint:
		if o, ok := object[*model.Endpoint](t, whose.Name); ok && e.apply(&o.Spec.Policy) {
			return []change{put(summary, o, answer.PatchOperation{Op: "replace", Path: "/spec/policy", Value: o.Spec.Policy})}
		}
	case model.KindDomain:
		if o, ok := object[*model.Domain](t, whose.Name); ok && e.apply(&o.Spec.Policy) {
			return []change{put(summary, o, answer.PatchOperation{Op: "replace", Path: "/spec/policy", Value: o.Spec.Policy})}
		}
	case model.KindAPI:
		if o, ok := object[*model.API](t, whose.Name); ok && e.apply(&o.Spec.Policy) {
			return t.redeployed(o, summary, answer.PatchOperation{Op: "replace", Path: "/spec/policy", Value: o.Spec.Policy})
		}
	}
	return nil
}

// apply changes a policy, which is an object or a string that holds one.
func (e *edit) apply(raw *json.RawMessage) bool {
	text := []byte(*raw)
	var s string
	quoted := json.Unmarshal(text, &s) == nil
	if quoted {
		text = []byte(s)
	}
	var doc map[string]any
	if json.Unmarshal(text, &doc) != nil || !e.document(doc) {
		return false
	}
	out, err := json.Marshal(doc)
	if err == nil && quoted {
		out, err = json.Marshal(string(out))
	}
	if err != nil {
		return false
	}
	*raw = out
	return true
}

func (e *edit) document(doc map[string]any) bool {
	list, ok := doc["Statement"].([]any)
	if !ok {
		list = []any{doc["Statement"]}
	}
	switch {
	case e.statement < 0:
		list = append(list, e.allow)
	case e.statement >= len(list):
		return false
	case e.remove:
		list = slices.Delete(list, e.statement, e.statement+1)
	default:
		s, ok := list[e.statement].(map[string]any)
		if !ok || !e.widen(s) {
			return false
		}
	}
	doc["Statement"] = list
	return len(list) > 0
}

// widen adds the value to the condition or element of a statement.
func (e *edit) widen(s map[string]any) bool {
	if e.element != "" {
		s[e.element] = appended(s[e.element], e.value)
		return true
	}
	conditions, _ := s["Condition"].(map[string]any)
	for op, v := range conditions {
		keys, _ := v.(map[string]any)
		if !strings.EqualFold(op, e.operator) {
			continue
		}
		for k := range keys {
			if strings.EqualFold(k, e.key) {
				keys[k] = appended(keys[k], e.value)
				return true
			}
		}
	}
	return false
}

func appended(v any, more string) any {
	switch x := v.(type) {
	case []any:
		return append(x, more)
	case nil:
		return more
	default:
		return []any{x, more}
	}
}

// short is the short form of what a request asks for.
func short(r *iam.Request) string {
	return "execute-api:/" + r.Resource.Stage + "/" + r.Resource.Method + "/" + strings.TrimPrefix(r.Resource.Path, "/")
}
