// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"

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

// Undelivered is why a dial came to nothing before anything was heard of the
// other side: the flow was not delivered.
type Undelivered struct{ Verdict Verdict }

// Error tells the step that stopped the flow.
func (u *Undelivered) Error() string {
	v := &u.Verdict
	return fmt.Sprintf("%s: %s", v.Code, v.Reason(v.Decided))
}
