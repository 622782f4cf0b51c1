// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

func TestBackendsAreCompiledOrSayWhyNot(t *testing.T) {
	set := model.NewSet()
	put := func(name string, s model.BackendSpec) {
		s.Targets = append(s.Targets, model.Target{Host: "10.0.0.1", Port: 8080})
		set.Put(&model.Backend{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: s})
	}
	put("plain", model.BackendSpec{Timeout: "3s"})
	put("grpc", model.BackendSpec{Protocol: "grpc", Targets: []model.Target{{Host: "grpc.example", Port: 443, TLS: true}}})
	put("lost", model.BackendSpec{Network: "nowhere"})
	put("probed", model.BackendSpec{Health: &model.BackendHealth{Path: "/up", Interval: "1s", HealthyAfter: 1}})
	put("default", model.BackendSpec{Health: &model.BackendHealth{}})
	put("careful", model.BackendSpec{Protocol: "https", LoadBalancing: "leastRequest"})
	r := new(Compiler).Compile(set, Options{Base: "postern.internal"})
	one := []snapshot.Target{{Host: "10.0.0.1", Port: 8080, Weight: 1}}
	want := map[string]*snapshot.Backend{
		"plain": {Name: "plain", Protocol: "http", Timeout: 3 * time.Second, Targets: one},
		"probed": {Name: "probed", Protocol: "http", Targets: one, Health: &snapshot.Health{
			Path: "/up", Interval: time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 1,
		}},
		"default": {Name: "default", Protocol: "http", Targets: one, Health: &snapshot.Health{
			Interval: 10 * time.Second, Timeout: 2 * time.Second, Unhealthy: 3, Healthy: 2,
		}},
		"grpc": {Name: "grpc", Protocol: "grpc", Targets: append([]snapshot.Target{
			{Host: "grpc.example", Port: 443, Weight: 1, TLS: true},
		}, one...)},
		"careful": {Name: "careful", Protocol: "https", Targets: one},
	}
	if diff := cmp.Diff(want, r.Snapshot.Backends); diff != "" {
		t.Error(diff)
	}
	for name, ready := range map[string]bool{"plain": true, "careful": true, "grpc": true, "lost": false} {
		ref := model.Ref{Kind: model.KindBackend, Name: name}
		if ok, c := r.Ready(ref); ok != ready {
			t.Errorf("%s: %v %s", ref, ok, c.Message)
		}
	}
	if len(r.Conditions[model.Ref{Kind: model.KindBackend, Name: "careful"}]) != 1 {
		t.Error("a field without effect is passed over in silence")
	}
}

func TestWhatADocumentSaysInVainIsAdvice(t *testing.T) {
	set := model.NewSet(&model.API{
		Head: model.Head{Metadata: model.Metadata{Name: "a"}},
		Spec: model.APISpec{OpenAPI: []byte(`{"openapi":"3.0.1","paths":{"/a":{"get":{"x-amazon-apigateway-request-validator":"all"}}}}`), Backend: "b"},
	})
	r := new(Compiler).Compile(set, Options{Base: "postern.internal"})
	for _, c := range r.Conditions[model.Ref{Kind: model.KindAPI, Name: "a"}] {
		if c.Type == ConditionAdvice && c.Message == "spec.openapi.paths./a.get.x-amazon-apigateway-request-validator: requests are not checked against their schemas" {
			return
		}
	}
	t.Errorf("%v", r.Conditions)
}
