// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/explain/render"
)

// show prints the last call: what was sent, what came back, and why.
func (p *player) show() {
	o := &p.stage.Last
	q, a := &o.Question, &o.Answer
	p.gap()
	p.line("  %s", p.in(cyan, fmt.Sprintf("%d. %s", p.calls, q.From)))
	p.field(bold, method(q), q.URL)
	for _, h := range q.Headers {
		p.field("", "", h.Name+": "+h.Value)
	}
	if q.Insecure {
		p.field("", "", "(the certificate is not looked at)")
	}
	seen := o.Seen
	seen.Body = start(seen.Body)
	p.field(bold, "saw", Describe(seen))
	h := a.Hops[a.DecidedBy]
	explained := fmt.Sprintf("%s: %s at %s", told(a.Symptom), a.Code, h.Component)
	if o.Agrees() == nil {
		p.field(green, "explained", explained)
	} else {
		p.field(red, "explained", explained)
	}
	p.field(bold, "why", h.Reason)
	if h.Rule != nil {
		p.field(bold, "rule", render.Rule(h.Rule))
	}
	for i, b := range a.Blockers {
		if i > 0 {
			p.field(bold, "also", fmt.Sprintf("%s at %s", b.Code, b.Component))
		}
	}
	for _, f := range a.Findings {
		p.field(bold, "note", f.Message)
	}
	for i, f := range a.Fixes {
		p.field(bold, []string{"fix", "or"}[min(i, 1)], f.Summary)
	}
}

// start is as much of a body as stands on one line.
func start(body string) string {
	const most = 48
	body = strings.Join(strings.Fields(body), " ")
	if r := []rune(body); len(r) > most {
		return string(r[:most]) + "..."
	}
	return body
}

func method(q *answer.Question) string {
	switch {
	case strings.HasPrefix(q.URL, "dns:"):
		return "look up"
	case q.Method == "":
		return "GET"
	}
	return q.Method
}

// told is what an explanation says that the caller sees.
func told(s answer.Symptom) string {
	if s.Kind == answer.Response && s.Status == 0 {
		return "the backend's response"
	}
	if s.Kind == answer.Response {
		return fmt.Sprintf("response %d", s.Status)
	}
	if s.Kind == answer.Answered {
		return Describe(s)
	}
	return string(s.Kind)
}
