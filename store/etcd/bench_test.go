// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/store"
)

func many(n int) store.Change {
	c := store.Change{IfRevision: store.Any}
	pad := strings.Repeat("x", 900)
	for i := range n {
		c.Puts = append(c.Puts, store.Put{
			Key: store.Key{Kind: "Thing", Name: fmt.Sprintf("%05d", i)}, IfRevision: store.Any,
			Data: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, pad),
		})
	}
	return c
}

func BenchmarkApplySmall(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "s"), Options{Codec: testKey(b, 1)})
	for i := 0; b.Loop(); i++ {
		apply(b, s, small(fmt.Sprint(i%100), `{"spec":{"small":true}}`))
	}
}

func BenchmarkApply2000(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "s"), Options{Codec: testKey(b, 1)})
	c := many(2000)
	for b.Loop() {
		apply(b, s, c)
	}
}

func BenchmarkLoad10000(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "s"), Options{Codec: testKey(b, 1)})
	apply(b, s, many(10_000))
	for b.Loop() {
		if docs, _, err := s.Load(b.Context()); err != nil || len(docs) != 10_000 {
			b.Fatal(len(docs), err)
		}
	}
}

// BenchmarkOpen measures from nothing to ready, on a store of 10,000 documents
// and 500 changes since the checkpoint.
func BenchmarkOpen(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "s")
	o := Options{Codec: testKey(b, 1)}
	s := open(b, dir, o)
	apply(b, s, many(10_000))
	inTurn(b, s, func() { s.o.CheckpointChanges = 1 })
	if err := s.checkpoint(); err != nil {
		b.Fatal(err)
	}
	for i := range 500 {
		apply(b, s, small(fmt.Sprint(i), "{}"))
	}
	shut(b, s)
	var closing time.Duration
	for b.Loop() {
		s, err := Open(b.Context(), dir, o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		began := time.Now()
		shut(b, s)
		closing += time.Since(began)
		b.StartTimer()
	}
	b.ReportMetric(float64(closing.Milliseconds())/float64(b.N), "ms/close")
}
