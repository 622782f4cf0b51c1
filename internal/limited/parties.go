// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package limited

import "sync"

// Parties bounds how many things are open at once, in all and for each party,
// so that one party cannot take all from the others.
type Parties[K comparable] struct {
	limit int

	mu    sync.Mutex
	total int
	by    map[K]int
}

// NewParties allows n things in all.
func NewParties[K comparable](n int) *Parties[K] {
	return &Parties[K]{limit: n, by: map[K]int{}}
}

// Enter takes a place for a party that may have at most each. It reports false
// if there is none. Who entered must Leave.
func (p *Parties[K]) Enter(who K, each int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total >= p.limit || p.by[who] >= each {
		return false
	}
	p.total++
	p.by[who]++
	return true
}

// Leave gives a place back.
func (p *Parties[K]) Leave(who K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
	if p.by[who]--; p.by[who] == 0 {
		delete(p.by, who)
	}
}
