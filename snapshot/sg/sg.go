// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sg holds the compiled form of security groups. A Set is built by
// compile/sg and judged by decide/sg; it is never changed in between and may be
// shared by any number of interfaces that carry the same groups.
package sg

import (
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/rule"
)

// Direction says which way a flow is opened, seen from who carries the groups.
type Direction uint8

// The directions.
const (
	Inbound Direction = iota
	Outbound
)

// String names the direction as manifests do.
func (d Direction) String() string {
	if d == Outbound {
		return "outbound"
	}
	return "inbound"
}

// Protocol is what rules tell apart.
type Protocol uint8

// The protocols. Any in a rule means every protocol, in a question one that is
// none of the others: only rules for any protocol and all ports speak of it.
const (
	Any Protocol = iota
	TCP
	UDP
	ICMP
	Protocols = 4
)

// String names the protocol as manifests do.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	}
	return "any"
}

// Rule is one rule, in the order of decision of the Set that holds it.
type Rule struct {
	rule.Ref
	Direction Direction
	Deny      bool
	Priority  int
	Protocol  Protocol
	Ports     []Ports // none: all
	// Peers are the rule's peers as written, for explanations.
	Peers []string
}

// Effect is what a rule does with what it matches.
type Effect uint8

// The effects. Close is that of a group's defaults, which deny what no rule
// allows.
const (
	Allow Effect = iota
	Deny
	Close
)

// Effect returns what the rule does.
func (r *Rule) Effect() Effect {
	switch {
	case !r.Deny:
		return Allow
	case r.Priority >= DefaultPriority:
		return Close
	}
	return Deny
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// DefaultPriority is the priority from which on rules are not written by
// anyone but belong to a group's defaults.
const DefaultPriority = 65000

// Set is the merge of all groups on one interface, or a Subnet's group.
type Set struct {
	// Groups are the merged groups, sorted by name.
	Groups []model.Ref
	// Ways holds what is judged, by Direction.
	Ways [2]Way
	// Each holds every group compiled by itself, in the order of Groups; it is
	// empty if there is only one. Only explanations look at it.
	Each []*Set
	// Key is equal for Sets with equal content.
	Key string
}

// Way is one direction of a Set.
type Way struct {
	// Rules are sorted by priority, deny before allow, then group and place in
	// it: of two that match, the one that stands first decides.
	Rules []Rule
	// Effects says in short what each of Rules does, so that a verdict need not
	// look at the rule itself.
	Effects []Effect
	// Remote finds the node of the most specific prefix around an address.
	Remote Table
	// Closed says what becomes of a flow that no rule speaks of, and Default
	// points at what made it so.
	Closed  bool
	Default rule.Ref
}

// Lookup finds the node of the most specific prefix around a, or nil.
func (w *Way) Lookup(a netip.Addr) *Node { return w.Remote.lookup(a) }
