// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

// hasAdvice tells whether there is advice for a reason whose message holds all
// the words.
func hasAdvice(r *compile.Result, ref model.Ref, reason string, words ...string) bool {
	for _, c := range r.Conditions[ref] {
		if c.Type != compile.ConditionAdvice || !c.Status || c.Reason != reason {
			continue
		}
		all := true
		for _, w := range words {
			all = all && strings.Contains(c.Message, w)
		}
		if all {
			return true
		}
	}
	return false
}

func statement(rest string) json.RawMessage {
	return json.RawMessage(`{"Statement":[{"Effect":"Allow","Principal":"*","Resource":"*",` + rest + `}]}`)
}

var petsRef = model.Ref{Kind: model.KindAPI, Name: "pets"}

func TestWhatAPolicyHardlyMeansIsAdvice(t *testing.T) {
	for name, x := range map[string]struct {
		policy json.RawMessage
		typ    string
		code   string
		words  []string
	}{
		"an action misspelt": {
			statement(`"Action":"execute-api:Invok"`), model.Regional, "policy/no-such-action",
			[]string{"spec.policy.Statement[0].Action", `did you mean "execute-api:Invoke"?`},
		},
		"a key misspelt": {
			statement(`"Action":"*","Condition":{"StringEquals":{"aws:SourceVpcepe":"x"}}`), model.Private, "policy/unknown-key",
			[]string{"spec.policy.Statement[0].Condition.StringEquals.aws:SourceVpcepe", `did you mean "aws:SourceVpce"?`},
		},
		"a source address on a private API": {
			statement(`"Action":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`), model.Private, "policy/source-ip-on-private",
			[]string{"use aws:VpcSourceIp"},
		},
		"a private API that is open to all": {
			statement(`"Action":"*"`), model.Private, "policy/open-to-all-networks", nil,
		},
		"a key that only signed requests carry": {
			statement(`"Action":"*","Condition":{"StringEquals":{"aws:PrincipalAccount":"1"}}`), model.Regional, "policy/key-needs-signature", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := corp()
			api := objects[6].(*model.API)
			api.Spec.Policy, api.Spec.Type = x.policy, x.typ
			r := new(compile.Compiler).Compile(admit(t, objects...), options)
			if !hasAdvice(r, petsRef, x.code, x.words...) {
				t.Errorf("%v", r.Conditions[petsRef])
			}
		})
	}
}

func TestAdviceIsOnDomainsAndEndpointsToo(t *testing.T) {
	objects := corp()
	objects[5].(*model.Endpoint).Spec.Policy = statement(`"Action":"execute-api:Invok"`)
	objects = append(objects, &model.Domain{Head: named("pets.corp.example"), Spec: model.DomainSpec{
		Type: model.Private, Endpoints: []string{"corp"}, Mappings: []model.Mapping{{API: "pets", Stage: "test"}},
		Policy: statement(`"Action":"*","Condition":{"StringEquals":{"aws:SourceVpcx":"x"}}`),
	}})
	var c compile.Compiler
	for range 2 { // the second time from memory
		r := c.Compile(admit(t, objects...), options)
		ep := model.Ref{Kind: model.KindEndpoint, Name: "corp"}
		if !hasAdvice(r, ep, "policy/no-such-action", "Invoke") || len(r.Conditions[ep]) != 1 {
			t.Errorf("%v", r.Conditions[ep])
		}
		d := model.Ref{Kind: model.KindDomain, Name: "pets.corp.example"}
		if !hasAdvice(r, d, "policy/unknown-key", "aws:SourceVpc") {
			t.Errorf("%v", r.Conditions[d])
		}
	}
}

func TestAPolicyInTheDocumentIsAdvisedOnThere(t *testing.T) {
	objects := corp()
	api := objects[6].(*model.API)
	api.Spec.Policy = nil
	api.Spec.OpenAPI = json.RawMessage(`{"openapi":"3.0.1","info":{"title":"t","version":"1"},"paths":{},"x-amazon-apigateway-policy":` +
		string(statement(`"Action":"execute-api:Invok"`)) + `}`)
	r := new(compile.Compiler).Compile(admit(t, objects...), options)
	if !hasAdvice(r, petsRef, "policy/no-such-action", "spec.openapi.x-amazon-apigateway-policy.Statement[0].Action") {
		t.Errorf("%v", r.Conditions[petsRef])
	}
}

func TestAPrivateAPIWithoutPolicyIsAdvisedToHaveOne(t *testing.T) {
	objects := corp()
	objects[6].(*model.API).Spec.Policy = nil
	r := new(compile.Compiler).Compile(admit(t, objects...), options)
	if !hasAdvice(r, petsRef, "NoPolicy", "cannot be deployed yet", "spec.policy") {
		t.Errorf("%v", r.Conditions[petsRef])
	}
}

func TestWhatIsSavedAndNotDeployedIsSaidOfTheAPI(t *testing.T) {
	objects := corp()
	api := objects[6].(*model.API)
	served := api.Spec
	served.Backend = "old"
	objects[7].(*model.Stage).Spec.Deployment = "1"
	objects = append(objects,
		&model.Stage{Head: named("pets.prod")},
		&model.Deployment{Head: named("pets.1"), Spec: model.DeploymentSpec{API: "pets", Number: 1, Spec: served}},
	)
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{Deployments: true})
	if err != nil {
		t.Fatal(err)
	}
	live := options
	live.AsWritten = false
	r := new(compile.Compiler).Compile(set, live)
	var stale []model.Condition
	for _, c := range r.Conditions[petsRef] {
		if c.Type == compile.ConditionStale {
			stale = append(stale, c)
		}
	}
	if len(stale) != 1 || !stale[0].Status || stale[0].Reason != "SavedNotDeployed" {
		t.Fatalf("%v", r.Conditions[petsRef])
	}
	for _, words := range []string{
		"takes effect with: postern deploy pets --stage ", "postern deploy pets --stage prod", "postern deploy pets --stage test",
		"Stage/pets.prod has no Deployment", "Stage/pets.test serves Deployment 1, which differs in spec.backend",
	} {
		if !strings.Contains(stale[0].Message, words) {
			t.Errorf("%q is not in %q", words, stale[0].Message)
		}
	}
}

func TestAPIsThatCallWhatTheirGatewayCannotDialAreAdvised(t *testing.T) {
	document := func(backend string) json.RawMessage {
		return json.RawMessage(`{"openapi":"3.0.3","info":{"title":"x","version":"1"},"paths":{"/":{"get":{"responses":{"200":{"description":"ok"}},` +
			`"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"backend://` + backend + `/"}}}}}`)
	}
	objects := inside(model.ModeInternal)
	for _, network := range []string{"corp", "far", ""} {
		objects = append(objects,
			&model.Backend{Head: named("to-" + network + "x"), Spec: model.BackendSpec{Network: network, Targets: []model.Target{{Host: "svc.example", Port: 80}}}},
			&model.API{Head: named("api-" + network + "x"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: document("to-" + network + "x")}},
			&model.Stage{Head: named("api-" + network + "x.prod"), Spec: model.StageSpec{AutoDeploy: true}},
		)
	}
	r := compiled(t, objects...)
	for _, network := range []string{"corp", "far", ""} {
		ref := model.Ref{Kind: model.KindAPI, Name: "api-" + network + "x"}
		got := hasAdvice(r, ref, compile.ReasonUnreached, "Stage prod calls Backend/to-farx", "Network/far", "Gateway/main", "outbound.subnet")
		if want := network == "far"; got != want || condition(r, ref, compile.ConditionAdvice, compile.ReasonUnreached) != nil != want {
			t.Errorf("a Backend in %q: %v", network, r.Conditions[ref])
		}
	}
}
