// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"net/netip"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

func world(t testing.TB, paths ...string) *explain.World {
	t.Helper()
	objects, err := manifest.Load(nil, paths...)
	if err != nil {
		t.Fatal(err)
	}
	w, err := explain.Manifests(objects, "", now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// asServer is a World whose Stages serve what is deployed.
func asServer(w *explain.World) *explain.World {
	opts := compile.Options{Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet}, Revision: 7}
	x := &explain.World{Set: w.Set, Result: new(compile.Compiler).Compile(w.Set, opts), Evidence: "enforced", Now: w.Now, LinkUp: w.LinkUp}
	x.Try = func(c model.Change) (*explain.World, error) {
		next, err := w.Try(c)
		if err != nil {
			return nil, err
		}
		return asServer(next), nil
	}
	return x
}

func TestSiteReachesThePrivateAPI(t *testing.T) {
	w := world(t, "../examples/private-api")
	q := answer.Question{
		From: "link/onprem/192.168.50.10", URL: "https://${Endpoint/corp.host}/test/pets",
		Headers: []answer.Header{{Name: "x-apigw-api-id", Value: "${API/petstore.id}"}},
	}
	if a := ask(t, w, q); a.Verdict != answer.Allow || a.Symptom.Kind != answer.Response || len(a.Blockers) > 0 {
		t.Errorf("%+v", a)
	}
	q.Headers = nil
	if a := ask(t, w, q); a.Code != "api/id-missing" || a.Symptom.Status != 403 || len(a.Fixes) == 0 || a.Fixes[0].Request.Headers["x-apigw-api-id"] == "" {
		t.Errorf("%+v", a)
	}
}

func TestQuestionsThatCannotBeAskedAreErrors(t *testing.T) {
	w := world(t, "../examples/private-api")
	for _, q := range []answer.Question{
		{From: "", URL: "https://x/"},
		{From: "host/none", URL: "https://x/"},
		{From: "link/none", URL: "https://x/"},
		{From: "link/onprem/x", URL: "https://x/"},
		{From: "internet/x", URL: "https://x/"},
		{From: "gateway/none", URL: "https://x/"},
		{From: "selfhosted/none", URL: "https://x/"},
		{From: "internet", URL: ""},
		{From: "internet", URL: "ftp://x/"},
		{From: "internet", URL: "https:///x"},
		{From: "internet", URL: "tcp://x"},
		{From: "internet", URL: "https://x:0/"},
		{From: "internet", URL: "https://x:65536/"},
		{From: "internet", URL: "https://me:secret@x/"},
		{From: "internet", URL: "https://${Endpoint/none.host}/"},
		{From: "internet", URL: "https://x/", Headers: []answer.Header{{Name: "a", Value: "${API/none.id}"}}},
	} {
		if _, err := explain.Explain(t.Context(), w, q); len(model.AsErrors(err)) == 0 {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
