// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sibling

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"postern.dev/postern/decide/limit"
)

// LimitsPath is where an instance is asked what it has counted.
const LimitsPath = "/internal-limits-0123456789abcdef"

const (
	// LimitsType is that of a sealed report.
	LimitsType = "application/vnd.postern.sealed-limits"
	// Interval is how often instances are asked; a report is no older than fresh.
	Interval = time.Second
	fresh    = 100 * time.Millisecond
	// stale is after how long what an instance took unheard is not made up for.
	stale = 5 * time.Second
	// gone is after how long an instance that is not heard of is forgotten.
	gone = 10 * time.Minute
	// maxEntries bounds a report, maxReport its bytes.
	maxEntries = 8192
	maxReport  = 4 << 20
)

// Share is how the instances of a gateway count together what throttles and
// quotas limit. Each asks the others what they have let through since it last
// asked, and takes that out of its own.
//
// Of N instances that hear each other, within any time t, a throttle lets
// through no more than
//
//	burst + rate·t + (N-1)·(burst + rate·lag)
//
// where lag is Interval, fresh and the time of a question together; what one let
// through too much is owed by all, so that the excess does not add up. A quota is
// exceeded by no more than what N-1 instances let through within one lag.
type Share struct {
	// Meters are those in use, by names that are the same in every instance.
	Meters func() map[string]*limit.Meter
	Now    func() time.Time
	// Kept names what keeps the quotas' counts from one process to the next; it is
	// empty if nothing does.
	Kept string

	self string

	mu      sync.Mutex
	scanned time.Time
	version uint64
	mine    map[string]*own
	others  map[string]*instance // by its name
	charged int64
}

// own is what was counted here of one limit, since version. What was taken goes
// on where a limit was gone for a while and is counted by another Meter then.
type own struct {
	counted
	meter   *limit.Meter
	before  int64
	version uint64
}

type counted struct {
	taken int64
	used  limit.Count
}

// instance is what another one has told.
type instance struct {
	heard  time.Time
	cursor uint64
	// known says that all that it had counted has been told once.
	known bool
	seen  map[string]counted
	kept  string
}

// report is what an instance tells of itself.
type report struct {
	Instance string  `json:"instance"`
	Kept     string  `json:"kept,omitempty"`
	Cursor   uint64  `json:"cursor"`
	More     bool    `json:"more,omitempty"`
	Entries  []entry `json:"entries,omitempty"`
}

type entry struct {
	Name  string      `json:"n"`
	Taken int64       `json:"t,omitempty"`
	Used  limit.Count `json:"u,omitempty"`
}

// since is from where on an instance is asked: what it told last, while it is the
// one that told it.
type since struct {
	Instance string `json:"instance,omitempty"`
	Cursor   uint64 `json:"cursor,omitempty"`
}

// NewShare returns a Share that counts with meters.
func NewShare(meters func() map[string]*limit.Meter, now func() time.Time) *Share {
	return &Share{Meters: meters, Now: now, self: rand.Text(), mine: map[string]*own{}, others: map[string]*instance{}}
}

// Report answers a question with what was counted here alone.
func (s *Share) Report(question []byte) ([]byte, error) {
	var from since
	if err := json.Unmarshal(question, &from); err != nil {
		return nil, fmt.Errorf("sibling: the question does not parse: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scan()
	if from.Instance != s.self {
		from.Cursor = 0 // it was another that told it
	}
	r := report{Instance: s.self, Kept: s.Kept, Cursor: from.Cursor}
	var names []string
	for name, c := range s.mine {
		if c.version > from.Cursor {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(s.mine[a].version, s.mine[b].version) })
	if r.More = len(names) > maxEntries; r.More {
		names = names[:maxEntries]
	}
	for _, name := range names {
		c := s.mine[name]
		r.Entries = append(r.Entries, entry{name, c.taken, c.used})
		r.Cursor = c.version
	}
	return json.Marshal(&r)
}

// scan looks what has been counted since it last did.
func (s *Share) scan() {
	now := s.Now()
	if d := now.Sub(s.scanned); d >= 0 && d < fresh {
		return
	}
	s.scanned = now
	meters := s.Meters()
	for name, m := range meters {
		taken, used := m.Counted()
		c := s.mine[name]
		if c == nil {
			if taken == 0 && used.Requests() == 0 {
				continue
			}
			c = &own{meter: m}
			s.mine[name] = c
		}
		if c.meter != m {
			c.meter, c.before = m, c.taken
		}
		if is := (counted{c.before + taken, used}); c.counted != is {
			s.version++
			c.counted, c.version = is, s.version
		}
	}
	trim(s.mine, meters)
}

// trim forgets limits that are gone, once they are many.
func trim[T any](m map[string]T, meters map[string]*limit.Meter) {
	if len(m) <= 2*len(meters)+maxEntries {
		return
	}
	for name := range m {
		if meters[name] == nil {
			delete(m, name)
		}
	}
}

// question is what an instance is asked that was the named one when it last told
// something.
func (s *Share) question(was string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var q since
	if o := s.others[was]; o != nil {
		q = since{was, o.cursor}
	}
	return json.Marshal(&q)
}

// take charges what a report tells. It returns whose it is, whether that is
// another instance, and whether there is more.
func (s *Share) take(data []byte) (name string, other, more bool, err error) {
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		return "", false, false, fmt.Errorf("sibling: the report does not parse: %w", err)
	}
	if r.Instance == "" || len(r.Instance) > 64 || len(r.Kept) > 64 || len(r.Entries) > maxEntries {
		return "", false, false, errors.New("sibling: the report is not of a form that this version knows")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Instance == s.self {
		return s.self, false, false, nil
	}
	now, meters := s.Now(), s.Meters()
	o := s.others[r.Instance]
	if o == nil {
		if len(s.others) >= 2*most {
			return "", false, false, fmt.Errorf("sibling: more than %d instances are known already", 2*most)
		}
		o = &instance{seen: map[string]counted{}, kept: r.Kept}
		s.succeed(o)
		s.others[r.Instance] = o
	}
	// What comes back in time is not taken out for what was let through long ago.
	throttled := o.known && now.Sub(o.heard) <= stale
	for _, e := range r.Entries {
		m, was := meters[e.Name], o.seen[e.Name]
		if m == nil {
			// One of the two does not have the other's configuration yet. What is
			// taken until then is not charged, what is used up is.
			o.seen[e.Name] = counted{max(e.Taken, was.taken), was.used}
			continue
		}
		taken := max(0, e.Taken-was.taken)
		if !throttled {
			taken = 0
		}
		grown := limit.Grown(was.used, e.Used)
		m.Charge(taken, grown, now)
		s.charged += max(taken, grown.Requests())
		// A token that was given back was told of: the next is not charged then.
		o.seen[e.Name] = counted{max(e.Taken, was.taken), max(was.used, e.Used)} // the later period is higher
	}
	o.cursor = r.Cursor
	if !r.More {
		o.heard, o.known = now, true
	}
	trim(o.seen, meters)
	return r.Instance, true, r.More, nil
}

// succeed has an instance that counts on from where another ended be charged for
// what it uses beyond that: the other's has been. Tokens it counts anew.
func (s *Share) succeed(o *instance) {
	for name, was := range s.others {
		if o.kept == "" || was.kept != o.kept {
			continue
		}
		for n, c := range was.seen {
			o.seen[n] = counted{used: max(o.seen[n].used, c.used)}
		}
		delete(s.others, name)
	}
}

// forget forgets instances that have ended.
func (s *Share) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, o := range s.others {
		if s.Now().Sub(o.heard) > gone {
			delete(s.others, name)
		}
	}
}

// State returns with how many others limits are shared at present, and how many
// requests of theirs have been counted.
func (s *Share) State() (instances int, charged int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.others {
		if o.known && s.Now().Sub(o.heard) <= stale {
			instances++
		}
	}
	return instances, s.charged
}
