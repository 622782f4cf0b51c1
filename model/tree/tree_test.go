// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/model/tree"
)

func TestLocateFindsTheClosestValue(t *testing.T) {
	nodes, problems := tree.ParseJSON([]byte("{\"a\": {\n \"b.c\": [1,\n  {\"d\": \"ü\", \"e\": 2}],\n \"b\": {\"c\": 7}}}"))
	if problems != nil {
		t.Fatal(problems)
	}
	for path, want := range map[string][2]int{
		"":              {1, 1},
		"a":             {1, 2},
		"a.b.c":         {2, 2},
		"a.b.c[0]":      {2, 10},
		"a.b.c[1].e":    {3, 19},
		"a.b.c[1].x.y":  {3, 3},
		"a.b.c[9]":      {2, 2},
		"a.b.c[x]":      {2, 2},
		"nowhere.at[0]": {1, 1},
	} {
		if line, col := nodes[0].Locate(path); line != want[0] || col != want[1] {
			t.Errorf("%s is at %d:%d, want %v", path, line, col, want)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,"x\u0000\ud800",null,true]}`, `[]{}`, `{"a":1,"a":2}`, "\"\u2028<&>\x7f\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		nodes, problems := tree.ParseJSON(data)
		if len(problems) > 0 || len(nodes) != 1 {
			return
		}
		var want, got any
		if err := json.Unmarshal(data, &want); err != nil {
			return // a number out of range
		}
		out := nodes[0].AppendJSON(nil)
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q becomes %q: %v", data, out, err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("%q becomes %q", data, out)
		}
	})
}

// TestPlacesOfOneLongLineAreRightAndQuick reads a document as a program writes
// it: a megabyte without a line end, of letters of several bytes.
func TestPlacesOfOneLongLineAreRightAndQuick(t *testing.T) {
	const n = 100_000
	data := []byte("[" + strings.Repeat(`"ä",`, n) + `"end"]`)
	began := time.Now()
	nodes, problems := tree.ParseJSON(data)
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	for _, i := range []int{0, 1, 777, n} {
		if got, want := nodes[0].Items[i].Column, 2+4*i; got != want || nodes[0].Items[i].Line != 1 {
			t.Errorf("element %d is at column %d, want %d", i, got, want)
		}
	}
	// Counting each place from the start of the line took minutes.
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
