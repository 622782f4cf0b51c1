// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"net/netip"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
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
		review(h.flows, s, live, h.opener)
		h.shares.forget()
	}
	review(f.segment.flows, s, live, f.segment.opener)
	f.segment.shares.forget()
}

// opener says who has the address now that a flow was opened from.
func (h *hub) opener(_ *snapshot.Snapshot, a netip.Addr, o *origin) (flow.Source, bool) {
	if o.gateway == "" {
		src, _ := h.source(a)
		return src, true
	}
	i := h.net.Load().Interfaces[a]
	if i == nil || i.Gateway == nil {
		return flow.Source{}, false
	}
	return flow.FromInterface(i), true
}

// opener says who has the address now that a flow was opened from.
func (g *segment) opener(s *snapshot.Snapshot, a netip.Addr, o *origin) (flow.Source, bool) {
	if o.gateway == "" {
		return flow.FromInternet(a), true
	}
	gw := s.Internet.Gateways[a]
	if gw == nil {
		return flow.Source{}, false
	}
	return flow.Dials(gw, nil)
}

// review looks at one table. A flow is judged where it was opened; replies only
// have to lead to a stack that is still there.
func review(t *table, s *snapshot.Snapshot, live map[*stack.Stack]bool, opener opener) {
	ended := false
	t.Each(func(k packet.Tuple, e *entry) {
		if live[e.Action.out] && (e.Reply || stands(s, k, e, opener)) {
			return
		}
		e.Flow.End()
		ended = true
	})
	if ended {
		t.Sweep()
	}
}

func stands(s *snapshot.Snapshot, k packet.Tuple, e *entry, opener opener) bool {
	o, ok := e.Flow.Value.(*origin)
	if !ok {
		return false
	}
	src, ok := opener(s, k.Src.Addr(), o)
	if !ok {
		return false
	}
	q, ok := query(src, k)
	if !ok {
		return false
	}
	v := flow.Stand(s, q)
	now := endsOf(&v)
	if gw := s.Internet.Gateways[k.Src.Addr()]; gw != nil && o.gateway != "" && o.network == "" {
		now.from = gatewayParty(gw)
	}
	return v.Allowed() && now == o.ends
}

// opener tells a snapshot's source for the address that a flow was opened from;
// false if nobody could open it there any longer.
type opener func(*snapshot.Snapshot, netip.Addr, *origin) (flow.Source, bool)

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
