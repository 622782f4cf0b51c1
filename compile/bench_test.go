// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

// The size that the figures are stated for.
const (
	manyAPIs  = 10_000
	manyHosts = 5_000
	manyRules = 10_000
	routes    = 20
)

// served compiles as a server does.
var served = compile.Options{Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet}}

// large is a configuration of that size, each API with a document of its own.
func large(b *testing.B) *model.Set {
	b.Helper()
	objects := []model.Object{
		&model.Network{Head: named("big"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/8"}, InternetGateway: true}},
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.Endpoint{Head: named("ep"), Spec: model.EndpointSpec{Gateway: "main", Subnets: []string{"s0"}}},
	}
	for s := range 50 {
		objects = append(objects, &model.Subnet{Head: named(fmt.Sprintf("s%d", s)), Spec: model.SubnetSpec{Network: "big", CIDR: fmt.Sprintf("10.%d.0.0/16", s+1)}})
	}
	for g := range 10 {
		rules := make([]model.Rule, 0, manyRules/10)
		for r := range manyRules / 10 {
			rules = append(rules, model.Rule{
				Direction: "inbound", Protocol: "tcp", Ports: []string{fmt.Sprint(1024 + r)},
				From: []string{fmt.Sprintf("10.%d.%d.0/24", g+1, r%256)},
			})
		}
		objects = append(objects, &model.SecurityGroup{Head: named(fmt.Sprintf("g%d", g)), Spec: model.SecurityGroupSpec{Network: "big", Rules: rules}})
	}
	for h := range manyHosts {
		objects = append(objects, &model.Host{Head: named(fmt.Sprintf("h%d", h)), Spec: model.HostSpec{
			Subnet: fmt.Sprintf("s%d", h%50), SecurityGroups: []string{fmt.Sprintf("g%d", h%10)},
		}})
	}
	endpoint, err := model.NamedIDs().NewID(model.Ref{Kind: model.KindEndpoint, Name: "ep"}, 0)
	if err != nil {
		b.Fatal(err)
	}
	for a := range manyAPIs {
		name := fmt.Sprintf("api%d", a)
		spec := model.APISpec{
			Gateway: "main", Type: model.Private, OpenAPI: document(a),
			// As people write it: the Endpoint by its name.
			Policy: json.RawMessage(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"team%d","Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*","Condition":{"StringEquals":{"aws:SourceVpce":"${Endpoint/ep.id}"}}}]}`, a)),
		}
		// As postern deploy copies it: what the names mean.
		deployed := spec
		deployed.OpenAPI = bytes.Clone(spec.OpenAPI)
		deployed.Policy = bytes.ReplaceAll(spec.Policy, []byte("${Endpoint/ep.id}"), []byte(endpoint))
		objects = append(objects,
			&model.API{Head: named(name), Spec: spec},
			&model.Deployment{Head: named(name + ".1"), Spec: model.DeploymentSpec{API: name, Number: 1, Spec: deployed}},
			&model.Stage{Head: named(name + ".prod"), Spec: model.StageSpec{Deployment: "1"}},
		)
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{Deployments: true})
	if err != nil {
		b.Fatal(err)
	}
	return set
}

func document(n int) json.RawMessage {
	var paths strings.Builder
	for r := range routes {
		if r > 0 {
			paths.WriteByte(',')
		}
		fmt.Fprintf(&paths, `"/r%d/{id}":{"get":{"responses":{"200":{"description":"ok"}},"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"http://b%d.example/r%d/{id}","requestParameters":{"integration.request.path.id":"method.request.path.id"}}}}`, r, n, r)
	}
	return json.RawMessage(`{"openapi":"3.0.1","info":{"title":"t","version":"1"},"paths":{` + paths.String() + `}}`)
}

// BenchmarkCompileFromNothing reports the time and the live memory of a
// compilation without anything remembered.
func BenchmarkCompileFromNothing(b *testing.B) {
	set := large(b)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	var r *compile.Result
	for b.Loop() {
		r = new(compile.Compiler).Compile(set, served)
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-live")
	for ref := range r.Conditions {
		if ok, c := r.Ready(ref); !ok {
			b.Fatalf("%s is not ready: %+v", ref, c)
		}
	}
	runtime.KeepAlive(r)
}

// BenchmarkCompileAfterOneChange changes one security group each time.
func BenchmarkCompileAfterOneChange(b *testing.B) {
	set := large(b)
	var c compile.Compiler
	c.Compile(set, served)
	g, _ := model.Get[*model.SecurityGroup](set, "g3")
	n := 0
	b.ResetTimer()
	for b.Loop() {
		n++
		x := model.Clone(g)
		x.Spec.Rules[0].Priority = 1 + n%1000
		next := set.Clone()
		next.Put(x)
		c.Compile(next, served)
	}
}
