// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// Dials returns from where g opens flows to backends: into n from its node
// there, or else from its outbound integration; and, where n is nil, from its
// node if it is injected, or else from its public address. It reports false if
// g has no address in n.
func Dials(g *snapshot.Gateway, n *snapshot.Network) (Source, bool) {
	if n == nil {
		if g.Injected() {
			src := FromInterface(g.Nodes[0])
			src.Outside = true
			return src, true
		}
		src := Source{Server: true}
		if len(g.Public) > 0 {
			src.Addr = g.Public[0]
		}
		return src, true
	}
	for _, i := range g.Nodes {
		if i.Network == n {
			return FromInterface(i), true
		}
	}
	if g.Outbound != nil && g.Outbound.Network == n {
		return FromInterface(g.Outbound), true
	}
	return Source{}, false
}

// Confined tells whether s leads to nothing but its Network, the peers and the
// Links of that, so that a backend outside Networks is not reached wherever it
// is.
func (s Source) Confined() bool { return s.Outside && confined(s.Interface) }

// confined tells whether what leaves i keeps to Networks: only the nodes of an
// external Gateway reach the internet segment.
func confined(i *snapshot.Interface) bool {
	return i.Gateway.Mode != model.ModeExternal || !isNode(i)
}

// OwnFamily returns those of addrs that are of the family of s itself, or all of
// them if none is: one who calls tries no others.
func (s *Source) OwnFamily(addrs []netip.Addr) []netip.Addr {
	var own []netip.Addr
	for _, a := range addrs {
		if s.Addr.IsValid() && a.Is4() == s.Addr.Is4() {
			own = append(own, a)
		}
	}
	if len(own) == 0 {
		return addrs
	}
	return own
}

// Undelivered is why a dial came to nothing before anything was heard of the
// other side: the flow was not delivered.
type Undelivered struct{ Verdict Verdict }

// Error tells the step that stopped the flow.
func (u *Undelivered) Error() string {
	v := &u.Verdict
	return fmt.Sprintf("%s: %s", v.Code, v.Reason(v.Decided))
}
