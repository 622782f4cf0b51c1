// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"postern.dev/postern/store"
)

// operation is one call in a history. Start and end are positions in the
// order in which calls began and returned.
type operation struct {
	start, end int64
	// A write sets register to value if it has revision expect.
	register int
	value    string
	expect   int64
	// revision is the result, or for a conflict the revision found.
	revision int64
	conflict bool
	// read is the result of a Load.
	read map[string]store.Document
}

// testLinearizable lets writers and readers race on a few registers. The store
// numbers its writes, so the only order in which the history can be explained
// is known, and checking it is exact: the writes replayed by revision must
// meet their conditions; a call must not be ordered before one that returned
// before it began; a Load must show exactly the writes up to its revision; a
// conflict must report a revision that the register had during the call.
func testLinearizable(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	stores := []store.Store{s}
	if h.Shared {
		stores = append(stores, h.Again(t, s))
	}
	const workers, calls, registers = 6, 40, 3
	var clock atomic.Int64
	var mu sync.Mutex
	var history []operation
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			st := stores[w%len(stores)]
			known := make([]int64, registers)
			for i := range calls {
				op := operation{register: rnd.IntN(registers), start: clock.Add(1)}
				if rnd.IntN(4) == 0 {
					docs, rev, err := st.Load(t.Context())
					op.end = clock.Add(1)
					if err != nil {
						t.Errorf("Load: %v", err)
						return
					}
					op.revision, op.read = rev, map[string]store.Document{}
					for _, d := range docs {
						op.read[d.Name] = d
						if r, err := strconv.Atoi(d.Name); err == nil {
							known[r] = d.Revision
						}
					}
				} else {
					op.value, op.expect = fmt.Sprintf("%d.%d", w, i), known[op.register]
					// The second document must never be seen apart from the first.
					c := change(put(fmt.Sprint(op.register), op.value, op.expect), put(fmt.Sprintf("copy%d", op.register), op.value, store.Any))
					rev, err := st.Apply(t.Context(), c)
					op.end = clock.Add(1)
					var e *store.Error
					switch {
					case err == nil:
						op.revision = rev
					case errors.As(err, &e) && e.Kind == store.Conflict:
						op.conflict, op.revision = true, e.Found
					default:
						t.Errorf("Apply: %v", err)
						return
					}
					known[op.register] = op.revision
				}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if !t.Failed() {
		for _, problem := range explain(history, registers) {
			t.Error(problem)
		}
	}
}

// explain returns what is wrong with a history.
func explain(history []operation, registers int) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var writes []operation
	for _, op := range history {
		if op.read == nil && !op.conflict {
			writes = append(writes, op)
		}
	}
	slices.SortFunc(writes, func(a, b operation) int { return int(a.revision - b.revision) })
	// at[r][n] is the revision of register r once revision n is done.
	at := make([][]int64, registers)
	values := map[int64]string{}
	for r := range at {
		at[r] = []int64{0}
	}
	for i, w := range writes {
		if w.revision != int64(i)+1 {
			say("write %d of the order has revision %d", i+1, w.revision)
			return problems
		}
		for r := range at {
			at[r] = append(at[r], at[r][i])
		}
		if now := at[w.register][i]; now != w.expect {
			say("revision %d wrote register %d, expecting %d when it was %d", w.revision, w.register, w.expect, now)
		}
		at[w.register][i+1] = w.revision
		values[w.revision] = w.value
	}
	// Nothing may see less than what returned before it began, nor more than
	// what began before it returned.
	for _, op := range history {
		low, high := int64(0), int64(0)
		for _, o := range history {
			if !o.conflict && o.end < op.start {
				low = max(low, o.revision)
			}
		}
		for _, w := range writes {
			if w.start < op.end {
				high = max(high, w.revision)
			}
		}
		switch {
		case op.conflict:
			ok := false
			for n := low; n <= high; n++ {
				ok = ok || at[op.register][n] == op.revision && op.revision != op.expect
			}
			if !ok {
				say("a conflict found register %d at %d, which it was not between revisions %d and %d", op.register, op.revision, low, high)
			}
		case op.read != nil:
			if op.revision < low || op.revision > high {
				say("a load read revision %d, possible were %d to %d", op.revision, low, high)
				continue
			}
			for r := range at {
				want := at[r][op.revision]
				d, twin := op.read[fmt.Sprint(r)], op.read[fmt.Sprintf("copy%d", r)]
				if d.Revision != want || string(d.Data) != values[want] || twin.Revision != want || string(twin.Data) != values[want] {
					say("a load at %d read register %d as %q and %q (revisions %d, %d), want %q (%d)",
						op.revision, r, d.Data, twin.Data, d.Revision, twin.Revision, values[want], want)
				}
			}
		default:
			if op.revision <= low {
				say("a write got revision %d after %d had been seen", op.revision, low)
			}
		}
	}
	return problems
}
