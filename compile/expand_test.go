// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

func TestWhatRefersToOthersIsCompiledAgainOnlyWhenTheyChange(t *testing.T) {
	var c compile.Compiler
	set := admit(t, corp()...)
	served := func() any { return c.Compile(set, options).Snapshot.APIs["pets"].Stages["test"].Deployment }
	first := served()
	group, _ := model.Get[*model.SecurityGroup](set, "execute-api")
	set = set.Clone()
	set.Put(model.Clone(group))
	if served() != first {
		t.Error("a change elsewhere has it compiled again")
	}
	ep, _ := model.Get[*model.Endpoint](set, "corp")
	ep = model.Clone(ep)
	ep.Status.ID = "vpce-00000000000000001"
	set = set.Clone()
	set.Put(ep)
	if served() == first {
		t.Error("the policy names an Endpoint that is not there any more")
	}
	set = set.Clone()
	set.Delete(model.RefOf(ep))
	r := c.Compile(set, options)
	if ready, why := r.Ready(model.Ref{Kind: model.KindAPI, Name: "pets"}); ready || why.Reason != "BadReference" || r.Snapshot.APIs["pets"] != nil {
		t.Errorf("without the Endpoint: %v, %+v", ready, why)
	}
}
