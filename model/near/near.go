// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package near finds the name that was probably meant by a mistyped one.
package near

import (
	"slices"
	"strings"
)

// To returns the candidate that got was probably meant to be, or the empty
// string if none is close. Of equally close ones it returns the first in
// alphabetical order, whatever the order of the candidates.
func To(got string, candidates []string) string {
	if len(got) > maxLength {
		return ""
	}
	limit := min(3, max(1, (len(got)+1)/3))
	low := strings.ToLower(got)
	best, dist := "", limit+1
	for _, c := range candidates {
		if c == got || len(c) > maxLength || len(c) > len(got)+limit || len(got) > len(c)+limit {
			continue
		}
		d := distance(low, strings.ToLower(c), dist)
		if d < dist || d == dist && d <= limit && c < best {
			best, dist = c, d
		}
	}
	return best
}

// maxLength bounds the work for one pair; no name in a manifest is longer.
const maxLength = 253

// Hint returns `; did you mean "x"?` if To finds one. Without a close one it
// lists up to eight candidates, and is empty if there are more or none.
func Hint(got string, candidates []string) string {
	if c := To(got, candidates); c != "" {
		return `; did you mean "` + c + `"?`
	}
	if len(candidates) == 0 || len(candidates) > 8 {
		return ""
	}
	c := slices.Clone(candidates)
	slices.Sort(c)
	return "; there is " + strings.Join(slices.Compact(c), ", ")
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that lead from a to b; it may return early with any number above
// limit.
func distance(a, b string, limit int) int {
	var before, prev, row [maxLength + 1]int
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least > limit {
			return least
		}
		before, prev = prev, row
	}
	return prev[len(b)]
}
