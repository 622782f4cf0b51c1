// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package meter_test

import (
	"sync"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway/meter"
	"postern.dev/postern/snapshot"
)

var (
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	slow = &snapshot.Throttle{Rate: 0.001, Burst: 3, Interval: 1e12}
)

func named(names ...string) *snapshot.Snapshot { return &snapshot.Snapshot{Meters: names} }

func TestMetersAreCarriedOverByName(t *testing.T) {
	var table meter.Table
	if m, ok := table.Of(nil); !ok || m != nil {
		t.Error("no snapshot has meters")
	}
	a, b, c := named("Key/a", "Key/b"), named("Key/new", "Key/b"), named("Key/a")
	table.Apply(a)
	first, ok := table.Of(a)
	if !ok || len(first) != 2 || !first[1].Take(slow, noon) {
		t.Fatal(first, ok)
	}
	table.Apply(b)
	second, ok := table.Of(b)
	if !ok || second[1] != first[1] || second[0] == first[0] {
		t.Error("b is not what it was, or a is what new became")
	}
	// A request that began before counts all the same.
	if again, ok := table.Of(a); !ok || again[1] != second[1] {
		t.Error("the snapshot before is not counted")
	}
	table.Apply(c)
	if _, ok := table.Of(a); ok {
		t.Error("meters are kept for a snapshot of long ago")
	}
	if m, _ := table.Of(c); m[0] == first[0] {
		t.Error("what was not named is not forgotten")
	}
}

func TestACopyUsesNothingUp(t *testing.T) {
	var table meter.Table
	s := named("Key/a")
	if m := table.Copy(s); len(m) != 1 || m[0] != nil {
		t.Error("what is not counted has a meter")
	}
	table.Apply(s)
	for range 10 {
		if !table.Copy(s)[0].Take(slow, noon) {
			t.Fatal("the copy has used something up")
		}
	}
	m, _ := table.Of(s)
	m[0].Take(slow, noon)
	m[0].Take(slow, noon)
	c := table.Copy(named("Key/other", "Key/a"))
	if c[0] != nil || !c[1].Take(slow, noon) || c[1].Take(slow, noon) {
		t.Error("the copy is not of what it was made of")
	}
}

func TestNoTokenIsLostOrMadeWhileSnapshotsAreSwapped(t *testing.T) {
	var table meter.Table
	s := named("Key/a")
	table.Apply(s)
	var requests sync.WaitGroup
	taken := make([]int, 4)
	for i := range taken {
		requests.Go(func() {
			for range 200 {
				if m, ok := table.Of(s); ok && m[0].Take(slow, noon) {
					taken[i]++
				}
			}
		})
	}
	for range 50 {
		table.Apply(s)
	}
	requests.Wait()
	if n := taken[0] + taken[1] + taken[2] + taken[3]; n != slow.Burst {
		t.Errorf("%d of %d tokens were taken", n, slow.Burst)
	}
}

func TestToFindMetersCostsNoAllocation(t *testing.T) {
	var table meter.Table
	s := named("Key/a")
	table.Apply(s)
	if n := testing.AllocsPerRun(100, func() {
		m, _ := table.Of(s)
		m[0].Take(slow, noon)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
