// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Judge decides over a new flow. With every it goes on behind a stop wherever
// the next gate can be told all the same, so that all that is in the way comes
// to light; the outcome is that of the first stop either way.
func Judge(s *snapshot.Snapshot, q Query, every bool) Verdict {
	return decideFlow(s, q, every, false)
}

// Stand decides whether a flow that was let through may go on. Groups are
// stateful and ports are open once, so neither is asked again; but a way that is
// no more carries nothing, nor does an Endpoint whose connection is not approved
// any longer. Whether it is still the same two that speak is for the asker to
// compare: see Target.
func Stand(s *snapshot.Snapshot, q Query) Verdict {
	return decideFlow(s, q, false, true)
}

func decideFlow(s *snapshot.Snapshot, q Query, every, standing bool) (v Verdict) {
	q.Dst = q.Dst.Unmap()
	q.Source.Addr = q.Source.Addr.Unmap()
	if i := q.Source.Interface; i != nil {
		q.Source.Network = i.Network
		if !q.Source.Addr.IsValid() {
			q.Source.Addr = i.Addr
		}
	} else if l := q.Source.Link; l != nil {
		q.Source.Network = l.Network
	}
	if q.Source.Server && q.Source.Addr.Is4() != q.Dst.Is4() {
		q.Source.Addr = netip.Addr{}
	}
	v.Query = q
	j := judge{s: s, v: &v, every: every, standing: standing}
	j.flow()
	j.conclude()
	return v
}

// judge is one decision in progress.
type judge struct {
	s        *snapshot.Snapshot
	v        *Verdict
	every    bool
	standing bool // the flow is established: neither groups nor ports matter
	stopped  bool
	refused  bool // the first stop refuses instead of dropping
	back     bool // the way back is known to be broken
	lost     bool // no route leads to the target: none leads back either
}

// add records a step and reports whether to go on.
func (j *judge) add(s Step) bool {
	v := j.v
	if s.Outcome == Stop && !j.stopped {
		j.stopped = true
		v.Decided, v.Code = v.n, s.Code
		j.refused = s.Layer == LayerListen
	}
	v.steps[v.n] = s
	v.n++
	return j.every || !j.stopped
}

func (j *judge) flow() {
	if !j.route() {
		return
	}
	v := j.v
	if v.Target.Kind == Nowhere {
		j.groupsOut()
		return
	}
	if v.Target.Kind == ToGateway {
		// A port that is not published is refused before any group is asked.
		_ = j.groupsOut() && j.listen() && j.groupsIn() && j.comeBack()
		return
	}
	if !j.groupsOut() || !j.carried() || !j.groupsIn() {
		return
	}
	if e := j.endpoint(); e != nil && e.Connection != snapshot.Approved {
		// It drops whatever is sent to it, closed ports included.
		_ = j.state(e) && j.listen() && j.comeBack()
	} else {
		_ = j.listen() && (e == nil || j.state(e)) && j.comeBack()
	}
}

// conclude sums the steps up.
func (j *judge) conclude() {
	v := j.v
	if j.stopped {
		if j.refused && !j.every {
			// The refusal has to find its way back too.
			j.comeBack()
		}
		if j.refused && !j.back {
			v.Outcome = Refuse
		}
		return
	}
	v.Outcome = Deliver
	for i := range v.Steps() {
		if v.steps[i].Outcome == Pass {
			v.Decided, v.Code = i, v.steps[i].Code
		}
	}
}

// endpoint is the Endpoint that the flow leads to, if any.
func (j *judge) endpoint() *snapshot.Endpoint {
	if i := j.v.Target.Interface; i != nil {
		return i.Endpoint
	}
	return nil
}

// groupsOut asks the groups of the source's interface, then of its Subnet.
func (j *judge) groupsOut() bool {
	i := j.v.Query.Source.Interface
	if i == nil {
		return true
	}
	if j.v.Target.Kind == ToResolver {
		return j.add(Step{Layer: LayerSGOut, Outcome: Skip, Code: decide.Allowed, Cause: Unfiltered, Component: i.Owner})
	}
	dst := j.v.Query.Dst
	return j.groups(LayerSGOut, i.Owner, i.Groups, dst) &&
		(i.Managed == nil || j.groups(LayerSGOut, i.Owner, i.Managed, dst)) &&
		(i.Subnet == nil || j.groups(LayerSGOut, subnetRef(i.Subnet), i.Subnet.Groups, dst))
}

// groupsIn asks the groups of the destination's Subnet, then of its interface.
func (j *judge) groupsIn() bool {
	i := j.v.Target.Interface
	if i == nil {
		return true
	}
	src := j.v.Query.Source.Addr
	if j.v.Target.NAT.IsValid() {
		src = j.v.Target.NAT
	}
	return (i.Subnet == nil || j.groups(LayerSGIn, subnetRef(i.Subnet), i.Subnet.Groups, src)) &&
		j.groups(LayerSGIn, i.Owner, i.Groups, src) &&
		(i.Managed == nil || j.groups(LayerSGIn, i.Owner, i.Managed, src))
}

func (j *judge) groups(layer Layer, whose model.Ref, set *sg.Set, remote netip.Addr) bool {
	if j.standing {
		return true
	}
	way, i := sg.Inbound, j.v.Target.Interface
	if layer == LayerSGOut {
		way, i = sg.Outbound, j.v.Query.Source.Interface
	}
	if set == nil {
		cause := NoGroups
		if i.Managed != nil && i.Owner == whose {
			cause = NoOwnGroups
		}
		return j.add(Step{Layer: layer, Outcome: Skip, Code: decide.Allowed, Cause: cause, Component: whose})
	}
	d := decide.Judge(set, way, j.v.Query.Proto, remote, j.v.Query.Port)
	outcome := Stop
	if d.Allowed {
		outcome = Pass
	}
	return j.add(Step{
		Layer: layer, Outcome: outcome, Code: d.Code, Component: whose, Rule: d.Rule,
		Set: set, Way: way, Remote: remote,
	})
}

// listen asks whether anything accepts at the port.
func (j *judge) listen() bool {
	if j.standing {
		return true
	}
	t, q := &j.v.Target, &j.v.Query
	step := Step{Layer: LayerListen, Code: ListenAccepted}
	open := q.Proto == sg.ICMP
	switch t.Kind {
	case ToInterface:
		i := t.Interface
		step.Component = i.Owner
		switch {
		case i.Endpoint != nil:
			if q.Proto == sg.TCP && q.Port == EndpointPort {
				open, t.Components = true, endpointComponents
			}
		case i.Gateway != nil:
			if q.Proto == sg.TCP && isNode(i) {
				t.Components = i.Gateway.PrivatePorts[q.Port]
				open = len(t.Components) > 0
			}
		default:
			// Only the Host itself knows its ports.
			open, step.Cause = true, Assumed
		}
	case ToGateway:
		step.Component = gatewayRef(t.Gateway)
		switch t.Components = t.Gateway.Ports(q.Dst)[q.Port]; {
		case q.Proto == sg.TCP:
		case q.Proto == sg.UDP && q.Source.Relayed && q.Port == EndpointPort && t.Components.Has(snapshot.ComponentGateway):
			// HTTP/3, which is served on real sockets alone.
			t.Components = endpointComponents
		default:
			t.Components = nil
		}
		open = open || len(t.Components) > 0
	case ToResolver:
		step.Component = networkRef(t.Network)
		open = open || q.Port == ResolverPort && (q.Proto == sg.UDP || q.Proto == sg.TCP)
	case ToLink:
		step.Component, step.Outcome, step.Cause = linkRef(t.Link), Skip, Assumed
		return j.add(step)
	default:
		step.Outcome, step.Cause = Skip, Assumed
		return j.add(step)
	}
	if !open {
		step.Outcome, step.Code, step.Cause = Stop, ListenRefused, PortClosed
	}
	return j.add(step)
}

// endpointComponents is what is reached through an Endpoint.
var endpointComponents = snapshot.Components{snapshot.ComponentGateway}

// The ports of what Postern itself serves in a Network.
const (
	EndpointPort = 443
	ResolverPort = 53
)

// isNode tells a node of a Gateway from its interface for outbound integration.
func isNode(i *snapshot.Interface) bool {
	for _, n := range i.Gateway.Nodes {
		if n == i {
			return true
		}
	}
	return false
}

// state asks for the connection state of an Endpoint.
func (j *judge) state(e *snapshot.Endpoint) bool {
	step := Step{Layer: LayerEndpoint, Component: model.Ref{Kind: model.KindEndpoint, Name: e.Name}}
	switch e.Connection {
	case snapshot.Approved:
		step.Code = EndpointAccepted
	case snapshot.Rejected:
		step.Outcome, step.Code, step.Cause = Stop, EndpointRejected, NotApproved
	default:
		step.Outcome, step.Code, step.Cause = Stop, EndpointPending, NotApproved
	}
	return j.add(step)
}

func networkRef(n *snapshot.Network) model.Ref {
	return model.Ref{Kind: model.KindNetwork, Name: n.Name}
}

func subnetRef(s *snapshot.Subnet) model.Ref {
	return model.Ref{Kind: model.KindSubnet, Name: s.Name}
}

func linkRef(l *snapshot.Link) model.Ref { return model.Ref{Kind: model.KindLink, Name: l.Name} }

func gatewayRef(g *snapshot.Gateway) model.Ref {
	return model.Ref{Kind: model.KindGateway, Name: g.Name}
}
