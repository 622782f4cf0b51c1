// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"postern.dev/postern/explain/answer"
)

// TestPastDisagreementsStaySettled replays what explain and reality once
// disagreed about. The file want says which outcome was found to be right.
func TestPastDisagreementsStaySettled(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there are no files in testdata")
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s, q, want, err := parseArchive(text)
			if err != nil {
				t.Fatal(err)
			}
			l, err := start(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.close(); err != nil {
					t.Error(err)
				}
			}()
			r, err := l.ask(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.differs {
				t.Error(d)
			}
			if got := r.summary(); got != want {
				t.Errorf("got  %s\nwant %s\nthe caller saw %v", got, want, r.outcome.err)
			}
		})
	}
}

// summary is what became of a request in one line: the symptom, the status if
// there was a response, and the code.
func (r *result) summary() string {
	o := r.outcome
	if o.kind == answer.Response {
		return fmt.Sprintf("%s %d %s", o.kind, o.status, r.answer.Code)
	}
	return fmt.Sprintf("%s %s", o.kind, r.answer.Code)
}
