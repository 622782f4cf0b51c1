// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package state is the part every store shares once a change is ordered: the
// documents at one revision, the conditions of a change, and the last events
// for those who watch.
package state

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"postern.dev/postern/store"
)

// Bounds of the events kept for watchers. A watcher that falls further behind
// gets a Reset, so no queue grows with the slowest receiver.
const (
	keepEvents = 1024
	keepBytes  = 32 << 20
)

// State holds documents and recent events. It is safe for concurrent use.
type State struct {
	limits store.Limits

	mu       sync.Mutex
	revision int64
	docs     map[store.Key]store.Document
	size     int64

	// events are contiguous: events[i].Revision == since+1+i.
	events []store.Event
	sizes  []int64
	bytes  int64
	since  int64
	// epoch grows with each Replace: positions of an older epoch are void even
	// where their revision seems to fit.
	epoch int

	changed chan struct{} // closed and replaced at each change
	closed  chan struct{}
	isDown  bool
	pumps   sync.WaitGroup
}

// New returns an empty state at revision 0.
func New(l store.Limits) *State {
	return &State{
		limits:  l.WithDefaults(),
		docs:    map[store.Key]store.Document{},
		changed: make(chan struct{}),
		closed:  make(chan struct{}),
	}
}

// Revision returns the revision of the last change.
func (s *State) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// Size returns what all documents count towards the limit.
func (s *State) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Documents returns all documents sorted by key, and their revision.
func (s *State) Documents() ([]store.Document, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sorted(), s.revision
}

func (s *State) sorted() []store.Document {
	out := make([]store.Document, 0, len(s.docs))
	for _, d := range s.docs {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b store.Document) int { return a.Key.Compare(b.Key) })
	return out
}

// Check reports whether the conditions of a valid change hold now.
func (s *State) Check(c store.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.IfRevision != store.Any && c.IfRevision != s.revision {
		return conflict(store.Key{}, c.IfRevision, s.revision)
	}
	size := s.size
	for _, p := range c.Puts {
		d, ok := s.docs[p.Key]
		if p.IfRevision != store.Any && p.IfRevision != d.Revision {
			return conflict(p.Key, p.IfRevision, d.Revision)
		}
		if ok {
			size -= store.Size(p.Key, d.Data)
		}
		size += store.Size(p.Key, p.Data)
	}
	for _, k := range c.Deletes {
		d, ok := s.docs[k.Key]
		if k.IfRevision != store.Any && k.IfRevision != d.Revision {
			return conflict(k.Key, k.IfRevision, d.Revision)
		}
		if ok {
			size -= store.Size(k.Key, d.Data)
		}
	}
	// A change that shrinks the store passes even above the limit: it is the
	// way out.
	if size > s.limits.Total && size > s.size {
		e := store.NewError(store.ErrFull, "all documents together", nil)
		e.Size, e.Limit = size, s.limits.Total
		return e
	}
	return nil
}

func conflict(k store.Key, want, found int64) error {
	detail := fmt.Sprintf("revision %d was demanded, it has %d; read it again", want, found)
	switch {
	case k == store.Key{}:
		detail = fmt.Sprintf("store revision %d was demanded, it is at %d; load it again", want, found)
	case want == store.Absent:
		detail = fmt.Sprintf("it exists already, with revision %d", found)
	case found == 0:
		detail = fmt.Sprintf("revision %d was demanded, but it does not exist", want)
	}
	e := store.NewError(store.ErrConflict, detail, nil)
	e.Key, e.Found = k, found
	return e
}

// Advance makes a change the next revision, whatever its conditions, and
// returns that revision. It copies the data.
func (s *State) Advance(c store.Change) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	e := store.Event{Revision: s.revision}
	n := int64(0)
	for _, p := range c.Puts {
		d := store.Document{Key: p.Key, Revision: s.revision, Created: s.revision, Data: bytes.Clone(p.Data)}
		if old, ok := s.docs[p.Key]; ok {
			d.Created = old.Created
			s.size -= store.Size(p.Key, old.Data)
		}
		s.docs[p.Key] = d
		s.size += store.Size(p.Key, d.Data)
		n += store.Size(p.Key, d.Data)
		e.Puts = append(e.Puts, d)
	}
	for _, k := range c.Deletes {
		old, ok := s.docs[k.Key]
		if !ok {
			continue
		}
		delete(s.docs, k.Key)
		s.size -= store.Size(k.Key, old.Data)
		n += store.Size(k.Key, nil)
		e.Deletes = append(e.Deletes, k.Key)
	}
	s.events, s.sizes, s.bytes = append(s.events, e), append(s.sizes, n), s.bytes+n
	drop := 0
	for len(s.events)-drop > keepEvents || (s.bytes > keepBytes && len(s.events)-drop > 1) {
		s.bytes -= s.sizes[drop]
		drop++
	}
	if drop > 0 {
		s.since += int64(drop)
		// Delete clears the tail, so dropped documents are not kept alive.
		s.events, s.sizes = slices.Delete(s.events, 0, drop), slices.Delete(s.sizes, 0, drop)
	}
	s.wake()
	return s.revision
}

// Replace sets the whole state, as after a relist. Every watcher gets a Reset.
func (s *State) Replace(revision int64, docs []store.Document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.docs, s.size = make(map[store.Key]store.Document, len(docs)), 0
	for _, d := range docs {
		s.docs[d.Key] = d
		s.size += store.Size(d.Key, d.Data)
	}
	s.revision, s.since, s.epoch = revision, revision, s.epoch+1
	s.events, s.sizes, s.bytes = nil, nil, 0
	s.wake()
}

func (s *State) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Watch implements store.Store. The watcher pulls from the events kept: it
// holds a position and at most one event.
func (s *State) Watch(ctx context.Context, after int64) (<-chan store.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDown {
		return nil, store.NewError(store.ErrClosed, "", nil)
	}
	if after < store.Any {
		return nil, store.NewError(store.ErrInvalid, "watch after a negative revision", nil)
	}
	out := make(chan store.Event)
	epoch := s.epoch
	s.pumps.Go(func() {
		defer close(out)
		for {
			e, changed := s.next(&after, &epoch)
			if changed != nil {
				select {
				case <-changed:
					continue
				case <-ctx.Done():
					return
				case <-s.closed:
					return
				}
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			case <-s.closed:
				return
			}
		}
	})
	return out, nil
}

// next returns the event after the position and moves it, or the channel that
// tells when to ask again.
func (s *State) next(after *int64, epoch *int) (store.Event, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *epoch != s.epoch || *after < s.since || *after > s.revision {
		*after, *epoch = s.revision, s.epoch
		return store.Event{Revision: s.revision, Puts: s.sorted(), Reset: true}, nil
	}
	if *after == s.revision {
		return store.Event{}, s.changed
	}
	e := s.events[*after-s.since]
	*after = e.Revision
	// Receivers own the slices, though not the data.
	e.Puts, e.Deletes = slices.Clone(e.Puts), slices.Clone(e.Deletes)
	return e, nil
}

// Closed reports whether Close was called.
func (s *State) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isDown
}

// Close ends all watches and waits for them.
func (s *State) Close() {
	s.mu.Lock()
	if !s.isDown {
		s.isDown = true
		close(s.closed)
	}
	s.mu.Unlock()
	s.pumps.Wait()
}
