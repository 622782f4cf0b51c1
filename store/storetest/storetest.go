// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package storetest is the suite that every store must pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/store"
)

// Patience is how long the suite waits for anything.
const Patience = 30 * time.Second

// Harness makes the stores that the suite is run on.
type Harness struct {
	// Open returns an empty store, and closes it when the test ends.
	Open func(t *testing.T, l store.Limits) store.Store
	// Again returns another view of the same data: a second process on one
	// cluster, or the same folder after a restart (first is then closed). It
	// is nil for stores that have none.
	Again func(t *testing.T, first store.Store) store.Store
	// Shared says that Again leaves the first store open.
	Shared bool
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"a new store is empty", testEmpty},
		{"puts and deletes show together", testAtomic},
		{"conditions compare revisions", testConditions},
		{"a failed condition changes nothing", testFailedChange},
		{"wrong changes are refused", testInvalid},
		{"limits are kept", testLimits},
		{"input is copied", testCopies},
		{"a watch delivers each revision in order", testWatchOrder},
		{"a watch starts after any kept revision", testWatchFrom},
		{"a watch of an unknown revision starts with a reset", testWatchReset},
		{"a lagging watcher gets a reset", testWatchLag},
		{"a watch ends with its context", testWatchEnds},
		{"big documents are kept", testBig},
		{"2,000 documents are one change", testMany},
		{"a cancelled context is an error", testCancelled},
		{"a closed store refuses", testClose},
		{"concurrent writers are linearizable", testLinearizable},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, h) })
	}
	if h.Again != nil {
		t.Run("another view sees the same", func(t *testing.T) { testAgain(t, h) })
	}
}

func key(name string) store.Key { return store.Key{Kind: "Thing", Name: name} }

func put(name, data string, ifRevision int64) store.Put {
	return store.Put{Key: key(name), IfRevision: ifRevision, Data: []byte(data)}
}

func change(puts ...store.Put) store.Change {
	return store.Change{Puts: puts, IfRevision: store.Any}
}

func remove(name string, ifRevision int64) store.Change {
	return store.Change{Deletes: []store.Delete{{Key: key(name), IfRevision: ifRevision}}, IfRevision: store.Any}
}

func apply(t *testing.T, s store.Store, c store.Change) int64 {
	t.Helper()
	rev, err := s.Apply(t.Context(), c)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return rev
}

func load(t *testing.T, s store.Store) ([]store.Document, int64) {
	t.Helper()
	docs, rev, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return docs, rev
}

func next(t *testing.T, events <-chan store.Event) store.Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(Patience):
		t.Fatal("no event came")
	}
	panic("unreachable")
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, d)
	}
}

func document(name, data string, revision, created int64) store.Document {
	return store.Document{Key: key(name), Revision: revision, Created: created, Data: []byte(data)}
}

func testEmpty(t *testing.T, h Harness) {
	docs, rev := load(t, h.Open(t, store.Limits{}))
	if len(docs) != 0 || rev != 0 {
		t.Fatalf("Load = %d documents at %d, want none at 0", len(docs), rev)
	}
}

func testAtomic(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	if rev := apply(t, s, change(put("b", "1", 0), put("a", "1", 0), put("c", "1", 0))); rev != 1 {
		t.Fatalf("first revision = %d", rev)
	}
	c := change(put("b", "2", store.Any), put("d", "2", store.Any))
	c.Deletes = []store.Delete{{Key: key("a"), IfRevision: 1}, {Key: key("absent"), IfRevision: store.Any}}
	if rev := apply(t, s, c); rev != 2 {
		t.Fatalf("second revision = %d", rev)
	}
	docs, rev := load(t, s)
	same(t, "the state", docs, []store.Document{document("b", "2", 2, 1), document("c", "1", 1, 1), document("d", "2", 2, 2)})
	same(t, "the revision", rev, int64(2))

	apply(t, s, remove("b", store.Any))
	apply(t, s, change(put("b", "4", store.Absent)))
	docs, _ = load(t, s)
	same(t, "a document created again", docs[0], document("b", "4", 4, 4))
}

func testConditions(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	apply(t, s, change(put("a", "1", store.Absent)))
	apply(t, s, change(put("b", "1", store.Absent)))
	whole := func(rev int64) store.Change {
		return store.Change{Puts: []store.Put{put("a", "x", store.Any)}, IfRevision: rev}
	}
	for _, c := range []struct {
		name   string
		change store.Change
		key    store.Key
		found  int64
	}{
		{"create what exists", change(put("a", "x", store.Absent)), key("a"), 1},
		{"put with an older revision", change(put("b", "x", 1)), key("b"), 2},
		{"put with a newer revision", change(put("a", "x", 2)), key("a"), 1},
		{"put what does not exist with a revision", change(put("z", "x", 1)), key("z"), 0},
		{"delete with another revision", remove("a", 2), key("a"), 1},
		{"delete what does not exist with a revision", remove("z", 2), key("z"), 0},
		{"an older store revision", whole(1), store.Key{}, 2},
		{"a newer store revision", whole(3), store.Key{}, 2},
		{"an empty store", whole(0), store.Key{}, 2},
	} {
		_, err := s.Apply(t.Context(), c.change)
		var e *store.Error
		if !errors.As(err, &e) || !errors.Is(err, store.ErrConflict) || e.Kind != store.Conflict {
			t.Errorf("%s: error %v, want a conflict", c.name, err)
			continue
		}
		if e.Key != c.key || e.Found != c.found || e.Unknown {
			t.Errorf("%s: conflict on %q found %d, want %q found %d", c.name, e.Key, e.Found, c.key, c.found)
		}
	}
	apply(t, s, change(put("a", "2", 1)))
	apply(t, s, change(put("a", "3", 3)))
	apply(t, s, whole(4))
	apply(t, s, remove("b", 2))
	_, rev := load(t, s)
	same(t, "the revision", rev, int64(6))
}

func testFailedChange(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	apply(t, s, change(put("a", "1", 0)))
	before, _ := load(t, s)
	c := change(put("new", "x", 0), put("big", string(make([]byte, 2<<20)), 0), put("a", "x", 7))
	if _, err := s.Apply(t.Context(), c); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("error %v, want a conflict", err)
	}
	after, rev := load(t, s)
	same(t, "the state", after, before)
	same(t, "the revision", rev, int64(1))
}

func testInvalid(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	twice := change(put("a", "1", 0))
	twice.Deletes = []store.Delete{{Key: key("a"), IfRevision: store.Any}}
	for name, c := range map[string]store.Change{
		"empty change":            {IfRevision: store.Any},
		"no name":                 change(put("", "1", 0)),
		"no kind":                 change(store.Put{Key: store.Key{Name: "a"}}),
		"NUL in a name":           change(put("a\x00b", "1", 0)),
		"a name that is no UTF-8": change(put("a\xff", "1", 0)),
		"a key put twice":         change(put("a", "1", 0), put("a", "2", 0)),
		"a key put and deleted":   twice,
		"a negative condition":    change(put("a", "1", -2)),
		"a delete of the absent":  remove("a", store.Absent),
		"a negative store one":    {Puts: []store.Put{put("a", "1", 0)}, IfRevision: -2},
	} {
		var e *store.Error
		if _, err := s.Apply(t.Context(), c); !errors.As(err, &e) || e.Kind != store.Invalid {
			t.Errorf("%s: error %v, want invalid", name, err)
		}
	}
	if _, rev := load(t, s); rev != 0 {
		t.Errorf("revision %d after refused changes", rev)
	}
}

func testLimits(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{Name: 10, Document: 1000, Change: 3000, Total: 5000})
	big := string(make([]byte, 1000))
	for _, c := range []struct {
		name   string
		change store.Change
		want   error
	}{
		{"a long name", change(put("12345678901", "", 0)), store.ErrTooLarge},
		{"a large document", change(put("a", big+"x", 0)), store.ErrTooLarge},
		{"a large change", change(put("a", big, 0), put("b", big, 0), put("c", big, 0)), store.ErrTooLarge},
	} {
		_, err := s.Apply(t.Context(), c.change)
		var e *store.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Kind != store.Limited || e.Limit == 0 || e.Size <= e.Limit {
			t.Errorf("%s: error %#v", c.name, err)
		}
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		apply(t, s, change(put(n, big, 0)))
	}
	if _, err := s.Apply(t.Context(), change(put("e", big, 0))); !errors.Is(err, store.ErrFull) {
		t.Errorf("a full store: error %v", err)
	}
	apply(t, s, remove("a", store.Any))
	apply(t, s, change(put("e", big, 0)))
}

func testCopies(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	data := []byte("before")
	apply(t, s, change(store.Put{Key: key("a"), Data: data}))
	copy(data, "after!")
	docs, _ := load(t, s)
	same(t, "the stored data", string(docs[0].Data), "before")
}

func testWatchOrder(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	events, err := s.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	const n = 100
	go func() {
		for i := 1; i <= n; i++ {
			c := change(put("a", fmt.Sprint(i), store.Any), put(fmt.Sprintf("n%03d", i), "x", store.Absent))
			if i > 1 {
				c.Deletes = []store.Delete{{Key: key(fmt.Sprintf("n%03d", i-1)), IfRevision: store.Any}, {Key: key("absent"), IfRevision: store.Any}}
			}
			if _, err := s.Apply(t.Context(), c); err != nil {
				t.Errorf("Apply: %v", err)
				return
			}
		}
	}()
	for i := int64(1); i <= n; i++ {
		want := store.Event{Revision: i, Puts: []store.Document{
			document("a", fmt.Sprint(i), i, 1), document(fmt.Sprintf("n%03d", i), "x", i, i),
		}}
		if i > 1 {
			want.Deletes = []store.Key{key(fmt.Sprintf("n%03d", i-1))}
		}
		same(t, "the event", next(t, events), want)
	}
}

func testWatchFrom(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	for i := range 5 {
		apply(t, s, change(put(fmt.Sprint(i), "x", 0)))
	}
	for after := range int64(5) {
		events, err := s.Watch(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for want := after + 1; want <= 5; want++ {
			if e := next(t, events); e.Revision != want || e.Reset {
				t.Fatalf("after %d: got revision %d (reset %v), want %d", after, e.Revision, e.Reset, want)
			}
		}
	}
}

func testWatchReset(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	apply(t, s, change(put("b", "1", 0)))
	apply(t, s, change(put("a", "2", 0)))
	for _, after := range []int64{store.Any, 99} {
		events, err := s.Watch(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the event", next(t, events), store.Event{
			Revision: 2, Reset: true, Puts: []store.Document{document("a", "2", 2, 2), document("b", "1", 1, 1)},
		})
	}
	if _, err := s.Watch(t.Context(), -2); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Watch after -2: error %v", err)
	}
}

func testWatchLag(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	events, err := s.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	// More bytes than any store keeps for watchers, while nobody receives.
	const n = 20
	blob := string(bytes.Repeat([]byte("x"), 5<<20))
	for i := range n {
		apply(t, s, change(put("blob", blob+fmt.Sprint(i), store.Any)))
	}
	got := map[store.Key]store.Document{}
	resets, last := 0, int64(0)
	for last < n {
		e := next(t, events)
		if e.Reset {
			resets++
			clear(got)
		} else if e.Revision != last+1 {
			t.Fatalf("event %d follows %d without a reset", e.Revision, last)
		}
		for _, d := range e.Puts {
			got[d.Key] = d
		}
		last = e.Revision
	}
	if resets != 1 {
		t.Errorf("%d resets, want 1", resets)
	}
	docs, _ := load(t, s)
	if len(got) != 1 || !bytes.Equal(got[key("blob")].Data, docs[0].Data) {
		t.Error("the watcher did not arrive at the state")
	}
}

func testWatchEnds(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	idle, err := s.Watch(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	blocked, err := s.Watch(ctx, store.Any)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	closed(t, idle)
	closed(t, blocked)
}

func closed(t *testing.T, events <-chan store.Event) {
	t.Helper()
	deadline := time.After(Patience)
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatal("the watch did not end")
		}
	}
}

func testBig(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	big := func(seed byte, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*7+i>>11) ^ seed
		}
		return b
	}
	want := map[store.Key][]byte{}
	for i, n := range []int{5 << 20, 512<<10 - 1, 512 << 10, 512<<10 + 1, 1 << 20, 1<<20 + 511<<10} {
		k := key(fmt.Sprint(i))
		want[k] = big(byte(i), n)
		apply(t, s, change(store.Put{Key: k, Data: want[k]}, put("count", fmt.Sprint(i), store.Any)))
	}
	want[key("count")] = []byte("5")
	check := func(s store.Store) {
		docs, _ := load(t, s)
		for _, d := range docs {
			if !bytes.Equal(d.Data, want[d.Key]) {
				t.Errorf("%s differs", d.Key)
			}
		}
		if len(docs) != len(want) {
			t.Errorf("%d documents, want %d", len(docs), len(want))
		}
	}
	check(s)
	if h.Again != nil {
		check(h.Again(t, s))
	}
}

func testMany(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	const n = 2000
	var c store.Change
	c.IfRevision = store.Any
	pad := string(bytes.Repeat([]byte("p"), 900))
	for i := range n {
		c.Puts = append(c.Puts, put(fmt.Sprintf("%04d", i), fmt.Sprintf("%d %s", i, pad), 0))
	}
	if rev := apply(t, s, c); rev != 1 {
		t.Fatalf("revision %d, want 1", rev)
	}
	events, err := s.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if e := next(t, events); len(e.Puts) != n {
		t.Errorf("the event has %d puts", len(e.Puts))
	}
	docs, _ := load(t, s)
	for i, d := range docs {
		same(t, "the document", d, document(fmt.Sprintf("%04d", i), fmt.Sprintf("%d %s", i, pad), 1, 1))
	}
	same(t, "the number", len(docs), n)
}

func testCancelled(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Apply(ctx, change(put("a", "1", 0)))
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: %v", err)
	}
	if _, _, err := s.Load(ctx); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v", err)
	}
}

func testClose(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	apply(t, s, change(put("a", "1", 0)))
	idle, err := s.Watch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	closed(t, idle)
	if _, _, err := s.Load(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Load: %v", err)
	}
	if _, err := s.Apply(t.Context(), change(put("b", "1", 0))); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := s.Watch(t.Context(), 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch: %v", err)
	}
}

func testAgain(t *testing.T, h Harness) {
	s := h.Open(t, store.Limits{})
	for i := range 50 {
		apply(t, s, change(put(fmt.Sprint(i%7), fmt.Sprint(i), store.Any)))
	}
	want, wantRev := load(t, s)
	o := h.Again(t, s)
	got, rev := load(t, o)
	same(t, "the state", got, want)
	same(t, "the revision", rev, wantRev)
	if !h.Shared {
		return
	}
	events, err := o.Watch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	var onward <-chan store.Event
	for i := range int64(20) {
		from, to := s, o
		if i%2 == 1 {
			from, to = o, s
		}
		wrote := apply(t, from, change(put("turn", fmt.Sprint(i), store.Any)))
		if _, read := load(t, to); read != wrote {
			t.Fatalf("read revision %d after %d was written", read, wrote)
		}
		if e := next(t, events); e.Revision != wrote || e.Reset {
			t.Fatalf("event %d (reset %v), want %d", e.Revision, e.Reset, wrote)
		}
		if onward != nil {
			if e := next(t, onward); e.Revision != wrote || e.Reset {
				t.Fatalf("event %d (reset %v) on the other view, want %d", e.Revision, e.Reset, wrote)
			}
		}
		// A revision that one view told of can be watched from on the other.
		if onward, err = to.Watch(t.Context(), wrote); err != nil {
			t.Fatal(err)
		}
	}
}
