// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/model"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

// flaky is a store whose watches a test breaks, refuses and feeds.
type flaky struct {
	store.Store
	mu      sync.Mutex
	refused error // what Watch and Apply answer
	events  chan store.Event
	cut     context.CancelFunc
	watches int
}

func (f *flaky) Watch(ctx context.Context, after int64) (<-chan store.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches++
	if f.refused != nil {
		return nil, f.refused
	}
	ctx, f.cut = context.WithCancel(ctx)
	inner, err := f.Store.Watch(ctx, after)
	if err != nil {
		return nil, err
	}
	out := make(chan store.Event)
	go func() {
		defer close(out)
		for {
			var e store.Event
			var ok bool
			select {
			case e, ok = <-inner:
			case e, ok = <-f.events:
			}
			if !ok {
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (f *flaky) Apply(ctx context.Context, c store.Change) (int64, error) {
	f.mu.Lock()
	err := f.refused
	f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return f.Store.Apply(ctx, c)
}

func (f *flaky) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = err
	if f.cut != nil {
		f.cut()
	}
}

// inBubble runs a test with a registry on a flaky store, on fake time.
func inBubble(t *testing.T, test func(t *testing.T, w *world, f *flaky)) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New(store.Limits{})
		f := &flaky{Store: inner, events: make(chan store.Event)}
		t.Cleanup(func() { _ = inner.Close() })
		test(t, open(t, f, Ports{}), f)
	})
}

func stored(t *testing.T, o model.Object) store.Put {
	t.Helper()
	data, err := model.EncodeStored(o)
	if err != nil {
		t.Fatal(err)
	}
	return store.Put{Key: keyOf(model.RefOf(o)), IfRevision: store.Any, Data: data}
}

func TestWatchThatEndsIsTakenUpAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, f *flaky) {
		if _, err := w.Update(t.Context(), false, put(backend("a"))); err != nil {
			t.Fatal(err)
		}
		away := store.NewError(store.ErrUnavailable, "no leader", nil)
		f.refuse(away)
		<-time.After(time.Minute) // fake time
		synctest.Wait()
		if !errors.Is(w.Trouble(), store.ErrUnavailable) {
			t.Errorf("trouble: %v", w.Trouble())
		}
		f.mu.Lock()
		if f.watches < 5 || f.watches > 30 {
			t.Errorf("%d attempts in a minute", f.watches)
		}
		f.mu.Unlock()
		_, err := w.Update(t.Context(), false, put(backend("b")))
		if kindOf(err) != model.Unavailable {
			t.Errorf("a change meanwhile: %v", err)
		}
		// Another process changes the store, then it answers here too.
		if _, err := f.Store.Apply(t.Context(), store.Change{IfRevision: store.Any, Puts: []store.Put{stored(t, backend("c"))}}); err != nil {
			t.Fatal(err)
		}
		f.refuse(nil)
		<-time.After(10 * time.Second) // fake time
		synctest.Wait()
		if w.Trouble() != nil || !w.Head().Set.Has(model.Ref{Kind: model.KindBackend, Name: "c"}) {
			t.Errorf("afterwards: trouble %v, %d resources", w.Trouble(), w.Head().Set.Len())
		}
		if _, err := w.Update(t.Context(), false, put(backend("b"))); err != nil {
			t.Error(err)
		}
	})
}

func TestRestoredBackupReplacesEverything(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, f *flaky) {
		for _, name := range []string{"a", "b", "c"} {
			if _, err := w.Update(t.Context(), false, put(network(name))); err != nil {
				t.Fatal(err)
			}
		}
		restored := stored(t, network("z"))
		// The backup is older: revisions begin again below those that were.
		f.events <- store.Event{Reset: true, Revision: 1, Puts: []store.Document{{Key: restored.Key, Revision: 1, Data: restored.Data}}}
		synctest.Wait()
		served := w.served.Load()
		if len(served.Networks) != 1 || served.Networks["z"] == nil || served.Revision != 1 {
			t.Errorf("served: revision %d, %d Networks", served.Revision, len(served.Networks))
		}
	})
}

func TestLostAnswerIsToldAsSuch(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, f *flaky) {
		lost := store.NewError(store.ErrUnavailable, "", nil)
		lost.Unknown = true
		f.refuse(lost)
		_, err := w.Update(t.Context(), false, put(backend("a")))
		if kindOf(err) != model.Unavailable || !strings.Contains(err.Error(), "may or may not be stored") {
			t.Errorf("got %v", err)
		}
	})
}

func TestStoreErrorsKeepTheirKind(t *testing.T) {
	for reason, want := range map[error]model.ErrorKind{
		store.ErrInvalid: model.Invalid, store.ErrConflict: model.Conflict, store.ErrTooLarge: model.Limited, store.ErrFull: model.Limited,
		store.ErrUnavailable: model.Unavailable, store.ErrWrongKey: model.Denied, store.ErrCorrupt: model.Internal,
		errors.New("other"): model.Internal,
	} {
		if got := kindOf(storeError(store.NewError(reason, "detail", nil))); got != want {
			t.Errorf("%v: %s, want %s", reason, got, want)
		}
	}
	if got := kindOf(storeError(context.DeadlineExceeded)); got != model.Unavailable {
		t.Errorf("a time-out: %s", got)
	}
}
