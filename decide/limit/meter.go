// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"sync/atomic"
	"time"

	"postern.dev/postern/snapshot"
)

// Meter counts the requests of one key or Stage. Everybody may ask at once; nobody
// waits. The zero Meter has seen none.
type Meter struct {
	bucket atomic.Int64
	count  atomic.Uint64

	// taken is how many tokens were taken here; owed how many were elsewhere, since
	// a time, that are yet to be taken out of bucket; debt until when more was than
	// there were, and last the throttle that was asked for last.
	taken, owed, since, debt atomic.Int64
	last                     atomic.Pointer[snapshot.Throttle]
	// others is what of count was counted elsewhere.
	others atomic.Uint64
}

// NewMeter returns a Meter in a given state.
func NewMeter(b Bucket, c Count) *Meter {
	m := &Meter{}
	m.bucket.Store(int64(b))
	m.count.Store(uint64(c))
	return m
}

// State returns what the Meter has counted.
func (m *Meter) State() (Bucket, Count) {
	return Bucket(m.bucket.Load()), Count(m.count.Load())
}

// Take takes a token.
func (m *Meter) Take(t *snapshot.Throttle, now time.Time) bool {
	n := now.UnixNano()
	if m.last.Load() != t {
		m.last.Store(t)
	}
	if (m.owed.Load() > 0 || m.debt.Load() != 0) && !m.settle(t, n) {
		return false
	}
	for {
		b := m.bucket.Load()
		next, ok := Take(t, Bucket(b), n)
		if int64(next) == b || m.bucket.CompareAndSwap(b, int64(next)) {
			if ok {
				m.taken.Add(1)
			}
			return ok
		}
	}
}

// Return gives back a token: what took it was refused by something else.
func (m *Meter) Return(t *snapshot.Throttle) {
	m.bucket.Add(-t.Interval)
	m.taken.Add(-1)
}

// Use counts a request.
func (m *Meter) Use(q *snapshot.Quota, now time.Time) bool {
	for {
		c := m.count.Load()
		next, ok := Use(q, Count(c), now)
		if !ok {
			return false
		}
		if m.count.CompareAndSwap(c, uint64(next)) {
			return true
		}
	}
}

// Forget counts a request no longer that Use counted at now: it was refused by
// something else.
func (m *Meter) Forget(q *snapshot.Quota, now time.Time) {
	for {
		c := m.count.Load()
		if Used(q, Count(c), now) == 0 || m.count.CompareAndSwap(c, c-1) {
			return // or a new period has begun
		}
	}
}
