// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strings"
	"testing"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

func TestDeploymentHoldsIdsAndNotNames(t *testing.T) {
	p := newPlane(t)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	api := `apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec:
  gateway: gw
  type: private
  openapi: example:petstore
  policy: {Statement: [{Effect: Allow, Principal: "*", Action: execute-api:Invoke, Resource: "execute-api:/*", Condition: {StringEquals: {"aws:SourceVpce": "${Endpoint/corp-ep.id}"}}}]}
`
	if _, err := c.Apply(t.Context(), read(t, api), false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Deploy(t.Context(), "pets", wire.Deploy{Stage: "prod"}); err != nil {
		t.Fatal(err)
	}
	ep, err := c.Get(t.Context(), model.Ref{Kind: model.KindEndpoint, Name: "corp-ep"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Get(t.Context(), model.Ref{Kind: model.KindDeployment, Name: "pets.1"})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(d.Spec); !strings.Contains(text, ep.Status.ID) || strings.Contains(text, "${") {
		t.Errorf("the Deployment would follow a name to another Endpoint: %s", text)
	}
	st, err := c.Get(t.Context(), model.Ref{Kind: model.KindStage, Name: "pets.prod"})
	if err != nil {
		t.Fatal(err)
	}
	for _, cond := range st.Status.Conditions {
		if cond.Type == "Stale" && cond.Status {
			t.Errorf("a Stage that has just been deployed is stale: %+v", cond)
		}
	}
}
