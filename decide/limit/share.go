// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"time"

	"postern.dev/postern/snapshot"
)

// Sharers is among how many at most a limit is shared.
const Sharers = 64

// Counted returns what was counted here alone: the tokens that were taken, ever,
// and the requests of the period. It may be short of what is just being counted.
func (m *Meter) Counted() (taken int64, used Count) {
	used = Count(m.count.Load())
	if o := m.others.Load(); o>>countBits == uint64(used)>>countBits {
		used -= Count(min(o&countMask, uint64(used)&countMask))
	}
	return m.taken.Load(), used
}

// Charge counts what others, who count the same, have let through by now: tokens,
// and requests of a period. Tokens that are not there any more are owed. One at a
// time may call it.
func (m *Meter) Charge(taken int64, used Count, now time.Time) {
	if taken > 0 {
		if m.owed.Load() == 0 {
			m.since.Store(now.UnixNano())
		}
		m.owed.Add(taken)
		if t := m.last.Load(); t != nil {
			m.settle(t, now.UnixNano())
		}
	}
	if uint64(used)&countMask > 0 {
		charge(m.others.Load, m.others.CompareAndSwap, uint64(used))
		charge(m.count.Load, m.count.CompareAndSwap, uint64(used))
	}
}

// charge adds requests of a period, unless a later one has begun.
func charge(load func() uint64, swap func(was, is uint64) bool, used uint64) {
	for {
		was := load()
		is := used
		switch {
		case was>>countBits > used>>countBits:
			return
		case was>>countBits == used>>countBits:
			is = used>>countBits<<countBits | min(was&countMask+used&countMask, countMask)
		}
		if swap(was, is) {
			return
		}
	}
}

// Grown is by how many requests a count has grown since an earlier one, in the
// period of c.
func Grown(since, c Count) Count {
	n, had := uint64(c)&countMask, uint64(since)&countMask
	if uint64(since)>>countBits != uint64(c)>>countBits {
		had = 0
	}
	return Count(uint64(c)>>countBits<<countBits | (n - min(n, had)))
}

// Requests is how many a count has, of whichever period.
func (c Count) Requests() int64 { return int64(uint64(c) & countMask) }

// settle takes what is owed out of the bucket. It reports whether all is paid.
func (m *Meter) settle(t *snapshot.Throttle, now int64) bool {
	if n := m.owed.Swap(0); n > 0 {
		for {
			b := m.bucket.Load()
			full := max(b, m.since.Load()) + min(n, sharedOnce(t))*t.Interval
			if empty := full - window(t); empty > now {
				m.owe(empty)
			}
			if m.bucket.CompareAndSwap(b, full) {
				break
			}
		}
	}
	d := m.debt.Load()
	if d == 0 {
		return true
	}
	if longest := now + sharedOnce(t)*t.Interval; d > longest && m.debt.CompareAndSwap(d, longest) {
		d = longest
	}
	if now < d {
		return false
	}
	// The bucket has been filling since the debt was paid.
	for full := d + window(t); ; {
		b := m.bucket.Load()
		if b >= full && b <= now+window(t) || m.bucket.CompareAndSwap(b, full) {
			break
		}
	}
	m.debt.CompareAndSwap(d, 0)
	return true
}

// owe is in debt until a time.
func (m *Meter) owe(until int64) {
	for {
		d := m.debt.Load()
		if d >= until || m.debt.CompareAndSwap(d, until) {
			return
		}
	}
}

// sharedOnce is how many tokens the others can have taken unheard, generously: no
// more is owed, so that a throttle that has become narrower keeps nobody out for
// what was let through before.
func sharedOnce(t *snapshot.Throttle) int64 { return Sharers * (int64(t.Burst) + int64(2*t.Rate) + 1) }
