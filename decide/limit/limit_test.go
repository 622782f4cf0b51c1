// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limit_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // a Sunday

func throttle(rate float64, burst int) *snapshot.Throttle {
	t := model.Throttle{Rate: rate, Burst: burst}
	return &snapshot.Throttle{Rate: rate, Burst: burst, Interval: t.Interval()}
}

func TestABurstPassesThenTheRate(t *testing.T) {
	th := throttle(10, 3)
	var b limit.Bucket
	at := noon.UnixNano()
	take := func(want bool) {
		t.Helper()
		next, ok := limit.Take(th, b, at)
		if ok != want {
			t.Fatalf("at %s: %v with %d tokens", time.Unix(0, at).UTC(), ok, limit.Tokens(th, b, at))
		}
		b = next
	}
	take(true)
	take(true)
	take(true)
	take(false)
	at += int64(99 * time.Millisecond)
	take(false)
	at += int64(time.Millisecond)
	take(true)
	take(false)
	at += int64(time.Hour)
	if n := limit.Tokens(th, b, at); n != 3 {
		t.Errorf("%d tokens after an hour", n)
	}
}

// bucket is a throttle as textbooks have it: tokens, in parts of which an interval
// has one a nanosecond.
type bucket struct{ parts, last int64 }

func (b *bucket) take(th *snapshot.Throttle, now int64) bool {
	b.parts = min(int64(th.Burst)*th.Interval, b.parts+now-b.last)
	b.last = now
	if b.parts < th.Interval {
		return false
	}
	b.parts -= th.Interval
	return true
}

func TestABucketIsATokenBucket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		th := throttle(math.Pow(10, r.Float64()*6-2), 1+r.IntN(50))
		at := noon.UnixNano()
		slow := bucket{parts: int64(th.Burst) * th.Interval, last: at}
		var fast limit.Bucket
		for range 500 {
			at += r.Int64N(2 * th.Interval)
			next, ok := limit.Take(th, fast, at)
			if want := slow.take(th, at); ok != want {
				t.Fatalf("rate %v burst %d: %v, want %v", th.Rate, th.Burst, ok, want)
			}
			fast = next
			if n := limit.Tokens(th, fast, at); int64(n) != slow.parts/th.Interval {
				t.Fatalf("rate %v burst %d: %d tokens, want %d", th.Rate, th.Burst, n, slow.parts/th.Interval)
			}
		}
	}
}

func TestABucketOfNothingLetsNobodyThrough(t *testing.T) {
	if _, ok := limit.Take(throttle(0, 0), 0, noon.UnixNano()); ok {
		t.Error("it lets one through")
	}
	if n := limit.Tokens(throttle(0, 0), 0, noon.UnixNano()); n != 0 {
		t.Errorf("it has %d tokens", n)
	}
}

func TestAClockThatIsSetBackDelaysNobodyForLong(t *testing.T) {
	th := throttle(10, 3)
	m := &limit.Meter{}
	for m.Take(th, noon.Add(24*time.Hour)) {
	}
	// By the clock of yesterday the bucket is empty, and fills from there.
	if m.Take(th, noon) {
		t.Error("an empty bucket lets one through")
	}
	b, _ := m.State()
	for i, want := range []int{0, 1, 2, 3, 3} {
		if n := limit.Tokens(th, b, noon.Add(time.Duration(i)*100*time.Millisecond).UnixNano()); n != want {
			t.Errorf("after %d00ms there are %d tokens, want %d", i, n, want)
		}
	}
}

func TestAQuotaBeginsAnewWithItsPeriod(t *testing.T) {
	for _, c := range []struct {
		period string
		end    time.Time
	}{
		{model.PeriodDay, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)},
		{model.PeriodWeek, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}, // Monday
		{model.PeriodMonth, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)},
	} {
		q := &snapshot.Quota{Limit: 2, Period: c.period}
		if end := limit.Ends(q, noon); !end.Equal(c.end) {
			t.Errorf("a %s ends %s", c.period, end)
		}
		m := limit.NewMeter(0, 0)
		last := c.end.Add(-time.Nanosecond)
		if !m.Use(q, noon) || !m.Use(q, last) || m.Use(q, last) {
			t.Errorf("%s: not two in a period", c.period)
		}
		m.Forget(q, last)
		if !m.Use(q, last) || m.Use(q, last) {
			t.Errorf("%s: what was forgotten counts", c.period)
		}
		if !m.Use(q, c.end) {
			t.Errorf("%s: the next period does not begin", c.period)
		}
		m.Forget(q, last) // of the period before: nothing
		if _, n := m.State(); limit.Used(q, n, c.end) != 1 {
			t.Errorf("%s: %d used", c.period, limit.Used(q, n, c.end))
		}
		if _, ok := limit.Use(q, limit.Full(q, noon), noon); ok {
			t.Errorf("%s: a full quota lets one through", c.period)
		}
	}
}

func TestEveryPeriodEndsWhereTheNextBegins(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		now := time.Unix(r.Int64N(4e9), r.Int64N(1e9))
		for _, p := range []string{model.PeriodDay, model.PeriodWeek, model.PeriodMonth} {
			q := &snapshot.Quota{Limit: 10, Period: p}
			c, _ := limit.Use(q, 0, now)
			end := limit.Ends(q, now)
			if !end.After(now) || limit.Used(q, c, end.Add(-1)) != 1 || limit.Used(q, c, end) != 0 {
				t.Fatalf("%s at %s: ends %s", p, now.UTC(), end)
			}
		}
	}
}

func TestOneMeterForManyLetsNoneThroughTwice(t *testing.T) {
	th, q := throttle(0.001, 100), &snapshot.Quota{Limit: 150, Period: model.PeriodDay}
	m := &limit.Meter{}
	var took, used atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if m.Take(th, noon) {
					took.Add(1)
				}
				if m.Use(q, noon) {
					used.Add(1)
				}
			}
		})
	}
	all.Wait()
	if took.Load() != 100 || used.Load() != 150 {
		t.Errorf("%d taken, %d used", took.Load(), used.Load())
	}
	m.Return(th)
	if !m.Take(th, noon) || m.Take(th, noon) {
		t.Error("what was given back is not there once")
	}
}

func BenchmarkTake(b *testing.B) {
	m, th := &limit.Meter{}, throttle(1e6, 1e6)
	b.ReportAllocs()
	for b.Loop() {
		m.Take(th, noon)
	}
}

func BenchmarkUse(b *testing.B) {
	m, q := &limit.Meter{}, &snapshot.Quota{Limit: 1e12, Period: model.PeriodMonth}
	b.ReportAllocs()
	for b.Loop() {
		m.Use(q, noon)
	}
}
