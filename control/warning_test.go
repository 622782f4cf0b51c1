// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

const petsAPI = `apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec:
  gateway: gw
  type: private
  openapi: example:petstore
  policy: {Statement: [{Effect: Allow, Principal: "*", Action: %q, Resource: "execute-api:/*", Condition: {StringEquals: {"aws:SourceVpce": "${Endpoint/corp-ep.id}"}}}]}
`

// matching returns the warnings that hold all the words.
func matching(warnings []string, words ...string) (out []string) {
	for _, w := range warnings {
		all := true
		for _, x := range words {
			all = all && strings.Contains(w, x)
		}
		if all {
			out = append(out, w)
		}
	}
	return out
}

func TestApplyAndPlanWarnOfWhatWaitsForADeployment(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	for _, text := range []string{world, fmt.Sprintf(petsAPI, "execute-api:Invoke")} {
		if _, err := c.Apply(t.Context(), read(t, text), false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "prod"}); err != nil {
		t.Fatal(err)
	}
	same, err := c.Apply(t.Context(), read(t, fmt.Sprintf(petsAPI, "execute-api:Invoke")), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(same.Warnings) > 0 {
		t.Errorf("nothing waits, and yet: %q", same.Warnings)
	}
	want := []string{"API/pets takes effect with: postern deploy pets --stage prod", "serves Deployment 1", "spec.policy"}
	changed := read(t, fmt.Sprintf(petsAPI, "*"))
	plan, err := c.Plan(t.Context(), changed)
	if err != nil {
		t.Fatal(err)
	}
	if len(matching(plan.Warnings, want...)) != 1 {
		t.Errorf("plan: %q", plan.Warnings)
	}
	for _, dry := range []bool{true, false} {
		got, err := c.Apply(t.Context(), changed, dry)
		if err != nil {
			t.Fatal(err)
		}
		if len(matching(got.Warnings, want...)) != 1 {
			t.Errorf("dry %v: %q", dry, got.Warnings)
		}
	}
	api, err := c.Get(t.Context(), model.Ref{Kind: model.KindAPI, Name: "pets"})
	if err != nil {
		t.Fatal(err)
	}
	stale := false
	for _, x := range api.Status.Conditions {
		stale = stale || x.Type == "Stale" && x.Status
	}
	if !stale {
		t.Errorf("the API does not show it: %v", api.Status.Conditions)
	}
	if _, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "prod"}); err != nil {
		t.Fatal(err)
	}
	if plan, err = c.Plan(t.Context(), read(t, fmt.Sprintf(petsAPI, "*"))); err != nil || len(plan.Warnings) > 0 {
		t.Errorf("deployed, and yet: %q, %v", plan.Warnings, err)
	}
}

// TestWhatWouldNotBeReadyIsForetold plans and applies what is stored and yet not
// served: an Endpoint that nobody has approved, and a Stage without a Deployment.
func TestWhatWouldNotBeReadyIsForetold(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	os := read(t, world+"---\napiVersion: postern/v1\nkind: Stage\nmetadata: {name: pets.prod}\nspec: {}\n")
	plan, err := c.Plan(t.Context(), os)
	if err != nil {
		t.Fatal(err)
	}
	dry, err := c.Apply(t.Context(), os, true)
	if err != nil {
		t.Fatal(err)
	}
	done, err := c.Apply(t.Context(), os, false)
	if err != nil {
		t.Fatal(err)
	}
	told := func(a wire.Applied) (out []string) {
		for _, r := range a.Results {
			if r.NotReady != nil {
				out = append(out, r.Ref.String()+" is not ready: "+r.NotReady.Message)
			}
		}
		return out
	}
	want := told(done)
	if len(matching(want, "Endpoint/corp-ep")) != 1 {
		t.Fatalf("applied: %q", want)
	}
	for what, told := range map[string][]string{"the plan": plan.Warnings, "the dry run": dry.Warnings, "the change": done.Warnings} {
		if len(matching(told, "API/pets", "postern deploy pets --stage prod")) != 1 {
			t.Errorf("%s does not tell of the Stage: %q", what, told)
		}
	}
	if got := told(dry); !slices.Equal(got, want) {
		t.Errorf("the dry run tells %q, the change %q", got, want)
	}
	var got []string
	for _, w := range plan.Warnings {
		if strings.Contains(w, " is not ready: ") {
			got = append(got, w)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the plan tells %q, the change %q", got, want)
	}
	// An apply that changes nothing tells it again, and so does a plan.
	if plan, err = c.Plan(t.Context(), os); err != nil || len(plan.Changes) > 0 || len(matching(plan.Warnings, " is not ready: ")) != len(want) {
		t.Errorf("once more: %+v, %v", plan, err)
	}
}

func TestApplyWarnsOfAPolicyThatIsHardlyMeant(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	got, err := c.Apply(t.Context(), read(t, fmt.Sprintf(petsAPI, "execute-api:Invok")), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(matching(got.Warnings, "API/pets: spec.policy.Statement[0].Action: ", `did you mean "execute-api:Invoke"?`, "(policy/no-such-action)")) != 1 {
		t.Errorf("%q", got.Warnings)
	}
}

func TestWarningsOfOneResourceAreBounded(t *testing.T) {
	api := model.Ref{Kind: model.KindAPI, Name: "a"}
	var conditions []model.Condition
	for n := range 40 {
		conditions = append(conditions, model.Condition{Type: "Advice", Status: true, Reason: "Document", Message: fmt.Sprint(n)})
	}
	stage := model.Ref{Kind: model.KindStage, Name: "a.prod"}
	got := warn([]model.Ref{api, stage, api}, func(r model.Ref) []model.Condition {
		if r != api {
			return nil
		}
		return conditions
	})
	if len(got) != maxAdvice+1 || !strings.Contains(got[maxAdvice], "40 in all; run: postern describe API/a") {
		t.Errorf("%q", got)
	}
}
