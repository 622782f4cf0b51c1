// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

// Connections is how many connections lead to a target: Open in all, and Idle of
// them in the pool.
type Connections struct{ Open, Idle int }

// Connections counts the connections to each target.
func (p *Pool) Connections() map[Target]Connections {
	out := map[Target]Connections{}
	p.mu.Lock()
	for c := range p.open {
		n := out[c.b.target]
		n.Open++
		out[c.b.target] = n
	}
	p.mu.Unlock()
	for t, b := range *p.buckets.Load() {
		b.mu.Lock()
		idle := len(b.idle)
		b.mu.Unlock()
		if idle > 0 {
			n := out[t]
			n.Idle += idle
			out[t] = n
		}
	}
	return out
}
