// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package operation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "postern.dev/postern/test/steady"

	decide "postern.dev/postern/decide/operation"
	"postern.dev/postern/snapshot/operation"
)

// build makes a table from lines such as "GET /pets/{id}".
func build(t testing.TB, lines ...string) *operation.Table {
	t.Helper()
	tb := &operation.Table{}
	for _, l := range lines {
		method, path, _ := strings.Cut(l, " ")
		tb.Operations = append(tb.Operations, operation.Operation{Method: method, Path: path})
	}
	if err := tb.Build(); err != nil {
		t.Fatal(err)
	}
	return tb
}

// name is the operation and the parameters that a verdict found.
func name(v decide.Verdict, path string) string {
	if v.Operation == nil {
		if v.Place {
			return "other methods"
		}
		return ""
	}
	s := v.Operation.Method + " " + v.Operation.Path
	for _, p := range v.Operation.Params {
		value, _ := v.Param(path, p)
		s += " " + p + "=" + value
	}
	return s
}

func TestTheBestOperationServesARequest(t *testing.T) {
	tb := build(t,
		"GET /", "GET /pets", "POST /pets", "GET /pets/{id}", "ANY /pets/{id}", "GET /pets/mine", "GET /pets/{id}/toys/{toy}",
		"GET /files/{proxy+}", "GET /files/index", "POST /files/index/{x}", "ANY /{any+}", "GET /a/{x}/c", "GET /{y}/b/d", "GET /only/deep/down",
	)
	for ask, want := range map[string]string{
		"GET /":                 "GET /",
		"GET ":                  "GET /",
		"GET //":                "GET /",
		"POST /":                "other methods",
		"GET /pets":             "GET /pets",
		"GET /pets/":            "GET /pets",
		"GET /pets//":           "GET /pets",
		"DELETE /pets":          "other methods",
		"GET /pets/7":           "GET /pets/{id} id=7",
		"PUT /pets/7":           "ANY /pets/{id} id=7",
		"GET /pets/mine":        "GET /pets/mine",
		"PUT /pets/mine":        "other methods",
		"GET /pets/7/toys/ball": "GET /pets/{id}/toys/{toy} id=7 toy=ball",
		"GET /pets/7/toys":      "ANY /{any+} any=pets/7/toys",
		"GET /files/a/b":        "GET /files/{proxy+} proxy=a/b",
		"GET /files/a/b/":       "GET /files/{proxy+} proxy=a/b",
		"GET /files":            "ANY /{any+} any=files",
		"GET /files/index":      "GET /files/index",
		"GET /files/index/x":    "other methods",
		"GET /files/index/x/y":  "GET /files/{proxy+} proxy=index/x/y",
		"GET /a/b/c":            "GET /a/{x}/c x=b",
		"GET /a/b/d":            "GET /{y}/b/d y=a",
		"GET /only/deep":        "ANY /{any+} any=only/deep",
		"GET /only/deep/down":   "GET /only/deep/down",
		"GET /Pets":             "ANY /{any+} any=Pets",
		"GET /x//y":             "ANY /{any+} any=x//y",
		"GET //pets":            "",
	} {
		method, path, _ := strings.Cut(ask, " ")
		if got := name(decide.Match(tb, method, path), path); got != want {
			t.Errorf("%s: %q, want %q", ask, got, want)
		}
	}
}

func TestAGreedyParameterIsNeverEmpty(t *testing.T) {
	tb := build(t, "ANY /{proxy+}")
	for _, path := range []string{"", "/", "//"} {
		if v := decide.Match(tb, "GET", path); v.Operation != nil || v.Code() != "method/unknown" {
			t.Errorf("%q is served", path)
		}
	}
}

func TestAnEmptyTableServesNothing(t *testing.T) {
	for _, tb := range []*operation.Table{nil, {}, build(t)} {
		if v := decide.Match(tb, "GET", "/a"); v.Operation != nil {
			t.Error("something was found")
		}
	}
}

// twin is the router as one would explain it: of all paths that fit, the one
// whose segments are more definite from the left; then the method.
func twin(tb *operation.Table, method, path string) string {
	asked := strings.Split(strings.TrimPrefix(strings.TrimRight(path, "/"), "/"), "/")
	var rank []int
	for i := range tb.Operations {
		template := tb.Operations[i].Path
		r, ok := fits(strings.Split(strings.Trim(template, "/"), "/"), asked)
		if ok && (rank == nil || slices.Compare(r, rank) < 0) {
			rank = r
		}
	}
	if rank == nil {
		return ""
	}
	// Templates that differ in names alone are one place.
	found := "other methods"
	for _, m := range []string{operation.Any, method} {
		for i := range tb.Operations {
			o := &tb.Operations[i]
			r, ok := fits(strings.Split(strings.Trim(o.Path, "/"), "/"), asked)
			if o.Method == m && ok && slices.Equal(r, rank) {
				found = m + " " + o.Path
			}
		}
	}
	return found
}

func fits(template, asked []string) ([]int, bool) {
	if len(asked) == 1 && asked[0] == "" || len(template) == 1 && template[0] == "" {
		return []int{}, len(asked) == 1 && len(template) == 1 && asked[0] == template[0]
	}
	var rank []int
	for i, s := range template {
		switch {
		case i >= len(asked) || asked[i] == "":
			return nil, false
		case strings.HasSuffix(s, "+}"):
			return append(rank, 2), true
		case strings.HasPrefix(s, "{"):
			rank = append(rank, 1)
		case s == asked[i]:
			rank = append(rank, 0)
		default:
			return nil, false
		}
	}
	return rank, len(template) == len(asked)
}

func TestTheTreeAgreesWithItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.SampledFrom([]string{"a", "b", "c", "{p}"})
		tb := &operation.Table{}
		for range rapid.IntRange(0, 12).Draw(t, "operations") {
			var path string
			for i := range rapid.IntRange(0, 4).Draw(t, "depth") {
				s := segment.Draw(t, "segment")
				if s == "{p}" {
					s = fmt.Sprintf("{p%d}", i)
				}
				path += "/" + s
			}
			if rapid.IntRange(0, 4).Draw(t, "greedy") == 0 {
				path += "/{rest+}"
			}
			if path == "" {
				path = "/"
			}
			tb.Operations = append(tb.Operations, operation.Operation{Method: rapid.SampledFrom([]string{"GET", "PUT", operation.Any}).Draw(t, "method"), Path: path})
		}
		seen := map[string]bool{}
		tb.Operations = slices.DeleteFunc(tb.Operations, func(o operation.Operation) bool {
			k := o.Method + o.Path
			again := seen[k]
			seen[k] = true
			return again
		})
		if err := tb.Build(); err != nil {
			t.Fatal(err)
		}
		method := rapid.SampledFrom([]string{"GET", "PUT", "POST"}).Draw(t, "asked method")
		path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", ""}), 0, 6).Draw(t, "asked"), "/")
		v := decide.Match(tb, method, path)
		got := ""
		switch {
		case v.Operation != nil:
			got = v.Operation.Method + " " + v.Operation.Path
		case v.Place:
			got = "other methods"
		}
		if want := twin(tb, method, path); got != want {
			t.Fatalf("%s %s: tree %q, twin %q", method, path, got, want)
		}
		for i := range tb.Operations { // the parameters put back give the path
			if v.Operation != &tb.Operations[i] {
				continue
			}
			back := v.Operation.Path
			for _, p := range v.Operation.Params {
				value, _ := v.Param(path, p)
				back = strings.NewReplacer("{"+p+"}", value, "{"+p+"+}", value).Replace(back)
			}
			if strings.Trim(back, "/") != strings.TrimPrefix(strings.TrimRight(path, "/"), "/") {
				t.Fatalf("%s: parameters give %s", path, back)
			}
		}
	})
}

func TestNearestOperations(t *testing.T) {
	tb := build(t, "GET /pets", "POST /pets", "OPTIONS /pets", "GET /pets/{id}", "GET /orders")
	for ask, want := range map[string]string{
		"GET /pet":       "GET /pets, POST /pets",
		"DELETE /pets":   "GET /pets, POST /pets",
		"GET /order":     "GET /orders, GET /pets",
		"POST /pets/1/x": "GET /pets/{id}, POST /pets",
	} {
		method, path, _ := strings.Cut(ask, " ")
		var got []string
		for _, o := range decide.Nearest(tb, method, path, 2) {
			got = append(got, o.Method+" "+o.Path)
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: %s, want %s", ask, s, want)
		}
	}
}

func TestMatchingCostsNoAllocation(t *testing.T) {
	tb := build(t, "GET /pets/{id}/toys/{toy}", "ANY /{proxy+}")
	for _, path := range []string{"/pets/1/toys/2", "/x/y", "/"} {
		if n := testing.AllocsPerRun(100, func() { decide.Match(tb, "GET", path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	var lines []string
	for i := range 10 {
		lines = append(lines, fmt.Sprintf("GET /resource%d/{id}", i), fmt.Sprintf("PUT /resource%d/{id}", i))
	}
	tb := build(b, lines...)
	b.ReportAllocs()
	for b.Loop() {
		if v := decide.Match(tb, "PUT", "/resource7/42"); v.Operation == nil {
			b.Fatal("not found")
		}
	}
}

func TestAnyMethodIsNotTRACE(t *testing.T) {
	tb := build(t, "ANY /a", "ANY /b", "TRACE /b")
	for _, tt := range []struct {
		method, path string
		found        bool
	}{{"GET", "/a", true}, {"PURGE", "/a", true}, {"TRACE", "/a", false}, {"CONNECT", "/a", false}, {"trace", "/a", false}, {"TRACE", "/b", true}} {
		v := decide.Match(tb, tt.method, tt.path)
		if !v.Place || (v.Operation != nil) != tt.found {
			t.Errorf("%s %s: %v", tt.method, tt.path, v.Operation)
		}
	}
}
