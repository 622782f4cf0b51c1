// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package limit decides whether one more request is let through a throttle or a
// quota. The decisions are pure functions of a state and the time; Meter is that
// state where many ask at once. Whoever serves requests owns the Meters.
package limit

import (
	"time"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// The codes of this package's decisions.
const (
	CodeOK        = "limit/ok"
	CodeThrottled = "limit/throttled"
	CodeQuota     = "limit/quota"
)

// Bucket is the state of a throttle: the time, in nanoseconds of the Unix epoch,
// at which all its tokens will be back. The zero Bucket is full.
type Bucket int64

// Take takes a token at now and returns the bucket as it is then. Without one
// that is as it was, unless no bucket is that empty at now: it then fills from
// now on.
func Take(t *snapshot.Throttle, b Bucket, now int64) (Bucket, bool) {
	at := b.at(t, now)
	if full := at + t.Interval; full-now <= window(t) && t.Burst > 0 {
		return Bucket(full), true
	}
	return min(b, Bucket(at)), false
}

// Tokens is how many there are at now.
func Tokens(t *snapshot.Throttle, b Bucket, now int64) int {
	if t.Interval == 0 {
		return t.Burst
	}
	return int((window(t) - (b.at(t, now) - now)) / t.Interval)
}

// window is how long it takes to fill an empty bucket.
func window(t *snapshot.Throttle) int64 { return int64(t.Burst) * t.Interval }

// at is when all tokens will be back. That is never further away than it takes
// to fill an empty bucket: a clock that was set back makes nobody wait longer,
// nor does a throttle that has become narrower.
func (b Bucket) at(t *snapshot.Throttle, now int64) int64 {
	return min(max(int64(b), now), now+window(t))
}

// Count is the state of a quota: a period, and how many requests have come in it.
type Count uint64

const (
	countBits = 40
	countMask = 1<<countBits - 1
)

// Use counts a request at now, unless the quota of the period is used up.
func Use(q *snapshot.Quota, c Count, now time.Time) (Count, bool) {
	used := Used(q, c, now)
	if used >= q.Limit {
		return c, false
	}
	return Count(period(q, now)<<countBits | uint64(used+1)), true
}

// Used is how many requests have come in the period of now.
func Used(q *snapshot.Quota, c Count, now time.Time) int64 {
	if uint64(c)>>countBits != period(q, now) {
		return 0
	}
	return int64(uint64(c) & countMask)
}

// Full is the state of a quota that is used up at now.
func Full(q *snapshot.Quota, now time.Time) Count {
	return Count(period(q, now)<<countBits | uint64(q.Limit))
}

// Ends is when the next period begins.
func Ends(q *snapshot.Quota, now time.Time) time.Time {
	now = now.UTC()
	y, m, d := now.Date()
	switch q.Period {
	case model.PeriodMonth:
		return time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
	case model.PeriodWeek:
		return time.Date(y, m, d+7-(int(now.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
	}
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

// epochDay is how many days into a week the epoch was, a Thursday.
const epochDay = 3

// period numbers the period that now is in. It is never 0, so that the zero
// Count is of none.
func period(q *snapshot.Quota, now time.Time) uint64 {
	const day = 24 * 60 * 60
	days := now.Unix() / day
	switch q.Period {
	case model.PeriodMonth:
		return uint64(month(days)) & (1<<(64-countBits) - 1)
	case model.PeriodWeek:
		return uint64((days+epochDay)/7+1) & (1<<(64-countBits) - 1)
	}
	return uint64(days+1) & (1<<(64-countBits) - 1)
}

// month numbers the month of a day, counted from the epoch. Years begin in March
// here, so that a leap day is the last of one, and eras of 400 years repeat; it
// takes a fifth of the time of time.Date.
func month(day int64) int64 {
	const era = 146097
	d := day + 719468 // since 0000-03-01
	e := d / era
	d -= e * era
	year := (d - d/1460 + d/36524 - d/146096) / 365
	d -= 365*year + year/4 - year/100
	return (e*400+year)*12 + (5*d+2)/153
}
