// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package near_test

import (
	"strings"
	"testing"

	"postern.dev/postern/model/near"
)

func TestToFindsTheNameMeant(t *testing.T) {
	for _, tt := range []struct {
		got, want string
		from      []string
	}{
		{"cidr", "cidrs", []string{"cidrs", "dns"}},
		{"netwrok", "network", []string{"networks", "network"}},
		{"Network", "network", []string{"network"}},
		{"b", "a", []string{"c", "a"}},
		{"internetGatway", "internetGateway", []string{"internetGateway", "internetRoute"}},
		{"zebra", "", []string{"network"}},
		{"same", "", []string{"same"}},
		{"", "a", []string{"a", "bc"}},
		{strings.Repeat("a", 1000), "", []string{strings.Repeat("a", 999)}},
		{"x", "", nil},
	} {
		if got := near.To(tt.got, tt.from); got != tt.want {
			t.Errorf("To(%.20q) = %q, want %q", tt.got, got, tt.want)
		}
	}
}

func TestHintListsAFewCandidates(t *testing.T) {
	if got := near.Hint("zebra", []string{"two", "one", "one"}); got != "; there is one, two" {
		t.Error(got)
	}
	if got := near.Hint("zebra", strings.Split("a1 b1 c1 d1 e1 f1 g1 h1 i1", " ")); got != "" {
		t.Error(got)
	}
}
