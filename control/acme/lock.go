// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/store"
)

// locks are held in the store, so that the servers of one cluster take turns.
// A holder writes its lock anew now and then; one that has not been written for
// a whole lease, by the clock of whoever waits, is taken over. No two clocks
// are ever compared.
type locks struct {
	docs  Documents
	lease time.Duration
	now   func() time.Time

	mu   sync.Mutex
	held map[string]*holding
}

// holding is a lock that this process holds.
type holding struct {
	owner string
	stop  context.CancelFunc
	done  chan struct{}
	// revision is that of the last write; read when done is closed.
	revision int64
}

// tenure is what stands in the store.
type tenure struct {
	Owner string `json:"owner"`
}

func newLocks(docs Documents, lease time.Duration, now func() time.Time) *locks {
	return &locks{docs: docs, lease: lease, now: now, held: map[string]*holding{}}
}

// Lock waits until the lock is this process's, or ctx ends.
func (l *locks) Lock(ctx context.Context, name string) error {
	owner := rand.Text()
	var seen int64 // revision of the holder's last write that was seen
	var since time.Time
	poll := time.NewTicker(max(l.lease/60, time.Millisecond))
	defer poll.Stop()
	for {
		d, taken := l.docs.Head().Find(registry.KindLock, name)
		condition := store.Absent
		if taken {
			if d.Revision != seen {
				seen, since = d.Revision, l.now()
			}
			condition = d.Revision
		}
		if !taken || l.now().Sub(since) > l.lease {
			revision, err := l.write(ctx, name, owner, condition)
			if err == nil {
				l.keep(ctx, name, &holding{owner: owner, revision: revision})
				return nil
			}
			if !errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("lock %s: %w", name, err)
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("lock %s: another server holds it: %w", name, ctx.Err())
		}
	}
}

func (l *locks) write(ctx context.Context, name, owner string, condition int64) (int64, error) {
	data, err := json.Marshal(tenure{owner})
	if err != nil {
		return 0, err
	}
	return l.docs.Keep(ctx, store.Change{
		IfRevision: store.Any,
		Puts:       []store.Put{{Key: store.Key{Kind: registry.KindLock, Name: name}, IfRevision: condition, Data: data}},
	})
}

// keep writes the lock anew until it is released or was taken over.
func (l *locks) keep(ctx context.Context, name string, h *holding) {
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	h.done = make(chan struct{})
	l.mu.Lock()
	l.held[name] = h
	l.mu.Unlock()
	go func() {
		defer close(h.done)
		t := time.NewTicker(l.lease / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			revision, err := l.write(ctx, name, h.owner, h.revision)
			switch {
			case err == nil:
				h.revision = revision
			case errors.Is(err, store.ErrConflict):
				return // it was taken over: what is written now is another's
			}
		}
	}()
}

// Unlock gives back what Lock took. A lock that was taken over meanwhile is
// left to its new holder.
func (l *locks) Unlock(ctx context.Context, name string) error {
	l.mu.Lock()
	h := l.held[name]
	delete(l.held, name)
	l.mu.Unlock()
	if h == nil {
		return fmt.Errorf("unlock %s: it is not held", name)
	}
	h.stop()
	<-h.done
	key := store.Key{Kind: registry.KindLock, Name: name}
	// A write that was cut off may have been made all the same.
	if d, ok := l.docs.Head().Find(key.Kind, key.Name); ok {
		var t tenure
		if json.Unmarshal(d.Data, &t) == nil && t.Owner == h.owner {
			h.revision = max(h.revision, d.Revision)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	_, err := l.docs.Keep(ctx, store.Change{IfRevision: store.Any, Deletes: []store.Delete{{Key: key, IfRevision: h.revision}}})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("unlock %s: %w; it ends by itself", name, err)
	}
	return nil
}
