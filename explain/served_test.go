// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
)

// TestWhoCallsASelfHostedGatewayGainsAndLosesWhatItServes has changes that leave what
// the managed Gateway lets in as it is, or nearly.
func TestWhoCallsASelfHostedGatewayGainsAndLosesWhatItServes(t *testing.T) {
	reach := func(manifests string) *explain.Reachability {
		docs := documents{}
		docs.read(t, "plant.yaml", []byte(manifests))
		docs.deploy(t, "pets", "prod")
		return explain.Reach(docs.world(t, false, nil))
	}
	served := func(list []answer.Opening) (out []answer.Opening) {
		for _, o := range list {
			if strings.HasPrefix(o.From, "callers of ") {
				out = append(out, o)
			}
		}
		return out
	}
	with := reach(plant)
	pets := answer.Opening{From: "callers of SelfHostedGateway/outside", To: "API/pets stage prod"}
	for what, change := range map[string][2]string{
		"taken away": {", apis: [pets]", ""},
		"deleted":    {"kind: SelfHostedGateway\nmetadata: {name: outside}\nspec: {gateway: gw, apis: [pets]}", "kind: Network\nmetadata: {name: more}\nspec: {cidrs: [10.9.0.0/16]}"},
		"private":    {"type: regional, path: pets", "type: private"},
	} {
		text := strings.Replace(plant, change[0], change[1], 1)
		if text == plant {
			t.Fatalf("%s: nothing is changed", what)
		}
		without := reach(text)
		gained, lost := explain.Difference(with, without)
		if diff := cmp.Diff([]answer.Opening{pets}, served(lost)); diff != "" || len(served(gained)) > 0 {
			t.Errorf("%s gains %v, and loses (-want +got)\n%s", what, gained, diff)
		}
		gained, lost = explain.Difference(without, with)
		if diff := cmp.Diff([]answer.Opening{pets}, served(gained)); diff != "" || len(served(lost)) > 0 {
			t.Errorf("%s taken back loses %v, and gains (-want +got)\n%s", what, lost, diff)
		}
	}
	if gained, lost := explain.Difference(with, reach(plant)); len(gained)+len(lost) > 0 {
		t.Errorf("nothing changed, and %v is gained, %v lost", gained, lost)
	}
	more := reach(strings.Replace(plant, "attach: host/machine", "attach: host/machine, apis: [pets]", 1))
	gained, lost := explain.Difference(with, more)
	if diff := cmp.Diff([]answer.Opening{{From: "callers of SelfHostedGateway/beside", To: "API/pets stage prod"}}, gained); diff != "" || len(lost) > 0 {
		t.Errorf("assigned to another it loses %v, and gains (-want +got)\n%s", lost, diff)
	}
}
