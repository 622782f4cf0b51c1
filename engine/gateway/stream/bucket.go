// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import "time"

// Streams of a connection that its client may give up.
const (
	givenUpBurst = 400
	givenUpRate  = 50 // a second
)

// Bucket bounds how often something may happen.
type Bucket struct {
	level, burst, rate float64
	at                 time.Time
}

// NewBucket is a full Bucket that refills by rate a second.
func NewBucket(burst, rate float64) Bucket {
	return Bucket{level: burst, burst: burst, rate: rate, at: time.Now()}
}

// GivenUp is the Bucket of the streams that a client gives up.
func GivenUp() Bucket { return NewBucket(givenUpBurst, givenUpRate) }

// Earn puts n back.
func (b *Bucket) Earn(n float64) { b.level = min(b.level+n, b.burst) }

// Take takes one, if there is one. The clock is looked at only when there is none.
func (b *Bucket) Take() bool {
	if b.Empty() {
		now := time.Now()
		b.Earn(now.Sub(b.at).Seconds() * b.rate)
		b.at = now
		if b.Empty() {
			return false
		}
	}
	b.level--
	return true
}

// Empty reports whether there is none but for what time may have brought.
func (b *Bucket) Empty() bool { return b.level < 1 }
