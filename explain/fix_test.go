// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
)

func fixesOf(t *testing.T, file string) (*scenario, *answer.Answer) {
	t.Helper()
	s := &scenario{file: "testdata/scenarios/" + file}
	s.load(t)
	return s, ask(t, s.world, s.question)
}

// TestAssumedStageIsNoAllow: the policy was judged for the Stage that there is,
// and says nothing of one that would be made.
func TestAssumedStageIsNoAllow(t *testing.T) {
	s, a := fixesOf(t, "stage-assumed.txtar")
	if len(a.Fixes) == 0 {
		t.Fatal("no fix")
	}
	for i := range a.Fixes {
		f := &a.Fixes[i]
		w, q := follow(t, s, f, s.world, s.question)
		if next := ask(t, w, q); next.Verdict != answer.Allow {
			t.Errorf("%q, said to be enough, leads to %s %s", f.Summary, next.Verdict, next.Code)
		}
	}
}

// TestFixSaysWhatElseItNeeds: what is not let through after a fix, and the
// other fixes for what blocked before, is told beside it.
func TestFixSaysWhatElseItNeeds(t *testing.T) {
	told := 0
	for _, s := range scenarios(t) {
		s.load(t)
		a := ask(t, s.world, s.question)
		if len(a.Blockers) != 1 {
			continue
		}
		for i := range a.Fixes {
			f := &a.Fixes[i]
			w, q := follow(t, s, f, s.world, s.question)
			if enough := ask(t, w, q).Verdict == answer.Allow; enough != (len(f.Then) == 0) {
				t.Errorf("%s: %q: enough %t, then %q", s.file, f.Summary, enough, f.Then)
			}
			told += len(f.Then)
		}
	}
	if told == 0 {
		t.Error("no scenario has a fix that needs more")
	}
}

func TestNoRuleIsOfferedWhereNothingListens(t *testing.T) {
	_, a := fixesOf(t, "listen-endpoint-ssh.txtar")
	if !slices.ContainsFunc(a.Blockers, func(b answer.Blocker) bool { return strings.HasPrefix(b.Code, "sg/") }) {
		t.Fatalf("no group stops it: %+v", a.Blockers)
	}
	for _, f := range a.Fixes {
		if len(f.Patch) > 0 {
			t.Errorf("%q", f.Summary)
		}
	}
	if len(a.Fixes) == 0 {
		t.Error("port 443 is not offered")
	}
}

func TestEgressFixNamesTheFlag(t *testing.T) {
	s, a := fixesOf(t, "backend-private.txtar")
	if len(a.Fixes) != 1 || !strings.HasPrefix(a.Fixes[0].Commands[0], "postern server --allow-egress 10.0.0.9/32") {
		t.Fatalf("%+v", a.Fixes)
	}
	w, q := follow(t, s, &a.Fixes[0], s.world, s.question)
	if next := ask(t, w, q); next.Verdict != answer.Allow {
		t.Errorf("%s %s", next.Verdict, next.Code)
	}
}

func TestSourcesAreGuessed(t *testing.T) {
	w := world(t, "../examples/private-api")
	_, err := explain.Explain(t.Context(), w, answer.Question{From: "link/onprm", URL: "https://x/"})
	if err == nil || !strings.Contains(err.Error(), "did you mean link/onprem?") {
		t.Errorf("%v", err)
	}
}

// TestFixesOfManifestsNeedNoServer: where only manifests are asked, the place in
// them is told and no command that wants a server.
func TestFixesOfManifestsNeedNoServer(t *testing.T) {
	w := world(t, "../examples/private-api")
	a := ask(t, w, answer.Question{From: "link/onprem/10.99.0.1", URL: "https://${Endpoint/corp.host}/test/pets", Headers: []answer.Header{{Name: "x-apigw-api-id", Value: "${API/petstore.id}"}}})
	patched := false
	for _, f := range a.Fixes {
		if len(f.Commands) > 0 {
			t.Errorf("%q wants %q", f.Summary, f.Commands)
		}
		for _, p := range f.Patch {
			patched = true
			if !strings.Contains(p.At, ".yaml:") {
				t.Errorf("%q: %s is at %q", f.Summary, p.Resource, p.At)
			}
		}
	}
	if !patched {
		t.Errorf("no fix changes a manifest: %+v", a.Fixes)
	}
}
