// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
)

// segment is the internet segment: a stack that has the Gateways' public
// addresses, and one from which callers of this process reach them.
type segment struct {
	f       *Fabric
	stack   *stack.Stack
	callers *stack.Stack
	flows   *table
	shares  shares // of the Gateways that dial

	mu      sync.Mutex
	sockets map[netip.Addr]*socketSet
	wait    sync.WaitGroup
}

func (f *Fabric) newSegment() (*segment, error) {
	st, err := stack.New(stack.Options{Promiscuous: true, MaxInFlight: maxEgress})
	if err != nil {
		return nil, err
	}
	callers, err := stack.New(stack.Options{Promiscuous: true})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	g := &segment{f: f, stack: st, callers: callers, flows: f.newTable(), sockets: map[netip.Addr]*socketSet{}}
	st.ForwardTCP(g.egressTCP)
	st.ForwardUDP(g.egressUDP)
	g.pump(st, g.fromStack)
	g.pump(callers, g.fromCaller)
	return g, nil
}

// pump hands every packet that s sends to handle until s is closed.
func (g *segment) pump(s *stack.Stack, handle func([]byte, *packet.Info, *batch)) {
	g.wait.Go(func() {
		bufs := make([][]byte, stack.BatchSize)
		for i := range bufs {
			bufs[i] = make([]byte, 1<<16)
		}
		sizes := make([]int, len(bufs))
		b := g.f.batches.Get().(*batch)
		for {
			n, err := s.ReadBatch(bufs, sizes, 0)
			if err != nil {
				return
			}
			for i := range n {
				p := bufs[i][:sizes[i]]
				if info, err := packet.Parse(p); err == nil {
					handle(p, &info, b)
				}
			}
			b.flush()
		}
	})
}

// fromStack sends replies of the segment's stack back the way the flow came.
func (g *segment) fromStack(p []byte, i *packet.Info, b *batch) {
	if e, ok := g.flows.Get(i); ok {
		send(p, i, e.Action, b)
		return
	}
	switch {
	case i.ICMPError():
		related(g.flows, p, i, b, nil)
	case i.Proto == packet.TCP && i.NewFlow() && i.Fragment == packet.Whole:
		// Nothing in this stack dials but a Gateway, from its public address.
		if e := g.opens(p, i); e != nil {
			send(p, i, e.Action, b)
		}
	}
}

// install puts both directions of a flow to a Gateway's public address into the
// table and returns the entry for the packet that opens it: opener is the stack
// that the replies go to. It returns nil where the table or the share is full, or
// what was judged is out of date by now.
func (g *segment) install(i *packet.Info, o *origin, opener *stack.Stack, share *conntrack.Share, age uint64) *entry {
	fl := g.flows.NewFlow(i.Proto, o)
	e := &entry{Flow: fl, Share: share, Action: action{out: g.stack}}
	back := &entry{Flow: fl, Share: share, Reply: true, Action: action{out: opener}}
	if !g.flows.Add(i.Tuple, e) || !g.flows.Add(i.Reverse(), back) || g.f.age.Load() != age {
		fl.End()
		return nil
	}
	return e
}

// fromCaller judges what a caller on the internet sends.
func (g *segment) fromCaller(p []byte, i *packet.Info, b *batch) {
	if e, ok := g.flows.Get(i); ok {
		send(p, i, e.Action, b)
		return
	}
	if !i.NewFlow() || i.Fragment != packet.Whole {
		return
	}
	age := g.f.age.Load()
	v, ok := g.f.judge(flow.FromInternet(i.Src.Addr()), i)
	if !ok {
		return
	}
	switch v.Outcome {
	case flow.Deliver:
		if v.Target.Kind != flow.ToGateway {
			return // a caller on the internet has its own way beyond
		}
		if e := g.install(i, &origin{ends: endsOf(&v)}, g.callers, nil, age); e != nil {
			send(p, i, e.Action, b)
		}
	case flow.Refuse:
		if out := refusal(p, i); out != nil {
			g.callers.Deliver([][]byte{out})
		}
	}
}

// close stops the segment and waits for what it runs.
func (g *segment) close() error {
	g.mu.Lock()
	for _, s := range g.sockets {
		s.close()
	}
	g.sockets = nil
	g.mu.Unlock()
	err := errors.Join(g.stack.Close(), g.callers.Close())
	g.wait.Wait()
	return err
}

// DialInternet opens a TCP connection from an address on the internet to a
// Gateway's public address, through the segment.
func (f *Fabric) DialInternet(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if !from.IsValid() {
		return nil, fmt.Errorf("dial %s from the internet: no source address", to)
	}
	return f.segment.callers.DialTCP(ctx, netip.AddrPortFrom(from, 0), to)
}
