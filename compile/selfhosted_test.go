// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"slices"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

func TestSelfHostedGatewayIsToldWhatItWillNotServe(t *testing.T) {
	api := func(name, kind string) model.Object {
		return &model.API{Head: named(name), Spec: model.APISpec{Gateway: "main", Type: kind, OpenAPI: []byte(`"example:petstore"`)}}
	}
	r := compiled(
		t, &model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		api("orders", model.Regional), api("hidden", model.Private), api("draft", model.Edge),
		&model.Stage{Head: named("orders.prod"), Spec: model.StageSpec{Deployment: model.Latest}},
		&model.Domain{Head: named("api.example.com"), Spec: model.DomainSpec{
			Type: model.Regional, Mappings: []model.Mapping{{API: "orders", Stage: "prod"}}, TLS: &model.DomainTLS{ACME: &model.DomainACME{}},
		}},
		&model.SelfHostedGateway{Head: named("shop"), Spec: model.SelfHostedGatewaySpec{Gateway: "main", APIs: []string{"orders", "hidden", "draft"}}},
		&model.SelfHostedGateway{Head: named("idle"), Spec: model.SelfHostedGatewaySpec{Gateway: "main"}},
	)
	f := func(name string, want ...string) {
		t.Helper()
		ref := model.Ref{Kind: model.KindSelfHosted, Name: name}
		var got []string
		for _, c := range r.Conditions[ref] {
			got = append(got, c.Reason)
			if c.Type != compile.ConditionAdvice {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	f("shop", "PrivateAPI", "NotDeployed", "CertificateStays")
	f("idle", "NothingAssigned")
}
