// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import "postern.dev/postern/engine/gateway/upstream"

// Connections counts the connections to each target; those without calls are idle.
func (p *Pool) Connections() map[upstream.Target]upstream.Connections {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[upstream.Target]upstream.Connections, len(p.buckets))
	for t, b := range p.buckets {
		var n upstream.Connections
		for _, c := range b.conns {
			n.Open++
			if c.calls == 0 {
				n.Idle++
			}
		}
		if n.Open > 0 {
			out[t] = n
		}
	}
	return out
}
