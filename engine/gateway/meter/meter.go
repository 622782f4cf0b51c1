// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package meter keeps what the requests of keys and Stages have used up, from
// one snapshot to the next. There is a Meter for each that a snapshot names, and
// none for callers that nobody knows: what it takes is bounded by the
// configuration.
package meter

import (
	"sync"
	"sync/atomic"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/snapshot"
)

// Table holds the Meters. The zero Table has none.
type Table struct {
	mu      sync.Mutex // of Apply and Restore
	current atomic.Pointer[applied]
	// restored is what is counted on from, until there is a configuration.
	restored map[string]limit.Count
	waits    bool
}

// applied is the Meters of one snapshot.
type applied struct {
	snapshot *snapshot.Snapshot
	meters   []*limit.Meter
	byName   map[string]*limit.Meter
	// before are those of the snapshot before, which a request may have begun
	// with.
	before *applied
}

// Apply makes the Meters that s names. What was counted goes on being counted,
// and what s does not name is forgotten.
func (t *Table) Apply(s *snapshot.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := &applied{snapshot: s, meters: make([]*limit.Meter, len(s.Meters)), byName: make(map[string]*limit.Meter, len(s.Meters))}
	was := t.current.Load()
	for i, name := range s.Meters {
		var m *limit.Meter
		if was != nil {
			m = was.byName[name]
		}
		if m == nil {
			m = limit.NewMeter(0, t.restored[name])
		}
		next.meters[i], next.byName[name] = m, m
	}
	if was != nil {
		next.before = &applied{snapshot: was.snapshot, meters: was.meters}
	}
	t.current.Store(next)
	t.restored, t.waits = nil, false
}

// Restore has the Meters that the next snapshot names begin with what they had
// counted when Used was asked. It comes before that snapshot; what that does not
// name is forgotten.
func (t *Table) Restore(used map[string]limit.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restored, t.waits = used, true
}

// Used returns what was counted here of each quota that has counted something;
// false between Restore and the next snapshot.
func (t *Table) Used() (map[string]limit.Count, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waits {
		return nil, false
	}
	out := map[string]limit.Count{}
	for name, m := range t.Live() {
		if _, used := m.Counted(); used.Requests() > 0 {
			out[name] = used
		}
	}
	return out, true
}

// Of returns the Meters of s, by the index that keys and Stages have there. It
// reports false if two others have been applied since.
func (t *Table) Of(s *snapshot.Snapshot) ([]*limit.Meter, bool) {
	if s == nil {
		return nil, true
	}
	a := t.current.Load()
	for range 2 {
		if a == nil {
			break
		}
		if a.snapshot == s {
			return a.meters, true
		}
		a = a.before
	}
	return nil, false
}

// Copy returns the Meters of s as they are now: to take from them uses nothing
// up. What is not counted here has none.
func (t *Table) Copy(s *snapshot.Snapshot) []*limit.Meter {
	out := make([]*limit.Meter, len(s.Meters))
	a := t.current.Load()
	if a == nil {
		return out
	}
	for i, name := range s.Meters {
		if m := a.byName[name]; m != nil {
			out[i] = limit.NewMeter(m.State())
		}
	}
	return out
}

// Live returns the Meters of the last snapshot by their names, as they are in
// use. The map is not to be changed.
func (t *Table) Live() map[string]*limit.Meter {
	a := t.current.Load()
	if a == nil {
		return nil
	}
	return a.byName
}
