// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestOnlyFieldsThatMayBeTrailersAreAnnounced(t *testing.T) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprint("X-", i))
	}
	for names, want := range map[string][]string{
		"":                             nil,
		"grpc-status, X-Sum":           {"Grpc-Status", "X-Sum"},
		" x-sum ,,X-Sum\t":             {"X-Sum"},
		"Content-Length, X-Sum":        {"X-Sum"},
		"transfer-encoding, trailer":   nil,
		"host, te, authorization":      nil,
		"x y, a:b, caf\xe9, x\r\nz: 1": nil,
	} {
		if got := sorted(announced(names)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
	if got := len(announced(strings.Join(many, ","))); got != maxAnnounced {
		t.Errorf("%d of 100", got)
	}
}
