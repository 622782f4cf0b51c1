// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"cmp"
	"slices"
	"strings"

	"postern.dev/postern/snapshot/operation"
)

// Nearest returns up to n operations of t that look most like what was asked
// for: other methods of the same path first, then paths by how many edits of
// their text would make them this one.
func Nearest(t *operation.Table, method, path string, n int) []*operation.Operation {
	if t == nil || n <= 0 {
		return nil
	}
	type near struct {
		op       *operation.Operation
		distance int
	}
	asked := strings.Split(strings.Trim(path, "/"), "/")
	all := make([]near, 0, len(t.Operations))
	for i := range t.Operations {
		o := &t.Operations[i]
		d := 4 * distance(asked, strings.Split(strings.Trim(o.Path, "/"), "/"))
		if o.Method != method && o.Method != operation.Any {
			d += 2
		}
		if o.Method == "OPTIONS" && method != "OPTIONS" {
			d++ // preflight operations are seldom what is meant
		}
		all = append(all, near{o, d})
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	out := make([]*operation.Operation, 0, n)
	for _, x := range all[:min(n, len(all))] {
		out = append(out, x.op)
	}
	return out
}

// distance counts the edits between two paths, segment by segment; a parameter
// equals any segment.
func distance(asked, template []string) int {
	d := 0
	for i := range max(len(asked), len(template)) {
		switch {
		case i >= len(asked):
			d += 1 + len(template[i])
		case i >= len(template):
			d += 1 + len(asked[i])
		case strings.HasSuffix(template[i], "+}"):
			return d + 1
		case strings.HasPrefix(template[i], "{") && asked[i] != "":
		default:
			d += edits(asked[i], template[i])
		}
	}
	return d
}

// edits is the Levenshtein distance of two segments, cut to a sane length.
func edits(a, b string) int {
	const longest = 64
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
