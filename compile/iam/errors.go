// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"fmt"
	"strconv"
	"strings"
)

// Error is one thing wrong with a policy document.
type Error struct {
	// Path is where, as "Statement[1].Condition.IpAddress.aws:SourceIp[0]"; it is
	// empty for the document as a whole.
	Path string
	// Msg says what is wrong and what to write instead.
	Msg string
}

// Error returns the place and the message.
func (e Error) Error() string {
	if e.Path == "" {
		return e.Msg
	}
	return e.Path + ": " + e.Msg
}

// Errors is everything wrong with a policy document, in the document's order.
type Errors []Error

// Error returns all the errors, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// foldIn returns the known name that equals s without regard to case.
func foldIn(known []string, s string) (string, bool) {
	for _, k := range known {
		if strings.EqualFold(k, s) {
			return k, true
		}
	}
	return "", false
}

// didYouMean returns `, did you mean "X"?` for the known name nearest to s, if one
// is near.
func didYouMean(s string, known []string) string {
	best, least := "", len(s)/3+1
	if len(s) > 64 {
		return ""
	}
	for _, k := range known {
		if d := distance(strings.ToLower(s), strings.ToLower(k)); d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance is the number of bytes to insert, delete or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
