// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"encoding/json"
	"testing"
	"time"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
)

func world(t testing.TB, paths ...string) *explain.World {
	t.Helper()
	objects, err := manifest.Load(nil, paths...)
	if err != nil {
		t.Fatal(err)
	}
	w, err := explain.Manifests(objects, "", time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ask(t testing.TB, w *explain.World, q answer.Question) *answer.Answer {
	t.Helper()
	a, err := explain.Explain(w, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func show(t testing.TB, a *answer.Answer) {
	t.Helper()
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
}

func TestSiteReachesThePrivateAPI(t *testing.T) {
	w := world(t, "../examples/private-api")
	a := ask(t, w, answer.Question{
		From: "link/onprem/192.168.50.10", URL: "https://${Endpoint/corp.host}/test/pets",
		Headers: []answer.Header{{Name: "x-apigw-api-id", Value: "${API/petstore.id}"}},
	})
	if a.Verdict != answer.Allow || a.Symptom.Kind != answer.Response || len(a.Blockers) > 0 {
		show(t, a)
	}
	a = ask(t, w, answer.Question{From: "link/onprem/192.168.50.10", URL: "https://${Endpoint/corp.host}/test/pets"})
	show(t, a)
}
