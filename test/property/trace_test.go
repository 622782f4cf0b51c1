// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"net/netip"
	"sync"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// decision is what the network engine decided about a flow.
type decision struct {
	outcome flow.Outcome
	code    string
	// link is the Link that the flow leaves by, if it is delivered there.
	link, network string
	// to is where the flow leads; Kind tells whether anywhere.
	to flow.Target
}

// beyond tells whether the flow leads to what is not Postern's.
func (d *decision) beyond() bool {
	i := d.to.Interface
	return d.to.Gateway == nil && (i == nil || i.Endpoint == nil && i.Gateway == nil)
}

// gateway is whose the flow leads to; nil if nobody's.
func (d *decision) gateway() *snapshot.Gateway {
	switch i := d.to.Interface; {
	case d.to.Gateway != nil:
		return d.to.Gateway
	case i == nil:
		return nil
	case i.Endpoint != nil:
		return i.Endpoint.Gateway
	default:
		return i.Gateway
	}
}

// watch waits for the decision about one flow. Its first packet decides; later
// ones are the same flow tried again.
type watch struct {
	src, dst netip.Addr
	proto    sg.Protocol
	port     uint16
	seen     chan struct{} // closed with the first decision
	decision *decision
}

// tracer hands the decisions of the network engine to whoever waits for them.
type tracer struct {
	mu      sync.Mutex
	watches map[*watch]struct{}
}

func (t *tracer) watch(src, dst netip.Addr, proto sg.Protocol, port uint16) *watch {
	w := &watch{src: src, dst: dst, proto: proto, port: port, seen: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watches == nil {
		t.watches = map[*watch]struct{}{}
	}
	t.watches[w] = struct{}{}
	return w
}

func (t *tracer) forget(w *watch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watches, w)
}

// of returns what was decided, if anything was.
func (t *tracer) of(w *watch) *decision {
	t.mu.Lock()
	defer t.mu.Unlock()
	return w.decision
}

// see is the engine's Trace.
func (t *tracer) see(v *flow.Verdict) {
	q := &v.Query
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watches {
		if w.decision != nil || w.src != q.Source.Addr || w.dst != q.Dst || w.proto != q.Proto || w.port != q.Port {
			continue
		}
		w.decision = &decision{outcome: v.Outcome, code: v.Code, to: v.Target}
		if v.Outcome == flow.Deliver && v.Target.Kind == flow.ToLink {
			w.decision.link, w.decision.network = v.Target.Link.Name, v.Target.Network.Name
		}
		close(w.seen)
	}
}
