// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package load sends requests over many connections and tells how long each
// took. In a closed loop a connection sends when its answer has come, as fast
// as it goes. At a fixed rate requests fall due by the clock, whatever became
// of those before, and are timed from then: a gateway that stalls is charged
// for every request that had to wait, not for one a connection.
package load

import (
	"math/bits"
	"time"
)

// Each power of two is cut into this many buckets, so that a quantile is off by
// less than 1 %.
const (
	subBits = 7
	sub     = 1 << subBits
	rows    = 64 - subBits
)

// Histogram counts durations. It is of one size, whatever it counts.
type Histogram struct {
	counts [rows * sub]uint64
	n      uint64
}

// Record counts one duration.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.n++
}

// Add counts what another has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// Count says how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile is a duration that the share q, from 0 to 1, of those recorded do
// not exceed; 0 if none was.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.n)), h.n-1)
	for i, c := range h.counts {
		if rank < c {
			return time.Duration(highest(i))
		}
		rank -= c
	}
	return time.Duration(highest(len(h.counts) - 1))
}

// bucket is where v is counted: below 2*sub each value has a bucket of its own,
// beyond that the leading bits tell.
func bucket(v uint64) int {
	if v < sub {
		return int(v)
	}
	row := bits.Len64(v) - subBits // 1 and up
	return row*sub + int(v>>(row-1)) - sub
}

// highest is the largest value that falls into a bucket.
func highest(i int) uint64 {
	if i < sub {
		return uint64(i)
	}
	row := i / sub
	return uint64(i%sub+sub+1)<<(row-1) - 1
}
