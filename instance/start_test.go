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

// A request is explained by what is served now; that it met something else is
// said.
func TestARequestThatMetAnotherRevisionIsToldSo(t *testing.T) {
	r := gateway.Record{Revision: 7, Code: "policy/explicit-deny", Status: 403}
	for name, c := range map[string]struct {
		a    answer.Answer
		want string
	}{
		"the same":        {answer.Answer{Revision: 7, Code: "policy/explicit-deny"}, ""},
		"nothing changed": {answer.Answer{Revision: 9, Code: "policy/explicit-deny"}, ""},
		"changed":         {answer.Answer{Revision: 9, Code: "backend/ok"}, "it is revision 9 that is explained; the request met revision 7, where policy/explicit-deny decided and status 403 was answered"},
	} {
		if got := since(r, &c.a); got != c.want {
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
