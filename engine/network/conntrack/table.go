// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conntrack remembers the flows that were let through, so that the
// packets of a flow are judged once: a packet that belongs to a known flow is
// forwarded as its first one was, in both directions, whatever has become of
// the rules since.
package conntrack

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/network/packet"
)

// How long a flow is kept without a packet.
const (
	// tcpIdle is for established connections; the clouds keep them
	// for 350 s to 910 s.
	tcpIdle = 350 * time.Second
	// tcpOpening is for a handshake that is not answered.
	tcpOpening = 60 * time.Second
	// tcpClosing is for a connection that both sides closed, or one reset.
	tcpClosing = 10 * time.Second
	udpIdle    = 120 * time.Second
	// udpOpening is for datagrams that nobody answers.
	udpOpening = 30 * time.Second
	icmpIdle   = 30 * time.Second
)

// sweepFull is how often a table is swept to make room in it or in a share: a
// sweep costs far more than the packet that asks for it.
const sweepFull = time.Second

// shards spreads the lock of a table; a power of two.
const shards = 32

// Flow is what both directions of one flow share.
type Flow struct {
	// Value is the owner's: what was decided about the flow.
	Value any

	last  atomic.Int64 // nanoseconds on the table's clock
	state atomic.Uint32
	proto packet.Proto
}

// The bits of a Flow's state.
const (
	seenReply uint32 = 1 << iota
	finForward
	finReverse
	seenReset
	ended
)

// End forgets the flow: from now on none of its entries, in whatever table, is
// found.
func (f *Flow) End() { f.state.Or(ended) }

// Share bounds the entries of one party, over all tables that it has entries in.
type Share struct {
	limit int64
	held  atomic.Int64
}

// NewShare returns a share of at most limit entries.
func NewShare(limit int) *Share { return &Share{limit: int64(limit)} }

// Held is the number of entries that count against the share.
func (s *Share) Held() int { return int(s.held.Load()) }

// take counts an entry and reports whether the share allows it. Nil allows all.
func (s *Share) take() bool {
	if s == nil {
		return true
	}
	if s.held.Add(1) > s.limit {
		s.held.Add(-1)
		return false
	}
	return true
}

func (s *Share) give() {
	if s != nil {
		s.held.Add(-1)
	}
}

// Entry is one direction of a flow as one table sees it.
type Entry[A any] struct {
	Flow *Flow
	// Reply marks the direction against the one in which the flow was opened.
	Reply bool
	// Share, if set, is whose entry this is: a party that holds its share of
	// entries adds no more, so that no one starves the others of the table.
	Share *Share
	// Action is what to do with a packet of this direction.
	Action A
}

// Table finds the entry of a packet. Its methods may be called concurrently.
type Table[A any] struct {
	seed  maphash.Seed
	now   func() time.Time
	start time.Time
	limit int
	size  atomic.Int64
	full  atomic.Uint64
	swept atomic.Int64 // when a full table was last swept
	shard [shards]shard[A]
}

type shard[A any] struct {
	sync.RWMutex
	m map[packet.Tuple]*Entry[A]
}

// New returns a table of at most limit entries that reads the time from now.
func New[A any](limit int, now func() time.Time) *Table[A] {
	t := &Table[A]{seed: maphash.MakeSeed(), now: now, start: now(), limit: limit}
	for i := range t.shard {
		t.shard[i].m = map[packet.Tuple]*Entry[A]{}
	}
	return t
}

// NewFlow returns a flow that a packet has just opened.
func (t *Table[A]) NewFlow(proto packet.Proto, value any) *Flow {
	f := &Flow{Value: value, proto: proto}
	f.last.Store(t.clock())
	return f
}

func (t *Table[A]) clock() int64 { return int64(t.now().Sub(t.start)) }

func (t *Table[A]) index(k packet.Tuple) uint64 {
	return maphash.Comparable(t.seed, k) & (shards - 1)
}

// Add puts an entry for k. It returns false, and adds nothing, when the table
// or the entry's Share is full, or another flow holds k.
func (t *Table[A]) Add(k packet.Tuple, e *Entry[A]) bool {
	if !t.room() || !e.Share.take() && !(t.sweepNow() > 0 && e.Share.take()) {
		t.full.Add(1)
		return false
	}
	s := &t.shard[t.index(k)]
	s.Lock()
	defer s.Unlock()
	if old, ok := s.m[k]; ok {
		if old.Flow != e.Flow && !t.expired(old.Flow) {
			e.Share.give()
			return false
		}
		t.forget(s, k, old)
	}
	s.m[k] = e
	t.size.Add(1)
	return true
}

// room reports whether the table takes another entry. A full one is swept.
func (t *Table[A]) room() bool { return t.size.Load() < int64(t.limit) || t.sweepNow() > 0 }

// sweepNow is Sweep, but not for every packet that finds no room.
func (t *Table[A]) sweepNow() int {
	now, last := t.clock(), t.swept.Load()
	if last != 0 && now-last < int64(sweepFull) || !t.swept.CompareAndSwap(last, max(now, 1)) {
		return 0
	}
	return t.Sweep()
}

// forget removes an entry. The caller holds the shard's lock.
func (t *Table[A]) forget(s *shard[A], k packet.Tuple, e *Entry[A]) {
	delete(s.m, k)
	t.size.Add(-1)
	e.Share.give()
}

// Get finds the entry for a packet and notes that the flow lives. An expired
// flow is not found.
func (t *Table[A]) Get(i *packet.Info) (*Entry[A], bool) {
	s := &t.shard[t.index(i.Tuple)]
	s.RLock()
	e, ok := s.m[i.Tuple]
	s.RUnlock()
	if !ok {
		return nil, false
	}
	if t.expired(e.Flow) {
		return nil, false
	}
	if opens(e, i) {
		if e.Flow.closing() {
			e.Flow.End() // its tuple is free for the new connection
		}
		return nil, false
	}
	e.Flow.touch(i, e.Reply, t.clock())
	return e, true
}

// Peek finds the entry of a tuple without noting a packet.
func (t *Table[A]) Peek(k packet.Tuple) (*Entry[A], bool) {
	s := &t.shard[t.index(k)]
	s.RLock()
	e, ok := s.m[k]
	s.RUnlock()
	if !ok || t.expired(e.Flow) {
		return nil, false
	}
	return e, true
}

// opens tells whether a packet with the tuple of a known flow opens one of its
// own, which is judged anew: a connection with the ports of one that is closing,
// or one against the direction in which the flow was opened.
func opens[A any](e *Entry[A], i *packet.Info) bool {
	switch {
	case i.Proto == packet.TCP:
		return i.TCPFlags&(packet.SYN|packet.ACK) == packet.SYN && (e.Reply || e.Flow.closing())
	case e.Reply:
		return i.EchoRequest()
	}
	return false
}

// Sweep removes what has expired and returns how many entries that were.
func (t *Table[A]) Sweep() int {
	n := 0
	for i := range t.shard {
		s := &t.shard[i]
		s.Lock()
		for k, e := range s.m {
			if t.expired(e.Flow) {
				t.forget(s, k, e)
				n++
			}
		}
		s.Unlock()
	}
	return n
}

// Each visits every entry that has not expired, without holding a lock.
func (t *Table[A]) Each(visit func(packet.Tuple, *Entry[A])) {
	type pair struct {
		k packet.Tuple
		e *Entry[A]
	}
	var list []pair
	for i := range t.shard {
		s := &t.shard[i]
		list = list[:0]
		s.RLock()
		for k, e := range s.m {
			list = append(list, pair{k, e})
		}
		s.RUnlock()
		for _, p := range list {
			if !t.expired(p.e.Flow) {
				visit(p.k, p.e)
			}
		}
	}
}

// Len is the number of entries.
func (t *Table[A]) Len() int { return int(t.size.Load()) }

// Refused counts the entries that found the table or their Share full.
func (t *Table[A]) Refused() uint64 { return t.full.Load() }

func (t *Table[A]) expired(f *Flow) bool {
	return f.state.Load()&ended != 0 || t.clock()-f.last.Load() > int64(f.idle())
}

func (f *Flow) closing() bool {
	s := f.state.Load()
	return s&seenReset != 0 || s&(finForward|finReverse) == finForward|finReverse
}

// idle is how long the flow is kept without a packet.
func (f *Flow) idle() time.Duration {
	switch f.proto {
	case packet.TCP:
		switch {
		case f.closing():
			return tcpClosing
		case f.state.Load()&seenReply == 0:
			return tcpOpening
		}
		return tcpIdle
	case packet.UDP:
		if f.state.Load()&seenReply == 0 {
			return udpOpening
		}
		return udpIdle
	default:
		return icmpIdle
	}
}

// touch notes a packet of the flow.
func (f *Flow) touch(i *packet.Info, reply bool, now int64) {
	// A coarse clock is enough, and a store that changes nothing would still
	// take the cache line from the other direction.
	if now-f.last.Load() > int64(time.Second) {
		f.last.Store(now)
	}
	var bits uint32
	if reply {
		bits = seenReply
	}
	if i.Proto == packet.TCP && i.TCPFlags&(packet.FIN|packet.RST) != 0 {
		f.last.Store(now)
		switch {
		case i.TCPFlags&packet.RST != 0:
			bits |= seenReset
		case reply:
			bits |= finReverse
		default:
			bits |= finForward
		}
	}
	if bits != 0 && f.state.Load()&bits != bits {
		f.state.Or(bits)
	}
}
