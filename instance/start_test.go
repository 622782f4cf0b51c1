// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/explain/answer"
)

// A request is explained by what is served now; that it met something else, or
// that its backend was dead, is said.
func TestWhatWasRecordedDecides(t *testing.T) {
	denied := gateway.Record{Revision: 7, Code: "policy/explicit-deny", Status: 403}
	dead := gateway.Record{Revision: 7, Code: "backend/refused", Status: 504}
	response := func(status int) answer.Symptom { return answer.Symptom{Kind: answer.Response, Status: status} }
	for name, c := range map[string]struct {
		r    gateway.Record
		a    answer.Answer
		want string
	}{
		"the same":        {denied, answer.Answer{Revision: 7, Verdict: answer.Deny, Code: "policy/explicit-deny", Symptom: response(403)}, ""},
		"nothing changed": {denied, answer.Answer{Revision: 9, Verdict: answer.Deny, Code: "policy/explicit-deny", Symptom: response(403)}, ""},
		"changed": {
			denied,
			answer.Answer{Revision: 9, Verdict: answer.Allow, Code: "backend/ok", Symptom: response(0)},
			"the request met policy/explicit-deny and was answered status 403; the explanation says allow, backend/ok: it is of revision 9, and the request met revision 7",
		},
		"a dead backend": {
			dead,
			answer.Answer{Revision: 7, Verdict: answer.Allow, Code: "backend/ok", Symptom: response(0)},
			"the request met backend/refused and was answered status 504; the explanation says allow, backend/ok: it takes for granted that the backend answers, which it did not; what was recorded is what happened",
		},
		"another status": {
			denied,
			answer.Answer{Revision: 7, Verdict: answer.Deny, Code: "policy/explicit-deny", Symptom: response(401)},
			"the request met policy/explicit-deny and was answered status 403; the explanation says deny, policy/explicit-deny; what was recorded is what happened",
		},
		"sent to https": {
			gateway.Record{Revision: 7, Code: "listen/x", Status: 308},
			answer.Answer{Revision: 7, Verdict: answer.Allow, Code: "listen/accepted", Symptom: response(308)},
			"",
		},
	} {
		if got := difference(c.r, &c.a); got != c.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// A new key would open nothing, and stand where the old one belongs.
func TestAMissingStoreKeyIsNotReplaced(t *testing.T) {
	o := Options{Data: t.TempDir(), Management: "127.0.0.1:0"}
	i, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	key, away := filepath.Join(o.Data, "store.key"), filepath.Join(o.Data, "away")
	if err := os.Rename(key, away); err != nil {
		t.Fatal(err)
	}
	if i, err := Start(t.Context(), o); err == nil {
		t.Errorf("it started: %v", i.Close())
	} else if !strings.Contains(err.Error(), key+" of the store") {
		t.Error(err)
	}
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	if err := os.Rename(away, key); err != nil {
		t.Fatal(err)
	}
	if i, err = Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}
