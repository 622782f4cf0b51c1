// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// world is a Gateway with APIs of one Stage each, which have these routes.
func world(apis int, routes ...string) *snapshot.Snapshot {
	g := &snapshot.Gateway{Name: "main", APIs: map[string]*snapshot.API{}}
	s := &snapshot.Snapshot{Gateways: map[string]*snapshot.Gateway{"main": g}, Backends: map[string]*snapshot.Backend{
		"store": {Name: "store", Protocol: "http", Targets: []snapshot.Target{{Host: "10.0.0.1", Port: 80}, {Host: "::1", Port: 81}}},
	}}
	for i := range apis {
		a := &snapshot.API{Name: fmt.Sprintf("api%05d", i), Gateway: g, Stages: map[string]*snapshot.Stage{}}
		a.ID = a.Name
		t := &operation.Table{}
		for k, r := range routes {
			method, path, _ := strings.Cut(r, " ")
			op := operation.Operation{Method: method, Path: path, Index: k, Integration: operation.Integration{Kind: operation.HTTPProxy}}
			switch {
			case strings.HasSuffix(path, "store"):
				op.Integration.Backend = "store"
			case strings.HasSuffix(path, "any"):
				op.Integration.URI.Pieces = []operation.Piece{{Value: "http://"}, {Kind: operation.PieceParam, Value: "host"}, {Value: "/"}}
			default:
				op.Integration.URI.Pieces = []operation.Piece{{Value: "https://"}, {Kind: operation.PieceStageVariable, Value: "host"}, {Value: ":8443/x/"}, {Kind: operation.PieceParam, Value: "id"}}
			}
			t.Operations = append(t.Operations, op)
		}
		a.Stages["prod"] = &snapshot.Stage{Name: "prod", API: a, Index: i, Variables: map[string]string{"host": "up.example"}, Deployment: &snapshot.Deployment{Operations: t}}
		g.APIs[a.ID] = a
	}
	return s
}

func (s *Set) text(t *testing.T) string {
	t.Helper()
	var x exposition.Text
	s.Write(&x)
	b, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// find is what a request for an operation of an API counts into.
func find(s *Set, w *snapshot.Snapshot, api string, op int) *Route {
	st := w.Gateways["main"].APIs[api].Stages["prod"]
	return s.Route(w.Gateways["main"], st, &st.Deployment.Operations.Operations[op])
}

func TestWhatIsCountedGoesOnInTheNextSnapshot(t *testing.T) {
	s := New()
	one := world(2, "GET /pets/{id}", "GET /store")
	s.Apply(one)
	find(s, one, "api00001", 0).Add(200, time.Millisecond)
	two := world(3, "POST /new", "GET /pets/{id}")
	s.Apply(two)
	find(s, two, "api00001", 1).Add(200, time.Millisecond)
	find(s, one, "api00001", 0).Add(503, 2*time.Minute) // a request that began before
	find(s, one, "api00001", 1).Add(200, 0)             // its route is gone
	if find(s, two, "api00001", 1) == find(s, two, "api00002", 1) {
		t.Error("two APIs count together")
	}
	got := s.text(t)
	for _, want := range []string{
		`postern_gateway_requests_total{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod",status="2xx"} 2`,
		`postern_gateway_requests_total{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod",status="5xx"} 1`,
		`postern_gateway_request_duration_seconds_bucket{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod",le="0.0005"} 0`,
		`postern_gateway_request_duration_seconds_bucket{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod",le="0.001"} 2`,
		`postern_gateway_request_duration_seconds_bucket{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod",le="30"} 2`,
		`postern_gateway_request_duration_seconds_bucket{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod",le="+Inf"} 3`,
		`postern_gateway_request_duration_seconds_sum{api="api00001",gateway="main",route="GET /pets/{id}",stage="prod"} 120.002`,
		`postern_gateway_requests_total{api="other",gateway="other",route="other",stage="other",status="2xx"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "/store") || strings.Contains(got, "/new") {
		t.Errorf("there is a series for what nobody called:\n%s", got)
	}
}

func TestCallsAreCountedByTarget(t *testing.T) {
	s := New()
	w := world(1, "GET /a", "GET /store", "GET /any")
	s.Apply(w)
	st := w.Gateways["main"].APIs["api00000"].Stages["prod"]
	ops := st.Deployment.Operations.Operations
	s.Upstream(st, &ops[0], false, 0).Add(204, "", time.Millisecond)
	s.Upstream(st, &ops[1], true, 1).Add(0, "refused", time.Millisecond)
	s.Upstream(st, &ops[1], true, 1).Add(0, "of a new kind", time.Millisecond)
	s.Upstream(st, &ops[2], false, 0).Add(200, "", time.Millisecond)
	s.Upstream(st, &ops[1], true, 7).Add(200, "", time.Millisecond)
	got := s.text(t)
	for _, want := range []string{
		`postern_upstream_calls_total{backend="",gateway="main",status="2xx",target="https://up.example:8443"} 1`,
		`postern_upstream_failures_total{backend="store",gateway="main",kind="refused",target="http://[::1]:81"} 1`,
		`postern_upstream_failures_total{backend="store",gateway="main",kind="other",target="http://[::1]:81"} 1`,
		`postern_upstream_duration_seconds_count{backend="store",gateway="main",target="http://[::1]:81"} 2`,
		`postern_upstream_calls_total{backend="other",gateway="other",status="2xx",target="other"} 2`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
}

func TestWhatAStageCallsFollowsItsVariablesAndBackends(t *testing.T) {
	s := New()
	w := world(1, "GET /a", "GET /store")
	s.Apply(w)
	st := w.Gateways["main"].APIs["api00000"].Stages["prod"]
	ops := st.Deployment.Operations.Operations
	route, up, store := s.Route(nil, st, &ops[0]), s.Upstream(st, &ops[0], false, 0), s.Upstream(st, &ops[1], true, 0)
	s.Apply(w)
	if s.Route(nil, st, &ops[0]) != route || s.Upstream(st, &ops[0], false, 0) != up || s.Upstream(st, &ops[1], true, 0) != store {
		t.Error("the same snapshot counts into others")
	}
	w.Backends["store"].Targets[0].Host = "10.0.0.9"
	s.Apply(w)
	if u := s.Upstream(st, &ops[1], true, 0); u == store || u.Target != "http://10.0.0.9:80" || s.Route(nil, st, &ops[1]).Name != "GET /store" {
		t.Errorf("the Backend's new target is %s", u.Target)
	}
	next := *st
	next.Variables = map[string]string{"host": "other.example"}
	w.Gateways["main"].APIs["api00000"].Stages["prod"] = &next
	s.Apply(w)
	if u := s.Upstream(&next, &ops[0], false, 0); u.Target != "https://other.example:8443" || s.Route(nil, &next, &ops[0]) != route {
		t.Errorf("after a change of the variable it calls %s", u.Target)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	s := New()
	w := world(MaxRoutes, "GET /a", "GET /b")
	s.Apply(w)
	for api := range w.Gateways["main"].APIs {
		for op := range 2 {
			find(s, w, api, op).Add(200, time.Millisecond)
		}
	}
	g := s.Gateway(w.Gateways["main"])
	for i := range 2 * maxCodes {
		g.Refuse(fmt.Sprint("code/", i))
	}
	got := s.text(t)
	if n := strings.Count(got, "postern_gateway_requests_total{"); n > MaxRoutes+1 {
		t.Errorf("%d series of routes", n)
	}
	if n := strings.Count(got, "postern_gateway_refusals_total{"); n != maxCodes+1 {
		t.Errorf("%d series of codes", n)
	}
	for _, want := range []string{
		fmt.Sprintf(`postern_metrics_overflow{of="routes"} %d`, 3*MaxRoutes-MaxRoutes),
		fmt.Sprintf(`postern_gateway_refusals_total{code="other",gateway="main",layer="other"} %d`, maxCodes),
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestCountingCostsNoAllocation(t *testing.T) {
	s := New()
	w := world(10, "GET /a", "GET /store")
	s.Apply(w)
	g := w.Gateways["main"]
	st := g.APIs["api00007"].Stages["prod"]
	op := &st.Deployment.Operations.Operations[1]
	old := world(10, "GET /a", "GET /store").Gateways["main"].APIs["api00007"].Stages["prod"]
	s.Gateway(g).Refuse("sg/dropped")
	if n := testing.AllocsPerRun(100, func() {
		s.Route(g, st, op).Add(200, time.Millisecond)
		s.Route(g, old, op).Add(200, time.Millisecond)
		s.Upstream(st, op, true, 0).Add(200, "", time.Millisecond)
		s.Gateway(g).Refuse("sg/dropped")
		s.Connections(Public, HTTP1).Open()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConnectionsAreCountedByListener(t *testing.T) {
	s := New()
	for _, o := range []snapshot.Origin{{}, {Endpoint: "e"}, {Node: "g"}, {Socket: 443}, {ServedBy: "shop"}} {
		c := s.Connections(ListenerOf(&o), HTTP1)
		c.Open()
		c.Open()
		c.Close()
		h2 := s.Connections(ListenerOf(&o), HTTP2)
		c.Open()
		c.Lend(h2)
		c.Lend(h2)
		c.Return(h2)
	}
	got := s.text(t)
	for _, l := range listenerNames {
		for _, want := range []string{`postern_gateway_connections{listener="` + l + `",protocol="http/1.1"} 1`, `postern_gateway_connections_total{listener="` + l + `",transport="tcp"} 3`, `postern_gateway_connections{listener="` + l + `",protocol="h2"} 1`} {
			if !strings.Contains(got, want+"\n") {
				t.Errorf("%s is missing in\n%s", want, got)
			}
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	s := New()
	w := world(1000, "GET /a", "GET /store")
	s.Apply(w)
	g := w.Gateways["main"]
	st := g.APIs["api00007"].Stages["prod"]
	op := &st.Deployment.Operations.Operations[1]
	b.ReportAllocs()
	for b.Loop() {
		s.Route(g, st, op).Add(200, time.Millisecond)
		s.Upstream(st, op, true, 0).Add(200, "", time.Millisecond)
	}
}

// BenchmarkApply is what a change of the configuration costs, of n APIs with ten
// routes each.
func BenchmarkApply(b *testing.B) {
	routes := make([]string, 10)
	for i := range routes {
		routes[i] = fmt.Sprintf("GET /r%d/{id}", i)
	}
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := New()
			w := world(n, routes...)
			b.ReportAllocs()
			for b.Loop() {
				s.Apply(w)
			}
		})
	}
}
