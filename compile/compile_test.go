// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

var options = compile.Options{
	Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet}, AsWritten: true,
}

// admit makes a set of resources as the server would.
func admit(t testing.TB, objects ...model.Object) *model.Set {
	t.Helper()
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

// corp is a private API behind an Endpoint that a site reaches over a Link.
func corp() []model.Object {
	off := false
	return []model.Object{
		&model.Network{Head: named("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}}},
		&model.Subnet{Head: named("endpoints"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.1.0/24"}},
		&model.Link{Head: named("site"), Spec: model.LinkSpec{Network: "corp", Type: "direct-connect", CIDRs: []string{"192.168.50.0/24"}}},
		&model.SecurityGroup{Head: named("execute-api"), Spec: model.SecurityGroupSpec{Network: "corp", Rules: []model.Rule{{
			Name: "https", Direction: "inbound", Protocol: "tcp", Ports: []string{"443"}, From: []string{"192.168.50.0/24"},
		}}}},
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.Endpoint{Head: named("corp"), Spec: model.EndpointSpec{
			Gateway: "main", Subnets: []string{"endpoints"}, SecurityGroups: []string{"execute-api"}, PrivateDNS: &off,
		}},
		&model.API{Head: named("pets"), Spec: model.APISpec{
			Gateway: "main", Type: model.Private, OpenAPI: json.RawMessage(`"example:petstore"`),
			Policy: json.RawMessage(`{"Version":"2012-10-17","Statement":[
				{"Effect":"Deny","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*","Condition":{"StringNotEquals":{"aws:sourceVpce":"${Endpoint/corp.id}"}}},
				{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*"}]}`),
		}},
		&model.Stage{Head: named("pets.test"), Spec: model.StageSpec{Deployment: model.Latest}},
	}
}

func TestPrivateAPIOverALinkCompiles(t *testing.T) {
	r := new(compile.Compiler).Compile(admit(t, corp()...), options)
	for ref, list := range r.Conditions {
		for _, c := range list {
			if !c.Status || c.Type == compile.ConditionAdvice {
				t.Errorf("%s: %+v", ref, c)
			}
		}
	}
	s := r.Snapshot
	ep := s.Endpoints["corp"]
	v := name.Resolve(s, s.Public, ep.Host, snapshot.TypeA)
	if len(v.Addrs) != 1 || v.Addrs[0] != ep.Interfaces[0].Addr {
		t.Fatalf("%s resolves to %v, want %v", ep.Host, v.Addrs, ep.Interfaces[0].Addr)
	}
	q := flow.Query{Source: flow.FromLink(s.Links["site"], netip.MustParseAddr("192.168.50.10")), Proto: sg.TCP, Dst: v.Addrs[0], Port: 443}
	if f := flow.Judge(s, q, false); !f.Allowed() {
		t.Fatalf("the site does not reach the Endpoint: %s", f.Code)
	}
	st := s.APIs["pets"].Stages["test"]
	if st == nil || st.Deployment == nil || st.Deployment.Policy == nil {
		t.Fatalf("the Stage does not serve the API as written: %+v", st)
	}
}

func TestPrivateAPIWithoutPolicyIsNotServed(t *testing.T) {
	objects := corp()
	api := objects[6].(*model.API)
	api.Spec.Policy = nil
	r := new(compile.Compiler).Compile(admit(t, objects...), options)
	stage := model.Ref{Kind: model.KindStage, Name: "pets.test"}
	ready, c := r.Ready(stage)
	if ready || c.Message != compile.ErrNoPolicy.Error() {
		t.Fatalf("Ready %v, %q", ready, c.Message)
	}
	if d := r.Snapshot.APIs["pets"].Stages["test"].Deployment; d != nil {
		t.Fatal("it is served all the same")
	}
}

func TestCheckNamesTheField(t *testing.T) {
	objects := corp()
	objects[6].(*model.API).Spec.Policy = json.RawMessage(`{"Statement":[{"Effect":"allow","Principal":"*","Action":"*","Resource":"*"}]}`)
	err := new(compile.Compiler).Check(admit(t, objects...), []model.Ref{{Kind: model.KindAPI, Name: "pets"}})
	errs := model.AsErrors(err)
	if len(errs) != 1 || errs[0].Field != "spec.policy.Statement[0].Effect" {
		t.Fatalf("%v", err)
	}
}
