// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// review ends the flows that the configuration no longer carries: one of their
// ends is gone, is another machine now, or is an Endpoint that was rejected; or no
// way leads there. What groups and ports say is not asked: they are for new flows.
// From here on, what was judged before is out of date.
func (f *Fabric) review(s *snapshot.Snapshot) {
	f.age.Add(1)
	hubs := f.list()
	live := map[*stack.Stack]bool{f.segment.stack: true, f.segment.callers: true}
	for _, h := range hubs {
		live[h.stack] = true
	}
	for _, h := range hubs {
		review(h.flows, s, live, func(k packet.Tuple) flow.Source {
			src, _ := h.source(k.Src.Addr())
			return src
		})
		h.forgetShares()
	}
	review(f.segment.flows, s, live, func(k packet.Tuple) flow.Source { return flow.FromInternet(k.Src.Addr()) })
}

// review looks at one table. A flow is judged where it was opened; replies only
// have to lead to a stack that is still there.
func review(t *table, s *snapshot.Snapshot, live map[*stack.Stack]bool, source func(packet.Tuple) flow.Source) {
	ended := false
	t.Each(func(k packet.Tuple, e *entry) {
		if live[e.Action.out] && (e.Reply || stands(s, k, e, source(k))) {
			return
		}
		e.Flow.End()
		ended = true
	})
	if ended {
		t.Sweep()
	}
}

func stands(s *snapshot.Snapshot, k packet.Tuple, e *entry, src flow.Source) bool {
	o, ok := e.Flow.Value.(*origin)
	if !ok {
		return false
	}
	q, ok := query(src, k)
	if !ok {
		return false
	}
	v := flow.Stand(s, q)
	return v.Allowed() && endsOf(&v) == o.ends
}

// The shares of the entries of a flow table: of one Host, of one Link, and of one
// Network on the internet segment. A flow has two entries.
const (
	hostShare    = 8
	linkShare    = 4
	networkShare = 4
)

// share is what the opener of a flow may hold of the flow tables.
func (h *hub) share(o *origin) *conntrack.Share {
	who, part := model.Ref{Kind: model.KindHost, Name: o.host}, hostShare
	if o.host == "" {
		who, part = model.Ref{Kind: model.KindLink, Name: o.link}, linkShare
	}
	h.shareMu.Lock()
	defer h.shareMu.Unlock()
	s := h.shares[who]
	if s == nil {
		s = conntrack.NewShare(max(h.f.opts.MaxFlows/part, 2))
		h.shares[who] = s
	}
	return s
}

// forgetShares forgets the shares of who holds nothing.
func (h *hub) forgetShares() {
	h.shareMu.Lock()
	defer h.shareMu.Unlock()
	for who, s := range h.shares {
		if s.Held() == 0 {
			delete(h.shares, who)
		}
	}
}

// complainEvery is how often the log hears that a bound was met.
const complainEvery = 10 * time.Second

// complain logs that somebody met a bound, but not every time.
func (f *Fabric) complain(msg string, args ...any) {
	now, last := time.Now().UnixNano(), f.complained.Load()
	if now-last < int64(complainEvery) || !f.complained.CompareAndSwap(last, now) {
		return
	}
	f.opts.Log.Warn(msg, args...)
}
