// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// Explain answers q over w: the hops, every blocker, and the fixes that were
// tried. ${Kind/NAME.id} and the like in the URL and the headers are replaced.
// The answer to a question that cannot be asked is an error. ctx bounds what
// the World's Probe is asked.
func Explain(ctx context.Context, w *World, q answer.Question) (*answer.Answer, error) {
	q, err := expand(w, q)
	if err != nil {
		return nil, err
	}
	t, err := follow(w, q, w.live(ctx), names{})
	if err != nil {
		return nil, err
	}
	t.controlLink()
	if t.Verdict == answer.Deny || len(t.maybe) > 0 {
		t.Fixes = fixes(t)
		t.exposing()
		t.standingIn()
	}
	return &t.Answer, nil
}

// expand replaces references to resources in the question.
func expand(w *World, q answer.Question) (answer.Question, error) {
	var errs model.Errors
	do := func(field, text string) string {
		out, err := model.ExpandString(text, w.Set)
		for _, e := range model.AsErrors(err) {
			e.Op, e.Field = "explain", field
			errs = append(errs, e)
		}
		return out
	}
	q.URL, q.ConnectTo = do("url", q.URL), do("connectTo", q.ConnectTo)
	headers := make([]answer.Header, len(q.Headers))
	for i, h := range q.Headers {
		headers[i] = answer.Header{Name: h.Name, Value: do("headers."+h.Name, h.Value)}
	}
	q.Headers = headers
	if len(errs) > 0 {
		return q, errs
	}
	return q, nil
}
