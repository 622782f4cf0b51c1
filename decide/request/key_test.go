// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/key"
)

// issue makes a key for a Subscription of g, counted by the next meter of s.
func issue(t testing.TB, s *snapshot.Snapshot, g *snapshot.Gateway, to *snapshot.Subscription) string {
	t.Helper()
	secret, _, err := key.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	if g.Keys == nil {
		g.Keys = snapshot.NewKeys(secret)
		secrets[g] = secret
	}
	value, err := key.New()
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := secrets[g].Hash(value)
	x := &snapshot.Key{ID: fmt.Sprintf("key%07d", g.Keys.Len()), Subscription: to, Meter: len(s.Meters)}
	s.Meters = append(s.Meters, "Key/"+x.ID)
	if !g.Keys.Add(sum, x) {
		t.Fatal("the key is there already")
	}
	return value
}

var secrets = map[*snapshot.Gateway]*key.Secret{}

func metersOf(s *snapshot.Snapshot) []*limit.Meter {
	out := make([]*limit.Meter, len(s.Meters))
	for i := range out {
		out[i] = &limit.Meter{}
	}
	return out
}

// keyed is a world whose public API asks for keys. good opens it, other opens
// nothing.
func keyed(t testing.TB) (w *world, good, other string) {
	w = newWorld(t)
	d := *w.pub.Stages["prod"].Deployment
	d.Operations = table(t, `{"openapi":"3.0.1","components":{"securitySchemes":{"k":{"type":"apiKey","name":"x-api-key","in":"header"}}},
		"paths":{"/pets":{"get":{"security":[{"k":[]}],"x-amazon-apigateway-integration":{"type":"mock"}}},"/open":{"get":{"x-amazon-apigateway-integration":{"type":"mock"}}}}}`)
	st := w.pub.Stages["prod"]
	st.Deployment, st.Meter = &d, snapshot.NoMeter
	basic := &snapshot.Product{Name: "basic", APIs: map[*snapshot.API]bool{w.pub: true}}
	private := &snapshot.Product{Name: "private", APIs: map[*snapshot.API]bool{w.priv: true}}
	good = issue(t, w.Snapshot, w.g, &snapshot.Subscription{Name: "shop", Product: basic})
	other = issue(t, w.Snapshot, w.g, &snapshot.Subscription{Name: "orders", Product: private})
	return w, good, other
}

func TestAKeyOpensWhatItsProductHas(t *testing.T) {
	w, good, other := keyed(t)
	f := func(path, key string, has bool, code string, status int) {
		t.Helper()
		a := w.at(nil, "GET", w.pub.Host, "/prod"+path)
		a.Key, a.HasKey = key, has
		v := request.Judge(w.Snapshot, a, false)
		if v.Code() != code || v.Response.Status != status || v.Allowed != (status == 0) {
			t.Errorf("%s with %q: %s, %d", path, key, v.Code(), v.Response.Status)
		}
		if status == 403 && (v.Response.Body != `{"message":"Forbidden"}` || v.Response.ErrorType != "ForbiddenException" || v.Response.Type != request.InvalidAPIKey || v.Subscription != nil) {
			t.Errorf("%+v", v.Response)
		}
	}
	f("/pets", good, true, "auth/ok", 0)
	f("/pets", "", false, "auth/key-missing", 403)
	f("/pets", "", true, "auth/key-unknown", 403)
	f("/pets", good+"x", true, "auth/key-unknown", 403)
	f("/pets", other, true, "auth/key-unknown", 403)
	f("/open", "", false, "method/found", 0)
	f("/open", "wrong", true, "method/found", 0)
	w.g.Keys = nil
	f("/pets", good, true, "auth/key-unknown", 403)
}

func TestSeveralKeysAreNone(t *testing.T) {
	w, good, other := keyed(t)
	for _, shown := range [][]string{{good, good}, {good, other}, {other, good}, {"", good}, {good, ""}, {good, good, good}} {
		a := w.at(nil, "GET", w.pub.Host, "/prod/pets")
		for _, value := range shown {
			a.ShowKey(value)
		}
		v := request.Judge(w.Snapshot, a, false)
		if v.Allowed || v.Code() != "auth/key-unknown" || v.Response.Status != 403 || v.Steps()[v.Decided()].Note != request.NoteRepeatedKey {
			t.Errorf("%d: %s, %+v", len(shown), v.Code(), v.Response)
		}
	}
	a := w.at(nil, "GET", w.pub.Host, "/prod/pets")
	if a.ShowKey(good); !request.Judge(w.Snapshot, a, false).Allowed {
		t.Error("one is not taken")
	}
}

func TestAKeyIsAskedForBehindThePolicy(t *testing.T) {
	w, _, _ := keyed(t)
	d := *w.pub.Stages["prod"].Deployment
	d.Policy = policy(t, denyVpce, pubID)
	w.pub.Stages["prod"].Deployment = &d
	v := request.Judge(w.Snapshot, w.at(nil, "GET", w.pub.Host, "/prod/pets"), true)
	var codes []string
	for _, s := range v.Steps() {
		if s.Outcome == request.Stop {
			codes = append(codes, s.Code)
		}
	}
	if !slices.Equal(codes, []string{"policy/explicit-deny", "auth/key-missing"}) {
		t.Error(codes)
	}
}

// limited is keyed with limits; ask asks n times and returns the codes, each once
// in a row.
func limited(t *testing.T, throttle *snapshot.Throttle, quota *snapshot.Quota, stage *snapshot.Throttle) (ask func(at time.Time, n int) []string) {
	w, good, _ := keyed(t)
	p := w.g.Keys.Find(good).Subscription.Product
	p.Throttle, p.Quota = throttle, quota
	if st := w.pub.Stages["prod"]; stage != nil {
		st.Throttle, st.Meter, st.Qualified = stage, len(w.Meters), "shop.prod"
		w.Meters = append(w.Meters, "Stage/x/prod")
	}
	meters := metersOf(w.Snapshot)
	return func(at time.Time, n int) []string {
		var out []string
		for range n {
			a := w.at(nil, "GET", w.pub.Host, "/prod/pets")
			a.Key, a.HasKey, a.Meters, a.Now = good, true, meters, at
			v := request.Judge(w.Snapshot, a, false)
			what := v.Code()
			if !v.Allowed {
				what += " " + v.Steps()[v.Decided()].Component.String() + fmt.Sprintf(" %d %s %s", v.Response.Status, v.Response.Body, v.Response.ErrorType)
			}
			if len(out) == 0 || out[len(out)-1] != what {
				out = append(out, what)
			}
		}
		return out
	}
}

const (
	tooMany  = ` 429 {"message":"Too Many Requests"} TooManyRequestsException`
	exceeded = ` 429 {"message":"Limit Exceeded"} LimitExceededException`
)

func TestLimitsRefuseInTheOrderOfAWS(t *testing.T) {
	second := func(rate float64, burst int) *snapshot.Throttle {
		return &snapshot.Throttle{Rate: rate, Burst: burst, Interval: (&model.Throttle{Rate: rate}).Interval()}
	}
	day := func(n int64) *snapshot.Quota { return &snapshot.Quota{Limit: n, Period: model.PeriodDay} }
	f := func(what string, ask func(time.Time, int) []string, n int, want ...string) {
		t.Helper()
		if got := ask(now, n); !slices.Equal(got, want) {
			t.Errorf("%s: %q", what, got)
		}
	}
	f("no limit", limited(t, nil, nil, nil), 50, "auth/ok")
	f("throttle", limited(t, second(1, 2), nil, nil), 3, "limit/ok", "limit/throttled Product/basic"+tooMany)
	f("quota", limited(t, nil, day(2), nil), 3, "limit/ok", "limit/quota Product/basic"+exceeded)
	f("stage", limited(t, nil, nil, second(1, 2)), 3, "limit/ok", "limit/throttled Stage/shop.prod"+tooMany)
	f("throttle before quota", limited(t, second(1, 2), day(2), second(1, 2)), 3, "limit/ok", "limit/throttled Product/basic"+tooMany)
	f("quota before stage", limited(t, nil, day(2), second(1, 2)), 3, "limit/ok", "limit/quota Product/basic"+exceeded)
	f("a rate of 0", limited(t, second(0, 0), nil, nil), 2, "limit/throttled Product/basic"+tooMany)
}

func TestWhatIsRefusedUsesNothingUp(t *testing.T) {
	rate := func(r float64, n int) *snapshot.Throttle {
		return &snapshot.Throttle{Rate: r, Burst: n, Interval: (&model.Throttle{Rate: r}).Interval()}
	}
	ask := limited(t, rate(0.001, 3), &snapshot.Quota{Limit: 3, Period: model.PeriodDay}, rate(1, 1))
	// The Stage lets one a second through; the key has three, however often it asks.
	for i, then := range []string{"Stage/shop.prod", "Stage/shop.prod", "Product/basic"} {
		got := ask(now.Add(time.Duration(i)*time.Second), 10)
		if !slices.Equal(got, []string{"limit/ok", "limit/throttled " + then + tooMany}) {
			t.Fatalf("second %d: %q", i, got)
		}
	}
}

// manyKeys is big with an operation that asks for keys, and n of them.
func manyKeys(t testing.TB, apis, n int) (*snapshot.Snapshot, []request.Arrival) {
	s, g, all := big(apis)
	product := &snapshot.Product{
		Name: "all", APIs: map[*snapshot.API]bool{}, Throttle: &snapshot.Throttle{Rate: 1e6, Burst: 1e6, Interval: 1000},
		Quota: &snapshot.Quota{Limit: 1e12, Period: model.PeriodMonth},
	}
	for _, a := range all {
		product.APIs[a] = true
		table := *a.Stages["prod"].Deployment.Operations
		table.Keyed, table.Operations = true, slices.Clone(table.Operations)
		for i := range table.Operations {
			table.Operations[i].KeyRequired = true
		}
		a.Stages["prod"].Deployment.Operations = &table
	}
	keys := make([]string, n)
	for i := range keys {
		keys[i] = issue(t, s, g, &snapshot.Subscription{Name: fmt.Sprintf("s%d", i), Product: product})
	}
	meters := metersOf(s)
	arrivals := make([]request.Arrival, 1024)
	origin := &snapshot.Origin{}
	for i := range arrivals {
		api := all[i*7919%len(all)]
		arrivals[i] = request.Arrival{
			Gateway: g, Origin: origin, TLS: true, SNI: g.Host, Host: g.Host, Method: "PUT", Now: now,
			Path: fmt.Sprintf("/team/%s/resource%d/42", api.ID, i%10), Key: keys[i%n], HasKey: true, Meters: meters,
		}
	}
	return s, arrivals
}

func TestAKeyAndItsLimitCostNoAllocation(t *testing.T) {
	s, arrivals := manyKeys(t, 100, 100)
	var v request.Verdict
	i := 0
	n := testing.AllocsPerRun(1000, func() {
		v.Judge(s, &arrivals[i&1023], false)
		if !v.Allowed {
			t.Fatal(v.Code())
		}
		i++
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJudgeAmong1000APIsBy1000Keys(b *testing.B) {
	s, arrivals := manyKeys(b, 1000, 1000)
	b.ReportAllocs()
	i := 0
	var v request.Verdict
	at := now
	for b.Loop() {
		a := &arrivals[i&1023]
		at = at.Add(time.Microsecond)
		a.Now = at
		v.Judge(s, a, false)
		if !v.Allowed {
			b.Fatal(v.Code())
		}
		i++
	}
}
