// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Cause tells steps of one code apart.
type Cause uint8

// The causes. The first is a step's that needs none.
const (
	NoCause           Cause = iota
	ForeignSource           // the source address is not the sender's
	NotUnicast              // the destination is no single machine
	OtherFamily             // IPv4 asks for IPv6 or the reverse
	NoRoute                 // no route holds the destination
	Unassigned              // nobody has the address
	NotTransitive           // reached through a Link or peer only
	NoInternetRoute         // the Subnet has no route to the internet
	NoInternetGateway       // the Network has no internet gateway
	NoNAT                   // no NAT address of the family
	NATAddress              // replies only are let in there
	EgressForbidden         // beyond the segment, and not to be dialled
	PrivateAddress          // asked for from the internet, but in a Network or nowhere
	LinkDown
	InsideAddress // from the internet, but with an address of the Network or its neighbours
	StaysInside   // a Gateway's own traffic, in a mode that does not reach the internet
	Overlapped    // another prefix claims the address
	NoGroups      // nothing carries a group at this level
	NoOwnGroups   // a Gateway's interface carries its managed group alone
	Unfiltered    // the resolver is not filtered by groups
	PortClosed    // nothing listens
	NotApproved   // the Endpoint's connection is not approved
	Assumed       // not for Postern to know
)

// Reason writes what step i of the verdict found as one sentence.
func (v *Verdict) Reason(i int) string {
	s, q := &v.steps[i], &v.Query
	switch s.Layer {
	case LayerRoute, LayerReturn:
		return s.routeReason(q)
	case LayerSGIn, LayerSGOut:
		return s.groupReason(q)
	case LayerListen:
		switch {
		case s.Outcome == Stop:
			return fmt.Sprintf("Nothing of %s listens on %s.", s.Component, port(q))
		case s.Cause == Assumed && s.Component.IsZero():
			return fmt.Sprintf("Whether anything listens at %s beyond the internet segment is not known.", q.Dst)
		case s.Cause == Assumed && s.Component.Kind == model.KindHost:
			return fmt.Sprintf("Only %s knows whether it listens on %s; it is assumed.", s.Component, port(q))
		case s.Cause == Assumed:
			return fmt.Sprintf("Whether anything behind %s listens on %s is not known; it is assumed.", s.Component, port(q))
		}
		return fmt.Sprintf("%s listens on %s.", s.Component, port(q))
	}
	if s.Outcome == Stop {
		state := "pending"
		if s.Code == EndpointRejected {
			state = "rejected"
		}
		return fmt.Sprintf("The connection of %s is %s, so what is sent to it is dropped.", s.Component, state)
	}
	return fmt.Sprintf("The connection of %s is approved.", s.Component)
}

func port(q *Query) string {
	if q.Proto == sg.ICMP {
		return "icmp"
	}
	return fmt.Sprintf("%s port %d", q.Proto, q.Port)
}

func (s *Step) routeReason(q *Query) string {
	addr, way := q.Dst, "to"
	if s.Layer == LayerReturn {
		addr, way = q.Source.Addr, "back to"
	}
	switch s.Cause {
	case ForeignSource:
		return fmt.Sprintf("%s is not an address that %s may send from.", q.Source.Addr, s.Component)
	case NotUnicast:
		return fmt.Sprintf("%s is not the address of one machine; nothing is routed there.", addr)
	case OtherFamily:
		if !q.Source.Addr.IsValid() {
			return fmt.Sprintf("The Gateway that calls has no address of the family of %s on the internet segment.", addr)
		}
		return fmt.Sprintf("%s has %s only, which leads nowhere near %s: the one is IPv4, the other IPv6.", s.Component, q.Source.Addr, addr)
	case NoRoute:
		return fmt.Sprintf("%s has no route %s %s.", s.Component, way, addr)
	case Unassigned:
		if s.Route == nil {
			return fmt.Sprintf("Nobody has the address %s on the internet segment.", addr)
		}
		return fmt.Sprintf("%s leads %s %s, but nobody has that address.", s.Component, way, addr)
	case NotTransitive:
		return fmt.Sprintf("%s reaches the Network it joins only, not %s through it: neither Links nor Peerings are transitive.", s.Component, addr)
	case NoInternetRoute:
		return fmt.Sprintf("%s has no route to the internet, where %s is.", s.Component, addr)
	case NoInternetGateway:
		return fmt.Sprintf("%s has no internet gateway.", s.Component)
	case NoNAT:
		return fmt.Sprintf("%s has no NAT address of the family of %s.", s.Component, addr)
	case NATAddress:
		return fmt.Sprintf("%s is the NAT address of %s; only replies are let in there.", addr, s.Component)
	case EgressForbidden:
		return fmt.Sprintf("%s is not public, and the server may not reach it for others (--allow-egress).", addr)
	case PrivateAddress:
		return fmt.Sprintf("%s is a private address; nothing leads there from the internet.", addr)
	case InsideAddress:
		return fmt.Sprintf("%s is an address of %s, its peers or Links; nobody comes with it from the internet.", q.Source.Addr, s.Component)
	case StaysInside:
		return fmt.Sprintf("From inside its Network %s reaches the Network, its peers and its Links, never %s beyond them; only external mode leads to the internet.", s.Component, addr)
	case LinkDown:
		return fmt.Sprintf("%s is down.", s.Component)
	case Overlapped:
		return fmt.Sprintf("%s sends %s to %s, although %s claims that address too.", s.Component, addr, hop(s.Route), s.Overlap)
	}
	var text string
	switch {
	case s.Route == nil:
		text = fmt.Sprintf("%s is on the internet", addr)
	case s.Code == RouteLocal:
		text = fmt.Sprintf("%s is local to %s (%s)", addr, s.Route.Source, s.Route.Prefix)
	default:
		text = fmt.Sprintf("%s leads %s %s (%s)", s.Route.Source, way, addr, s.Route.Prefix)
	}
	if !s.Overlap.IsZero() {
		text += fmt.Sprintf("; %s claims that address too, but loses", s.Overlap)
	}
	return text + "."
}

func hop(r *snapshot.Route) string {
	if r == nil {
		return "nowhere"
	}
	return fmt.Sprintf("%s of %s", r.Prefix, r.Source)
}

func (s *Step) groupReason(q *Query) string {
	switch s.Cause {
	case NoGroups:
		return fmt.Sprintf("%s carries no security group, which allows everything at this level.", s.Component)
	case NoOwnGroups:
		return fmt.Sprintf("%s carries no security group of its own; its managed group is asked.", s.Component)
	case Unfiltered:
		return "The Network's resolver is not filtered by security groups."
	}
	names := make([]string, len(s.Set.Groups))
	for i, g := range s.Set.Groups {
		names[i] = g.Name
	}
	groups := "security group " + names[0]
	if len(names) > 1 {
		groups = "security groups " + strings.Join(names, ", ")
	}
	what := fmt.Sprintf("%s from %s", port(q), s.Remote)
	if s.Way == sg.Outbound {
		what = fmt.Sprintf("%s to %s", port(q), s.Remote)
	}
	by := s.Rule.Resource.String()
	if s.Rule.Path != "" {
		by += " " + s.Rule.Path
	}
	if s.Rule.Name != "" {
		by += " (" + s.Rule.Name + ")"
	}
	switch {
	case s.Outcome == Pass:
		return fmt.Sprintf("%s of %s allows %s: %s.", capital(groups), s.Component, what, by)
	case strings.HasSuffix(s.Code, "-deny"):
		return fmt.Sprintf("%s of %s denies %s: %s.", capital(groups), s.Component, what, by)
	}
	return fmt.Sprintf("No %s rule in %s of %s allows %s.", s.Way, groups, s.Component, what)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
