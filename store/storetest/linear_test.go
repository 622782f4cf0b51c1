// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package storetest

import "testing"

import "postern.dev/postern/store"

func TestExplainFindsWhatIsWrong(t *testing.T) {
	doc := func(v string, rev int64) map[string]store.Document {
		d := store.Document{Revision: rev, Data: []byte(v)}
		return map[string]store.Document{"0": d, "copy0": d}
	}
	first := operation{start: 1, end: 2, value: "a", revision: 1}
	second := operation{start: 3, end: 4, value: "b", expect: 1, revision: 2}
	for _, c := range []struct {
		name    string
		history []operation
		wrong   bool
	}{
		{"in order", []operation{first, second, {start: 5, end: 6, revision: 2, read: doc("b", 2)}}, false},
		{"a stale read", []operation{first, second, {start: 5, end: 6, revision: 1, read: doc("a", 1)}}, true},
		{"a read from the future", []operation{{start: 1, end: 2, revision: 1, read: doc("a", 1)}, {start: 3, end: 4, value: "a", revision: 1}}, true},
		{"half a write", []operation{first, {start: 5, end: 6, revision: 1, read: map[string]store.Document{"0": doc("a", 1)["0"]}}}, true},
		{"a lost write", []operation{first, {start: 3, end: 4, value: "b", revision: 2}}, true},
		{"a gap", []operation{first, {start: 3, end: 4, value: "b", expect: 1, revision: 3}}, true},
		{"writes against real time", []operation{{start: 1, end: 2, value: "b", expect: 1, revision: 2}, {start: 3, end: 4, value: "a", revision: 1}}, true},
		{"a conflict that was", []operation{first, {start: 3, end: 4, conflict: true, expect: 0, revision: 1}}, false},
		{"a conflict that never was", []operation{first, {start: 3, end: 4, conflict: true, expect: 1, revision: 0}}, true},
	} {
		if got := explain(c.history, 1); (len(got) > 0) != c.wrong {
			t.Errorf("%s: problems %q", c.name, got)
		}
	}
}
