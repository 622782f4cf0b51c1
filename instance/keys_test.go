// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance_test

import (
	"net/http"
	"strings"
	"testing"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
	"postern.dev/postern/model"
)

const keyedAPI = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: main}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: main, type: regional, openapi: example:petstore, path: pets, keyRequired: true}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: pets.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: Product
metadata: {name: basic}
spec: {apis: [pets]}
---
apiVersion: postern/v1
kind: Subscription
metadata: {name: checkout}
spec: {product: basic, consumer: the checkout team}
`

// limits gives the Product limits. The rate is so low that no token comes back
// while a test runs.
func limits(spec string) string {
	return `
apiVersion: postern/v1
kind: Product
metadata: {name: basic}
spec: {apis: [pets], ` + spec + `}
`
}

// keyedWorld runs the API above; ask calls it with a key, if it is not empty, and
// returns status and body, after comparing with what why says.
func keyedWorld(t *testing.T) (w *world, ask func(key string) (status, code string)) {
	return keyedWorldIn(t, t.TempDir(), keyedAPI)
}

func keyedWorldIn(t *testing.T, data, manifests string) (w *world, ask func(key string) (status, code string)) {
	t.Helper()
	w = start(t, instance.Options{Data: data}, manifests)
	c := w.client(internetCaller)
	return w, func(key string) (string, string) {
		t.Helper()
		var header []string
		if key != "" {
			header = []string{"x-api-key", key}
		}
		got, h := w.get(c, "https://main.postern.internal/pets/pets", header...)
		status, _, _ := strings.Cut(got, "\n")
		code := w.code(h)
		why, err := w.api.Request(t.Context(), h.Get("x-postern-request-id"))
		if err != nil {
			t.Fatal(err)
		}
		if why.Difference != "" || !strings.HasPrefix(code, "backend/") && why.Answer.Code != code {
			t.Errorf("why says %s of %s: %s", why.Answer.Code, code, why.Difference)
		}
		return status, code
	}
}

func TestAKeyOpensUntilItIsRevoked(t *testing.T) {
	w, ask := keyedWorld(t)
	is := func(key, status, code string) {
		t.Helper()
		if s, c := ask(key); !strings.HasPrefix(s, status) || c != code {
			t.Errorf("%s, %s; want %s, %s", s, c, status, code)
		}
	}
	is("", `403 {"message":"Forbidden"}`, "auth/key-missing")
	is("guessed", `403 {"message":"Forbidden"}`, "auth/key-unknown")
	made, err := w.api.CreateKey(t.Context(), "checkout", wire.NewKey{Comment: "a"})
	if err != nil {
		t.Fatal(err)
	}
	is(made.Value, "200", "backend/ok")
	is(made.Value+"x", `403 {"message":"Forbidden"}`, "auth/key-unknown")
	second, err := w.api.CreateKey(t.Context(), "checkout", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.api.RevokeKey(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	is(made.Value, `403 {"message":"Forbidden"}`, "auth/key-unknown")
	is(second.Value, "200", "backend/ok")
	if err := w.api.Delete(t.Context(), model.Ref{Kind: model.KindSubscription, Name: "checkout"}, 0); err != nil {
		t.Fatal(err)
	}
	is(second.Value, `403 {"message":"Forbidden"}`, "auth/key-unknown")
}

func TestWhatIsUsedUpStaysUsedUpWhenTheConfigurationChanges(t *testing.T) {
	w, ask := keyedWorld(t)
	made, err := w.api.CreateKey(t.Context(), "checkout", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	is := func(status, code string) {
		t.Helper()
		if s, c := ask(made.Value); !strings.HasPrefix(s, status) || c != code {
			t.Errorf("%s, %s; want %s, %s", s, c, status, code)
		}
	}
	w.apply(limits("throttle: {rate: 0.001, burst: 2}, quota: {limit: 4, period: month}"))
	is("200", "backend/ok")
	w.apply(`
apiVersion: postern/v1
kind: Network
metadata: {name: unrelated}
spec: {cidrs: [10.99.0.0/16]}
`)
	is("200", "backend/ok")
	is(`429 {"message":"Too Many Requests"}`, "limit/throttled")
	w.apply(limits("quota: {limit: 4, period: month}"))
	is("200", "backend/ok")
	is("200", "backend/ok")
	is(`429 {"message":"Limit Exceeded"}`, "limit/quota")
	w.apply(limits("quota: {limit: 5, period: month}"))
	is("200", "backend/ok")
	w.apply(limits("quota: {limit: 50, period: month}") + `
---
apiVersion: postern/v1
kind: Stage
metadata: {name: pets.prod}
spec: {autoDeploy: true, throttle: {rate: 0.001, burst: 1}}
`)
	is("200", "backend/ok")
	is(`429 {"message":"Too Many Requests"}`, "limit/throttled")
}

func TestWhatIsUsedUpStaysUsedUpWhenTheServerIsStartedAgain(t *testing.T) {
	data := t.TempDir()
	three := strings.Replace(keyedAPI, "spec: {apis: [pets]}", "spec: {apis: [pets], quota: {limit: 3, period: month}}", 1)
	var value, other string
	t.Run("before", func(t *testing.T) {
		w, ask := keyedWorldIn(t, data, three)
		for _, to := range []*string{&value, &other} {
			made, err := w.api.CreateKey(t.Context(), "checkout", wire.NewKey{})
			if err != nil {
				t.Fatal(err)
			}
			*to = made.Value
		}
		for range 2 {
			if s, c := ask(value); c != "backend/ok" {
				t.Errorf("%s, %s", s, c)
			}
		}
	})
	t.Run("after", func(t *testing.T) {
		_, ask := keyedWorldIn(t, data, three)
		for i, want := range []string{"backend/ok", "limit/quota"} {
			if s, c := ask(value); c != want {
				t.Errorf("request %d: %s, %s", i, s, c)
			}
		}
		for range 3 {
			if s, c := ask(other); c != "backend/ok" {
				t.Errorf("%s, %s", s, c)
			}
		}
	})
}

func TestExplainKnowsWhatIsLeft(t *testing.T) {
	w, ask := keyedWorld(t)
	made, err := w.api.CreateKey(t.Context(), "checkout", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	w.apply(limits("throttle: {rate: 0.001, burst: 3}, quota: {limit: 3, period: month}"))
	ask(made.Value)
	explain := func(q answer.Question) answer.Answer {
		t.Helper()
		q.From, q.URL = "internet", "https://main.postern.internal/pets/pets"
		a, err := w.api.Explain(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	hops := func(a answer.Answer) (out []string) {
		for _, h := range a.Hops {
			if h.Layer == answer.LayerAuth || h.Layer == answer.LayerLimit {
				out = append(out, h.Evidence+" "+h.Reason)
			}
		}
		return out
	}
	shown := answer.Question{Headers: []answer.Header{{Name: "X-Api-Key", Value: made.Value}}}
	for range 2 { // to ask uses nothing up
		a := explain(shown)
		got := hops(a)
		if a.Verdict != answer.Allow || len(got) != 3 ||
			got[0] != "enforced The key in x-api-key is "+made.ID+" of Subscription/checkout (the checkout team), and Product/basic has API/pets." ||
			got[1] != "enforced Product/basic lets each key through 0.001 times a second, 3 at once; after this request, 1 at once are left." ||
			!strings.HasPrefix(got[2], "enforced Product/basic lets each key through 3 times a month; after this request, 1 are left until ") {
			t.Errorf("%s: %q", a.Code, got)
		}
	}
	twice := answer.Question{Headers: append(shown.Headers, answer.Header{Name: "x-api-key", Value: made.Value})}
	if a := explain(twice); a.Code != "auth/key-unknown" || !strings.Contains(hops(a)[0], "more than one x-api-key") || len(a.Fixes) != 1 || !a.Fixes[0].Verified {
		t.Errorf("%s: %q, %+v", a.Code, hops(a), a.Fixes)
	}
	if a := explain(answer.Question{KeyOf: "checkout"}); a.Verdict != answer.Allow || !strings.HasPrefix(strings.Join(hops(a)[1:], ""), "model ") {
		t.Errorf("%s: %q", a.Code, hops(a))
	}
	ask(made.Value)
	ask(made.Value)
	ks, err := w.api.Keys(t.Context())
	if err != nil || len(ks) != 1 || ks[0].Throttle == nil || ks[0].Quota == nil {
		t.Fatalf("%+v, %v", ks, err)
	}
	if th, q := ks[0].Throttle, ks[0].Quota; th.Burst != 3 || th.Left == nil || *th.Left != 0 || q.Limit != 3 || q.Period != "month" || q.Used == nil || *q.Used != 3 || q.Renews.Day() != 1 {
		t.Errorf("%+v, %+v", th, q)
	}
	a := explain(shown)
	if a.Code != "limit/throttled" || a.Symptom.Status != http.StatusTooManyRequests || len(a.Blockers) != 2 || len(a.Fixes) != 2 {
		t.Errorf("%s, %d: %+v, %+v", a.Code, a.Symptom.Status, a.Blockers, a.Fixes)
	}
	if a := explain(answer.Question{}); a.Code != "auth/key-missing" || len(a.Fixes) != 1 || a.Fixes[0].Request.KeyOf != "checkout" {
		t.Errorf("%s: %+v", a.Code, a.Fixes)
	}
	if _, err := w.api.Explain(t.Context(), answer.Question{From: "internet", URL: "https://main.postern.internal/", KeyOf: "nobody"}); err == nil {
		t.Error("a key of nobody's is taken for granted")
	}
}

func TestPlanTellsWhoIsShutOutWhenKeysAreAskedFor(t *testing.T) {
	w := start(t, instance.Options{}, strings.Replace(keyedAPI, ", keyRequired: true", "", 1))
	api, ok := model.Get[*model.API](w.i.Resources(), "pets")
	if !ok {
		t.Fatal("there is no API")
	}
	api = model.Clone(api)
	api.Spec.KeyRequired = true
	p, err := w.api.Plan(t.Context(), []model.Object{api})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Losses) == 0 || len(p.Gains) != 0 {
		t.Errorf("gains %+v, losses %+v", p.Gains, p.Losses)
	}
}
