// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"encoding/json"
	"testing"

	"postern.dev/postern/model"
)

func TestAStageLogsAsItsGatewayUnlessItSaysOtherwise(t *testing.T) {
	off, on := false, true
	doc := json.RawMessage(`{"openapi":"3.0.3","info":{"title":"","version":""},"paths":{}}`)
	objects := []model.Object{
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1", AccessLog: &model.AccessLog{Enabled: &off, Format: "$context.status"}}},
		&model.API{Head: named("shop"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: doc}},
	}
	own := map[string]*model.AccessLog{
		"plain": nil, "on": {Enabled: &on}, "format": {Format: "$context.path"}, "both": {Enabled: &on, Format: "$context.path"},
	}
	for name, l := range own {
		objects = append(objects, &model.Stage{Head: named("shop." + name), Spec: model.StageSpec{AccessLog: l}})
	}
	r := compiled(t, objects...)
	stages := r.Snapshot.APIs["shop"].Stages
	seen := map[int]bool{}
	for name, want := range map[string]string{"plain": "off $context.status", "on": "$context.status", "format": "off $context.path", "both": "$context.path"} {
		s := stages[name]
		got := s.AccessLog.Format.Source
		if s.AccessLog.Off {
			got = "off " + got
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if seen[s.Index] || s.Index >= len(own) {
			t.Errorf("%s has the index %d, which is another's or too large", name, s.Index)
		}
		seen[s.Index] = true
	}
	if stages["format"].AccessLog.Format != stages["both"].AccessLog.Format {
		t.Error("the same format was read twice")
	}
	if l := r.Snapshot.Gateways["main"].AccessLog; !l.Off || l.Format == nil {
		t.Errorf("the Gateway's own is %+v", l)
	}
}
