// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flow decides whether a new flow of packets is delivered, dropped or
// refused, and where it goes. The hub asks for the first packet of a flow that
// its flow table does not know; explain asks the same and keeps every step.
package flow

import (
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Query asks about one flow.
type Query struct {
	Source Source
	Proto  sg.Protocol
	Dst    netip.Addr
	Port   uint16 // that is called; 0 for ICMP
	// LinkDown tells of a Link that it carries nothing, as an engine observed;
	// nil where that is not known. For a packet that came in by a Link it is.
	LinkDown func(*snapshot.Link) bool
}

// down tells whether l is known to carry nothing.
func (q *Query) down(l *snapshot.Link) bool { return l.Down || q.LinkDown != nil && q.LinkDown(l) }

// Source is who opens the flow. The engine vouches for it.
type Source struct {
	// Network is where the packet enters; nil on the internet segment.
	Network *snapshot.Network
	// Interface is whose packet it is, or Link the site it comes from; neither
	// on the internet.
	Interface *snapshot.Interface
	Link      *snapshot.Link
	Addr      netip.Addr
	// Server marks what a Gateway in no Network sends to a backend: from its
	// public address on the segment, and beyond it from the server itself, which
	// has addresses of either family.
	Server bool
	// Outside marks what an injected Gateway sends to a backend that is in no
	// Network: it leaves to the internet or not at all.
	Outside bool
	// Relayed marks what came to a real socket of the server, which stands for
	// a Gateway's address on the segment whichever family that is of.
	Relayed bool
}

// FromInterface is a flow that i opens.
func FromInterface(i *snapshot.Interface) Source {
	return Source{Network: i.Network, Interface: i, Addr: i.Addr}
}

// FromLink is a flow that comes in from a site.
func FromLink(l *snapshot.Link, addr netip.Addr) Source {
	return Source{Network: l.Network, Link: l, Addr: addr}
}

// FromInternet is a flow that comes from the internet segment or beyond.
func FromInternet(addr netip.Addr) Source { return Source{Addr: addr} }

// Outcome is what becomes of the packet.
type Outcome uint8

// The outcomes. Who is dropped sees a time-out; who is refused gets a reset, or
// port unreachable.
const (
	Drop Outcome = iota
	Refuse
	Deliver
)

// String names the outcome.
func (o Outcome) String() string { return [...]string{"drop", "refuse", "deliver"}[o] }

// TargetKind says what a flow leads to.
type TargetKind uint8

// The kinds of targets.
const (
	Nowhere TargetKind = iota
	// ToInterface is a Host, an Endpoint or a Gateway's node.
	ToInterface
	// ToResolver is the resolver of Target.Network.
	ToResolver
	// ToLink leaves through Target.Link.
	ToLink
	// ToGateway is a Gateway's public address on the internet segment.
	ToGateway
	// ToEgress leaves through the server's own stack.
	ToEgress
)

// Target is where a flow goes.
type Target struct {
	Kind TargetKind
	// Network is the Network that the destination is in: the source's own, a
	// peer, or nil on the internet.
	Network *snapshot.Network
	// Interface is the destination's, for ToInterface; for ToGateway the node
	// of an injected Gateway, if it is injected.
	Interface *snapshot.Interface
	Link      *snapshot.Link
	Gateway   *snapshot.Gateway
	// NAT is the address under which the source appears; invalid where it keeps
	// its own.
	NAT netip.Addr
	// Components are what listens at a Gateway's port.
	Components snapshot.Components
}

// Layer is one kind of gate, named as in answers.
type Layer string

// The layers that flows meet.
const (
	LayerRoute    Layer = "route"
	LayerSGOut    Layer = "sg-out"
	LayerSGIn     Layer = "sg-in"
	LayerListen   Layer = "listen"
	LayerEndpoint Layer = "endpoint"
	LayerReturn   Layer = "return"
)

// StepOutcome is what one gate did.
type StepOutcome uint8

// The outcomes of a step. Skip marks a gate that had nothing to decide.
const (
	Pass StepOutcome = iota
	Stop
	Skip
)

// String names the outcome as in answers.
func (o StepOutcome) String() string { return [...]string{"pass", "stop", "skip"}[o] }

// The codes that flows give beside those of decide/sg.
const (
	RouteLocal       = "route/local"
	RouteLink        = "route/link"
	RoutePeering     = "route/peering"
	RouteInternet    = "route/internet"
	RouteNone        = "route/none"
	RouteLinkDown    = "route/link-down"
	RouteOverlap     = "route/overlap"
	ListenAccepted   = "listen/accepted"
	ListenRefused    = "listen/refused"
	EndpointAccepted = "endpoint/accepted"
	EndpointPending  = "endpoint/pending"
	EndpointRejected = "endpoint/rejected"
)

// Step is one gate and what it decided. It holds no text of its own, so that
// deciding costs nothing; Verdict.Reason writes the sentence.
type Step struct {
	Layer   Layer
	Outcome StepOutcome
	Code    string
	Cause   Cause
	// Component is what decided: whose groups, whose route, whose port.
	Component model.Ref
	// Rule decided on a group layer.
	Rule *snapshot.Rule
	// Set, Way and Remote are what decide/sg was asked on a group layer, so
	// that each group can be asked again by itself. Set is nil without groups.
	Set    *sg.Set
	Way    sg.Direction
	Remote netip.Addr
	// Route was taken, or was in the way, on the layers route and return. If
	// Overlap is set, that resource has a prefix that holds the address too but
	// lost: a finding, also where the step passes.
	Route   *snapshot.Route
	Overlap model.Ref
}

// maxSteps is more than any flow meets: four route steps, three levels of
// groups at each end, listen, endpoint, return.
const maxSteps = 14

// Verdict is what becomes of a flow and why.
type Verdict struct {
	Outcome Outcome
	// Code is that of the step that stops the flow or, if none does, of the
	// last one that passed; Decided is its index.
	Code    string
	Decided int
	// Target is where the flow goes, or would go if nothing stopped it.
	Target Target
	Query  Query

	steps [maxSteps]Step
	n     int
}

// Steps lists the steps in order. Without every they end with the first stop,
// or, if that refuses, with the refusal's way back.
func (v *Verdict) Steps() []Step { return v.steps[:v.n] }

// Allowed reports whether the flow is delivered.
func (v *Verdict) Allowed() bool { return v.Outcome == Deliver }
