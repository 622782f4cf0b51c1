// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreOffByLessThanOnePercent(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 20000 {
		d := time.Duration(rnd.Int64N(1 << (4 + rnd.IntN(50))))
		h.Record(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		if got := h.Quantile(q); got < want || float64(got) > 1.01*float64(want) {
			t.Errorf("quantile %v is %d, of a sorted list %d", q, got, want)
		}
	}
}

func TestEveryDurationFallsIntoABucketThatEndsBehindIt(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 257, 1 << 20, 1<<20 - 1, 1<<63 - 1} {
		i := bucket(v)
		if i >= rows*sub {
			t.Fatalf("%d is in bucket %d of %d", v, i, rows*sub)
		}
		if highest(i) < v || (i > 0 && highest(i-1) >= v) {
			t.Errorf("%d is in bucket %d, which ends at %d; the one before at %d", v, i, highest(i), highest(max(i-1, 0)))
		}
	}
}

func TestHistogramsAddUp(t *testing.T) {
	var a, b Histogram
	a.Record(time.Millisecond)
	b.Record(time.Second)
	b.Record(-1)
	a.Add(&b)
	if a.Count() != 3 || a.Quantile(0) != 0 || a.Quantile(1) < time.Second {
		t.Errorf("%d durations from %v to %v", a.Count(), a.Quantile(0), a.Quantile(1))
	}
}
