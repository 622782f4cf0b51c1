// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"postern.dev/postern/internal/exposition"
)

// seconds are Bounds as Prometheus has them.
var seconds = func() []float64 {
	out := make([]float64, len(Bounds))
	for i, b := range Bounds {
		out[i] = b.Seconds()
	}
	return out
}()

// Write writes everything that has been counted. What nobody asked for is left
// out, so that routes cost no series before they are called.
func (s *Set) Write(t *exposition.Text) {
	tb := s.table.Load()
	s.writeRoutes(t, tb)
	s.writeUpstreams(t, tb)
	t.Family("postern_gateway_refusals_total", exposition.Counter, "Requests refused, by the code of the step that decided, as explain names it.")
	for _, g := range append(sorted(tb.gateways), s.nobody) {
		codes := *g.refused.Load()
		for _, c := range slices.Sorted(maps.Keys(codes)) {
			t.Sample(float64(codes[c].Load()), "gateway", g.Name, "layer", layer(c), "code", c)
		}
	}
	t.Family("postern_gateway_connections", exposition.Gauge, "Connections of callers that are open.")
	for l := range s.connections {
		for p := range s.connections[l] {
			if s.accepted(Listener(l)) {
				t.Sample(float64(s.connections[l][p].Count()), "listener", listenerNames[l], "protocol", protocolNames[p])
			}
		}
	}
	t.Family("postern_gateway_connections_total", exposition.Counter, "Connections of callers so far.")
	for l := range s.connections {
		if s.accepted(Listener(l)) { // what agrees on HTTP/2 began as any connection
			t.Sample(float64(s.connections[l][HTTP1].total.Load()), "listener", listenerNames[l], "transport", "tcp")
			t.Sample(float64(s.connections[l][HTTP3].total.Load()), "listener", listenerNames[l], "transport", "quic")
		}
	}
	t.Family("postern_metrics_overflow", exposition.Gauge, "Routes and upstreams beyond the bound of series; they are counted together as other.")
	t.Sample(float64(s.overflow[0].Load()), "of", "routes")
	t.Sample(float64(s.overflow[1].Load()), "of", "upstreams")
}

func layer(code string) string {
	for i := range code {
		if code[i] == '/' {
			return code[:i]
		}
	}
	return code
}

// accepted reports whether a listener has had any connection.
func (s *Set) accepted(l Listener) bool {
	return s.connections[l][HTTP1].total.Load()+s.connections[l][HTTP3].total.Load() > 0
}

func (s *Set) writeRoutes(t *exposition.Text, tb *table) {
	all := slices.SortedFunc(maps.Values(tb.routes), func(a, b *Route) int {
		return cmp.Or(cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.API, b.API), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Name, b.Name))
	})
	for _, g := range sorted(tb.gateways) {
		all = append(all, g.unrouted)
	}
	all = append(all, s.nobody.unrouted, s.otherRoute)
	all = slices.DeleteFunc(all, func(r *Route) bool { return r.took.Count() == 0 })
	labels := func(r *Route) []string {
		return []string{"gateway", r.Gateway, "api", r.API, "stage", r.Stage, "route", r.Name}
	}
	t.Family("postern_gateway_requests_total", exposition.Counter, "Requests answered, by route and class of status.")
	for _, r := range all {
		statuses(t, &r.status, labels(r))
	}
	t.Family("postern_gateway_request_duration_seconds", exposition.Histogram, "From the first byte of a request to the last of its answer.")
	for _, r := range all {
		histogram(t, &r.took, labels(r))
	}
}

func (s *Set) writeUpstreams(t *exposition.Text, tb *table) {
	all := slices.SortedFunc(maps.Values(tb.upstreams), func(a, b *Upstream) int {
		return cmp.Or(cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.Target, b.Target))
	})
	all = append(all, s.otherUpstream)
	all = slices.DeleteFunc(all, func(u *Upstream) bool { return u.took.Count() == 0 })
	labels := func(u *Upstream) []string {
		return []string{"gateway", u.Gateway, "backend", u.Backend, "target", u.Target}
	}
	t.Family("postern_upstream_calls_total", exposition.Counter, "Calls to backends that were answered, by class of status.")
	for _, u := range all {
		statuses(t, &u.status, labels(u))
	}
	t.Family("postern_upstream_failures_total", exposition.Counter, "Calls to backends that failed, by kind.")
	for _, u := range all {
		for i := range u.failed {
			if n := u.failed[i].Load(); n > 0 {
				t.Sample(float64(n), append(labels(u), "kind", Failures[i])...)
			}
		}
	}
	t.Family("postern_upstream_duration_seconds", exposition.Histogram, "From a call to the head of its answer, or its failure.")
	for _, u := range all {
		histogram(t, &u.took, labels(u))
	}
}

func statuses(t *exposition.Text, s *Statuses, labels []string) {
	for c := range s {
		if n := s[c].Load(); n > 0 {
			t.Sample(float64(n), append(slices.Clip(labels), "status", classes[c])...)
		}
	}
}

func histogram(t *exposition.Text, h *Histogram, labels []string) {
	upTo, sum := h.Read()
	t.Distribution(seconds, upTo[:], float64(sum)/float64(time.Second), labels...)
}
