// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"fmt"
	"testing"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

func TestAnAllowedRequestCostsNoAllocation(t *testing.T) {
	w := newWorld(t)
	w.corp.Policy = policy(t, allowAll, "")
	for _, a := range []*request.Arrival{
		w.at(w.corp, "GET", w.priv.Host, "/prod/pets/1"),
		w.at(w.corp, "GET", w.vip.Name, "/o/pets/1"),
		w.at(w.corp, "GET", w.g.Host, "/orders/pets/1"),
		w.at(nil, "GET", w.pub.Host+":443", "/prod/pets/"),
		w.at(nil, "GET", "a.shop.example", "/orders/v1/items/pets"),
	} {
		v := new(request.Verdict) // as a gateway keeps one for each connection
		n := testing.AllocsPerRun(100, func() { v.Judge(w.Snapshot, a, false) })
		if n != 0 || !v.Allowed {
			t.Errorf("%s%s: %v allocations, %s", a.Host, a.Path, n, v.Code())
		}
	}
}

// big is a Gateway of n public APIs with 20 routes each, every one under its
// own name, a path of the Gateway and a path of one Domain.
func big(n int) (*snapshot.Snapshot, *snapshot.Gateway, []*snapshot.API) {
	g := &snapshot.Gateway{Name: "main", Region: "eu-1", Host: "main." + base, PublicAccess: true, Hosts: map[string]*snapshot.Host{}, APIs: map[string]*snapshot.API{}}
	g.Hosts[g.Host] = &snapshot.Host{Kind: snapshot.HostOwn, Name: g.Host}
	var all []*snapshot.API
	for i := range n {
		t := &operation.Table{}
		for r := range 10 {
			for _, m := range []string{"GET", "PUT"} {
				t.Operations = append(t.Operations, operation.Operation{Method: m, Path: fmt.Sprintf("/resource%d/{id}", r)})
			}
		}
		if err := t.Build(); err != nil {
			panic(err)
		}
		id := fmt.Sprintf("api%07d", i)
		a := &snapshot.API{Name: id, ID: id, Type: model.Regional, Gateway: g, Host: id + ".execute-api.eu-1." + base}
		s := &snapshot.Stage{Name: "prod", API: a, Deployment: &snapshot.Deployment{Operations: t}}
		a.Stages = map[string]*snapshot.Stage{"prod": s}
		g.APIs[id] = a
		g.Hosts[a.Host] = &snapshot.Host{Kind: snapshot.HostExecuteAPI, Name: a.Host, API: a}
		g.Paths = append(g.Paths, snapshot.PathMapping{Path: "team/" + id, API: a, Stage: s, StageName: "prod"})
		all = append(all, a)
	}
	snapshot.SortMappings(g.Paths)
	return &snapshot.Snapshot{Base: base, Gateways: map[string]*snapshot.Gateway{"main": g}}, g, all
}

func BenchmarkJudgeAmong10000APIs(b *testing.B) {
	s, g, all := big(10_000)
	origin := &snapshot.Origin{}
	for _, way := range []string{"name", "path"} {
		b.Run(way, func(b *testing.B) {
			arrivals := make([]request.Arrival, 1024)
			for i := range arrivals {
				api := all[i*7919%len(all)]
				a := request.Arrival{Gateway: g, Origin: origin, TLS: true, SNI: api.Host, Host: api.Host, Method: "PUT", Path: fmt.Sprintf("/prod/resource%d/42", i%10)}
				if way == "path" {
					a.SNI, a.Host, a.Path = g.Host, g.Host, fmt.Sprintf("/team/%s/resource%d/42", api.ID, i%10)
				}
				arrivals[i] = a
			}
			b.ReportAllocs()
			i := 0
			var v request.Verdict
			for b.Loop() {
				v.Judge(s, &arrivals[i&1023], false)
				if !v.Allowed {
					b.Fatal(v.Code())
				}
				i++
			}
		})
	}
}

func BenchmarkJudgePrivateAPIByPolicy(b *testing.B) {
	w := newWorld(b)
	a := w.at(w.corp, "GET", w.priv.Host, "/prod/pets/1")
	b.ReportAllocs()
	var v request.Verdict
	for b.Loop() {
		if v.Judge(w.Snapshot, a, false); !v.Allowed {
			b.Fatal(v.Code())
		}
	}
}
