// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// ErrNoAddress is why a Gateway cannot dial from where it was asked to.
var ErrNoAddress = errors.New("the Gateway has no address there")

// DialGateway opens a TCP connection from a Gateway's address in a Network or,
// where network is empty, from its place outside. A flow that is not delivered is
// not begun: the error is a *flow.Undelivered then, at once. What is delivered
// goes out as packets, which are judged again on their way. Beyond the segment the
// server's own stack dials, as Dialer does.
func (f *Fabric) DialGateway(ctx context.Context, gateway, network string, to netip.AddrPort) (net.Conn, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	s := f.snap.Load()
	src, err := dialSource(s, gateway, network)
	if err != nil {
		return nil, err
	}
	q := flow.Query{Source: src, Proto: sg.TCP, Dst: to.Addr(), Port: to.Port(), LinkDown: f.linkDown}
	v := flow.Judge(s, q, false)
	if v.Outcome != flow.Deliver && !wakes(&v) {
		if f.opts.Trace != nil {
			f.opts.Trace(&v) // of the others the packets tell
		}
		return nil, &flow.Undelivered{Verdict: v}
	}
	switch v.Target.Kind {
	case flow.ToEgress:
		return f.Dialer().DialContext(ctx, "tcp", to.String())
	case flow.ToGateway:
		from := v.Target.NAT
		if !from.IsValid() {
			from = v.Query.Source.Addr
		}
		if !from.IsValid() {
			return nil, fmt.Errorf("dial %[2]s on the internet segment for Gateway/%[1]s: %[3]w", gateway, to, ErrNoAddress)
		}
		return f.segment.stack.DialTCP(ctx, netip.AddrPortFrom(from, 0), to)
	}
	h := f.hub(src.Network.Name)
	if h == nil {
		return nil, fmt.Errorf("dial %[2]s for Gateway/%[1]s: the hub of Network/%[3]s is not up", gateway, to, src.Network.Name)
	}
	c, err := h.stack.DialTCP(ctx, netip.AddrPortFrom(src.Addr, 0), to)
	if err != nil && v.Outcome != flow.Deliver && f.linkDown(v.Target.Link) {
		return nil, fmt.Errorf("%w: %w", &flow.Undelivered{Verdict: v}, err)
	}
	return c, err
}

// dialSource is from where a Gateway dials.
func dialSource(s *snapshot.Snapshot, gateway, network string) (flow.Source, error) {
	g := s.Gateways[gateway]
	if g == nil {
		return flow.Source{}, fmt.Errorf("dial for Gateway/%s, which is not in the configuration: %w", gateway, ErrNoAddress)
	}
	var n *snapshot.Network
	if network != "" {
		if n = s.Networks[network]; n == nil {
			return flow.Source{}, fmt.Errorf("dial for Gateway/%s in Network/%s, which is not in the configuration: %w", gateway, network, ErrNoAddress)
		}
	}
	src, ok := flow.Dials(g, n)
	if !ok {
		return src, fmt.Errorf("dial for Gateway/%s in Network/%s, where it is neither injected nor integrated: %w", gateway, network, ErrNoAddress)
	}
	return src, nil
}

// linkDown tells whether a Link carries nothing, as far as the hub knows.
func (f *Fabric) linkDown(l *snapshot.Link) bool { return !f.LinkUp(l.Network.Name, l.Name) }

// wakes tells whether all that is in the way is a Link that is quiet and that the
// hub can call itself: the packets of a dial bring it up, if anything can.
func wakes(v *flow.Verdict) bool {
	return v.Code == flow.RouteLinkDown && v.Target.Link != nil && !v.Target.Link.Down && v.Target.Link.Remote != ""
}

// opens judges a connection that a Gateway opens from its address in this
// Network. It returns nil if the packet is not to be sent.
func (h *hub) opens(p []byte, i *packet.Info) *entry {
	at := h.net.Load().Interfaces[i.Src.Addr()]
	if at == nil || at.Gateway == nil {
		return nil // nothing else in the stack dials
	}
	age := h.f.age.Load()
	v, ok := h.f.judge(flow.FromInterface(at), i)
	if !ok {
		return nil
	}
	switch v.Outcome {
	case flow.Deliver:
		if v.Target.Kind == flow.ToGateway || v.Target.Kind == flow.ToEgress {
			return nil // the segment has ways of its own, see DialGateway
		}
		return h.install(&v, i, &origin{network: h.name, gateway: at.Gateway.Name}, age)
	case flow.Refuse:
		if out := refusal(p, i); out != nil {
			h.stack.Deliver([][]byte{out})
		}
	}
	return nil
}

// opens judges a connection that a Gateway opens from its public address. It
// returns nil if the packet is not to be sent.
func (g *segment) opens(p []byte, i *packet.Info) *entry {
	s := g.f.snap.Load()
	gw := s.Internet.Gateways[i.Src.Addr()]
	if gw == nil {
		return nil
	}
	age := g.f.age.Load()
	src, ok := flow.Dials(gw, nil)
	if !ok {
		return nil
	}
	v, ok := g.f.judge(src, i)
	if !ok {
		return nil
	}
	switch v.Outcome {
	case flow.Deliver:
		if v.Target.Kind != flow.ToGateway {
			return nil
		}
		o := &origin{gateway: gw.Name, ends: endsOf(&v)}
		o.ends.from = gatewayParty(gw)
		return g.install(i, o, g.stack, g.shares.of(o, g.f.opts.MaxFlows), age)
	case flow.Refuse:
		if out := refusal(p, i); out != nil {
			g.stack.Deliver([][]byte{out})
		}
	}
	return nil
}
