// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limit_test

import (
	"sync"
	"testing"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

func TestWhatOthersTookIsOwed(t *testing.T) {
	th, m := throttle(10, 5), &limit.Meter{}
	at := noon
	take := func(want int) {
		t.Helper()
		got := 0
		for m.Take(th, at) {
			got++
		}
		if got != want {
			t.Fatalf("at %s: %d tokens, want %d", at.Sub(noon), got, want)
		}
	}
	take(5)
	m.Charge(12, 0, at) // more than comes back in a second
	at = at.Add(time.Second)
	take(0)
	at = at.Add(200 * time.Millisecond)
	take(0) // 12 have come back, and all were owed
	at = at.Add(100 * time.Millisecond)
	take(1)
	m.Charge(12, 0, at)
	at = at.Add(1500 * time.Millisecond) // unasked
	take(3)
	if n, _ := m.Counted(); n != 9 {
		t.Errorf("%d were taken here", n)
	}
	// A throttle that is narrower keeps nobody out for what was before.
	at = at.Add(time.Hour)
	for range 3600 { // others are as busy as can be, and nobody asks here
		m.Charge(10, 0, at)
		at = at.Add(time.Second)
	}
	if !m.Take(th, at) {
		t.Error("who asks seldom is kept out for ever")
	}
	m.Charge(1_000_000, 0, at)
	narrow := throttle(1000, 1)
	for range limit.Sharers*2002 + 10 {
		at = at.Add(time.Millisecond)
		if m.Take(narrow, at) {
			return
		}
	}
	t.Error("it owes more than can have been taken unheard")
}

func TestWhatOthersUsedCountsInItsPeriod(t *testing.T) {
	q := &snapshot.Quota{Limit: 10, Period: model.PeriodDay}
	m, other := &limit.Meter{}, &limit.Meter{}
	use := func(m *limit.Meter, n int, at time.Time) {
		for range n {
			m.Use(q, at)
		}
	}
	f := func(at time.Time, all, own int64) {
		t.Helper()
		_, c := m.State()
		if _, mine := m.Counted(); limit.Used(q, c, at) != all || limit.Used(q, mine, at) != own {
			t.Errorf("at %s: %d used, %d here, want %d and %d", at, limit.Used(q, c, at), limit.Used(q, mine, at), all, own)
		}
	}
	use(m, 3, noon)
	use(other, 4, noon)
	_, had := other.Counted()
	m.Charge(0, limit.Grown(0, had), noon)
	f(noon, 7, 3)
	use(other, 2, noon)
	_, has := other.Counted()
	m.Charge(0, limit.Grown(had, has), noon)
	use(m, 9, noon)
	f(noon, 10, 4)
	if m.Use(q, noon) {
		t.Error("the quota of all is used up, and one is let through")
	}
	next := noon.Add(24 * time.Hour)
	use(other, 1, next)
	_, new := other.Counted()
	m.Charge(0, limit.Grown(has, new), noon) // before anything is asked here
	f(next, 1, 0)
	m.Charge(0, has, next) // of the day before
	use(m, 1, next)
	f(next, 2, 1)
	m.Forget(q, next)
	f(next, 1, 0)
}

func TestChargesAndTakesAtOnceLoseNothing(t *testing.T) {
	th, q := throttle(0.001, 1000), &snapshot.Quota{Limit: 1000, Period: model.PeriodDay}
	m, one := &limit.Meter{}, limit.Count(0)
	one, _ = limit.Use(q, one, noon)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				m.Take(th, noon)
				m.Use(q, noon)
			}
		})
	}
	all.Go(func() {
		for range 300 {
			m.Charge(1, one, noon)
		}
	})
	all.Wait()
	if !m.Take(th, noon) { // pays what is owed
		t.Fatal("nothing is left")
	}
	b, c := m.State()
	taken, used := m.Counted()
	if n := limit.Tokens(th, b, noon.UnixNano()); n != 299 || taken != 401 {
		t.Errorf("%d tokens are left, %d were taken here", n, taken)
	}
	if limit.Used(q, c, noon) != 700 || limit.Used(q, used, noon) != 400 {
		t.Errorf("%d used, %d here", limit.Used(q, c, noon), limit.Used(q, used, noon))
	}
}
