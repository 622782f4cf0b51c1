// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sg decides whether security groups let a new flow pass. Groups are
// stateful: replies, and later packets of a flow that was let through, are not
// asked about here.
package sg

import (
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/rule"
	"postern.dev/postern/snapshot/sg"
)

// The codes of verdicts.
const (
	Allowed        = "sg/allowed"
	NoInboundRule  = "sg/no-inbound-rule"
	NoOutboundRule = "sg/no-outbound-rule"
	InboundDeny    = "sg/inbound-deny"
	OutboundDeny   = "sg/outbound-deny"
)

// Verdict is what groups say of a flow.
type Verdict struct {
	Allowed bool
	Code    string
	// Rule decided; without a path it is a group's default. It is nil where
	// there are no groups.
	Rule *rule.Ref
}

// Judge decides over a flow between who carries set and the address remote.
// port is always the port that is called, at whichever end that is. Without a
// set everything is allowed.
func Judge(set *sg.Set, dir sg.Direction, proto sg.Protocol, remote netip.Addr, port uint16) Verdict {
	if set == nil {
		return Verdict{Allowed: true, Code: Allowed}
	}
	w := &set.Ways[dir]
	best := w.Lookup(remote.Unmap()).Best(proto, port)
	if best == sg.None {
		if w.Closed {
			return Verdict{Code: noRule(dir), Rule: &w.Default}
		}
		return Verdict{Allowed: true, Code: Allowed, Rule: &w.Default}
	}
	ref := &w.Rules[best].Ref
	switch w.Effects[best] {
	case sg.Allow:
		return Verdict{Allowed: true, Code: Allowed, Rule: ref}
	case sg.Close:
		// Nobody wrote a rule that denies this; there is none that allows it.
		return Verdict{Code: noRule(dir), Rule: ref}
	}
	if dir == sg.Inbound {
		return Verdict{Code: InboundDeny, Rule: ref}
	}
	return Verdict{Code: OutboundDeny, Rule: ref}
}

func noRule(dir sg.Direction) string {
	if dir == sg.Inbound {
		return NoInboundRule
	}
	return NoOutboundRule
}

// GroupVerdict is what one group of several would say by itself.
type GroupVerdict struct {
	Group model.Ref
	Verdict
}

// JudgeEach decides for every group of set as if it were the only one. The
// flow's fate is Judge's answer alone; this is for telling which groups lack a
// rule.
func JudgeEach(set *sg.Set, dir sg.Direction, proto sg.Protocol, remote netip.Addr, port uint16) []GroupVerdict {
	if set == nil {
		return nil
	}
	out := make([]GroupVerdict, len(set.Groups))
	for i, g := range set.Groups {
		one := set
		if len(set.Each) > 0 {
			one = set.Each[i]
		}
		out[i] = GroupVerdict{Group: g, Verdict: Judge(one, dir, proto, remote, port)}
	}
	return out
}
