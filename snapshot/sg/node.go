// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg

import (
	"math/bits"
	"net/netip"

	"github.com/gaissmai/bart"
)

// None is the rank of no rule.
const None = ^uint32(0)

// Table finds Nodes by prefix.
type Table struct{ tree bart.Table[*Node] }

// Insert puts a node at a prefix; only builders call it.
func (t *Table) Insert(p netip.Prefix, n *Node) { t.tree.Insert(p, n) }

func (t *Table) lookup(a netip.Addr) *Node {
	n, _ := t.tree.Lookup(a)
	return n
}

// Node holds the rules of one remote prefix. Those of wider prefixes hold too.
// A few of them are copied down; where they are many they are found through
// Parent instead, since to copy them all would cost memory in the product of
// prefixes and ports.
type Node struct {
	Parent *Node
	Match  *Match
	// First is the smallest rank in Match, Above the smallest that any ancestor
	// holds: the walk passes over what cannot be better.
	First, Above uint32
}

// Best returns the rank of the first rule that matches, None if none does.
func (n *Node) Best(proto Protocol, port uint16) uint32 {
	best := None
	for ; n != nil; n = n.Parent {
		if n.First < best {
			if r := n.Match.ports[proto].rank(port); r < best {
				best = r
			}
		}
		if n.Above >= best {
			break
		}
	}
	return best
}

// Match tells for every protocol and port the first rule of one list of rules.
// Nodes with the same rules share one.
type Match struct{ ports [Protocols]ports }

// NewMatch builds a Match from spans by protocol. The spans of one protocol
// are disjoint, sorted and begin at port 0.
func NewMatch(spans [Protocols][]Span) *Match {
	m := &Match{}
	for i, s := range spans {
		m.ports[i] = newPorts(s)
	}
	return m
}

// Span says that the rule of a rank decides from one port up to the next span.
type Span struct {
	From uint16
	Rank uint32
}

const (
	few  = 4   // spans that stand in line
	many = 256 // spans from which on an index pays for its memory
)

// ports finds the span of a port: among few by comparing them in turn, among
// more by halving, among many by counting the set bits up to the port, which
// costs the same for any number.
type ports struct {
	few   [few]Span
	n     int
	spans []Span
	index *index
}

// index has a bit for each port at which a span starts.
type index struct {
	starts [1 << 16 / 64]uint64
	before [1 << 16 / 64]uint16 // spans that start before the word
}

func newPorts(spans []Span) ports {
	p := ports{n: len(spans)}
	if copy(p.few[:], spans) == len(spans) {
		return p
	}
	p.spans = spans
	if len(spans) < many {
		return p
	}
	p.index = &index{}
	for _, s := range spans {
		p.index.starts[s.From>>6] |= 1 << (s.From & 63)
	}
	n := 0
	for i, w := range p.index.starts {
		p.index.before[i] = uint16(n)
		n += bits.OnesCount64(w)
	}
	return p
}

func (p *ports) rank(port uint16) uint32 {
	if p.n <= few {
		for i := p.n - 1; i > 0; i-- {
			if s := p.few[i&(few-1)]; s.From <= port {
				return s.Rank
			}
		}
		return p.few[0].Rank
	}
	if x := p.index; x != nil {
		w := port >> 6
		upTo := bits.OnesCount64(x.starts[w] << (63 - port&63))
		return p.spans[int(x.before[w])+upTo-1].Rank
	}
	low, high := 0, len(p.spans)
	for high-low > 1 {
		mid := int(uint(low+high) >> 1)
		if p.spans[mid].From <= port {
			low = mid
		} else {
			high = mid
		}
	}
	return p.spans[low].Rank
}
