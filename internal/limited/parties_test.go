// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limited

import "testing"

func TestNoPartyTakesAllPlaces(t *testing.T) {
	p := NewParties[string](3)
	for i, c := range []struct {
		who  string
		want bool
	}{{"greedy", true}, {"greedy", true}, {"greedy", false}, {"modest", true}, {"late", false}} {
		if got := p.Enter(c.who, 2); got != c.want {
			t.Fatalf("entry %d, %s: %v", i, c.who, got)
		}
	}
	p.Leave("greedy")
	if !p.Enter("late", 2) {
		t.Fatal("a place that was given back is not taken")
	}
	if len(p.by) != 3 {
		t.Fatalf("%v remembered", p.by)
	}
	for _, who := range []string{"greedy", "modest", "late"} {
		p.Leave(who)
	}
	if p.total != 0 || len(p.by) != 0 {
		t.Fatalf("%d and %v are left", p.total, p.by)
	}
}
