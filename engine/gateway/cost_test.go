// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/observe/access"
	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/internal/otlp"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// watched is an Engine and what it watches: a request that was allowed and
// answered by a backend, as handle leaves it.
func watched(o Options) (*Engine, *exchange.Exchange, func()) {
	e := New(o)
	g := &snapshot.Gateway{Name: "main", APIs: map[string]*snapshot.API{}}
	api := &snapshot.API{Name: "shop", ID: "api1", Gateway: g}
	t := &operation.Table{Operations: []operation.Operation{{Method: "GET", Path: "/pets/{id}", ID: "getPet", Integration: operation.Integration{
		Kind: operation.HTTPProxy, URI: operation.Template{Pieces: []operation.Piece{{Value: "http://10.0.0.1:8080/pets"}}},
	}}}}
	st := &snapshot.Stage{Name: "prod", API: api, Deployment: &snapshot.Deployment{Operations: t}}
	api.Stages, g.APIs["api1"] = map[string]*snapshot.Stage{"prod": st}, api
	s := &snapshot.Snapshot{Revision: 7, Gateways: map[string]*snapshot.Gateway{"main": g}}
	e.Swap(s)
	x := &exchange.Exchange{Origin: &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000")}}
	start := time.Now()
	return e, x, func() {
		x.Begin(context.Background(), start)
		x.Request.Method, x.Request.Path, x.Request.Proto = "GET", "/prod/pets/7", exchange.HTTP11
		x.Request.SetAuthority("api1.execute-api.eu-1.postern.internal")
		x.Request.Header.Add("User-Agent", "curl/8.5.0")
		w := e.state(x)
		e.watch(x, w, s)
		w.watch.gateway, w.watch.judged = g, true
		w.verdict.Allowed, w.verdict.API, w.verdict.Stage, w.verdict.Route.Operation = true, api, st, &t.Operations[0]
		w.arrival = request.Arrival{UserAgent: "curl/8.5.0"}
		c := &w.job.Called
		c.Made, c.Status, c.Took = true, 200, time.Millisecond
		w.watch.code = request.CodeBackendOK
		x.Response.Status, x.Sent = 200, 1024
		_ = x.Finish()
	}
}

// BenchmarkObserved is what a request costs that is counted, and one that is
// logged too; BenchmarkObserved/neither is what the benchmark itself costs.
func BenchmarkObserved(b *testing.B) {
	b.Run("counted", func(b *testing.B) {
		e, _, ask := watched(Options{})
		defer e.Close()
		b.ReportAllocs()
		for b.Loop() {
			ask()
		}
	})
	b.Run("counted and logged", func(b *testing.B) {
		log := access.New(access.Options{Out: io.Discard})
		defer log.Close()
		e, _, ask := watched(Options{AccessLog: log})
		defer e.Close()
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			ask()
			if n++; n%1000 == 0 {
				log.Flush()
			}
		}
	})
	for name, ratio := range map[string]float64{"counted, not traced": 0, "counted and traced": 1} {
		b.Run(name, func(b *testing.B) {
			tracer := trace.New(trace.Options{Ratio: ratio, Export: func(context.Context, []otlp.Span) error { return nil }})
			defer tracer.Close()
			e, _, ask := watched(Options{Trace: tracer})
			defer e.Close()
			for b.Loop() {
				ask()
			}
			b.ReportMetric(float64(tracer.Dropped())/float64(b.N), "dropped/op")
		})
	}
	b.Run("neither", func(b *testing.B) {
		e, x, ask := watched(Options{})
		defer e.Close()
		ask()
		start := time.Now()
		b.ReportAllocs()
		for b.Loop() {
			x.Begin(context.Background(), start)
			x.Request.Method, x.Request.Path, x.Request.Proto = "GET", "/prod/pets/7", exchange.HTTP11
			x.Request.SetAuthority("api1.execute-api.eu-1.postern.internal")
			x.Request.Header.Add("User-Agent", "curl/8.5.0")
			_ = x.Finish()
		}
	})
}
