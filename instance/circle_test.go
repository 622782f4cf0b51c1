// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance_test

import (
	"strings"
	"testing"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
)

// TestExplainFollowsWhatAGatewaySendsItself: an API whose backend is itself comes
// to no answer, and who claims to have gone round so often gets none either.
func TestExplainFollowsWhatAGatewaySendsItself(t *testing.T) {
	const self = "{network: corp, protocol: https, targets: [{host: edge.postern.internal, port: 443}]}"
	w := start(t, instance.Options{}, private+
		backend("circle", "edge", "circle/hello", self)+
		backend("there", "edge", "back/hello", self)+
		backend("back", "edge", "there/hello", self)+
		backend("refused", "edge", "nothing/hello", self)+
		backend("public", "open", "public/hello", "{protocol: https, targets: [{host: open.postern.internal, port: 443}]}"))
	c := w.client(internetCaller)
	rounds := strings.TrimSuffix(strings.Repeat("postern, ", 16), ", ")
	for _, x := range []struct{ url, loop, status, code string }{
		{"edge.postern.internal/circle/hello", "", "500", "backend/none"},
		{"edge.postern.internal/there/hello", "", "500", "backend/none"},
		{"open.postern.internal/public/hello", "", "500", "backend/none"},
		{"edge.postern.internal/refused/hello", rounds, "500", "backend/none"},
		{"edge.postern.internal/refused/hello", "", "403", "backend/ok"},
	} {
		q := answer.Question{From: "internet/" + internetCaller, URL: "https://" + x.url}
		var header []string
		if x.loop != "" {
			q.Headers = []answer.Header{{Name: "cdn-loop", Value: x.loop}}
			header = []string{"CDN-Loop", x.loop}
		}
		got, h := w.get(c, q.URL, header...)
		a, err := w.api.Explain(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, x.status) || a.Code != x.code || a.Symptom.Body != "" && !strings.HasSuffix(got, a.Symptom.Body) {
			t.Errorf("%s: %s %s %+v; the caller got %s", x.url, a.Verdict, a.Code, a.Symptom, got)
		}
		if x.loop != "" {
			continue // that is not remembered of a request
		}
		why, err := w.api.Request(t.Context(), h.Get("x-postern-request-id"))
		if err != nil || why.Difference != "" {
			t.Errorf("%s: %q, %v", x.url, why.Difference, err)
		}
	}
}
