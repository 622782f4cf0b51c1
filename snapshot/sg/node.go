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

// Node holds the rules of one remote prefix. The rules of wider prefixes hold
// too and are found through Parent: to copy them down would cost memory in the
// product of prefixes and ports.
type Node struct {
	Parent *Node
	// Above is the smallest rank that any ancestor holds, so that the walk ends
	// where nothing better can come.
	Above uint32
	Match *Match
}

// Best returns the rank of the first rule that matches, None if none does.
func (n *Node) Best(proto Protocol, port uint16) uint32 {
	best := None
	for ; n != nil; n = n.Parent {
		if r := n.Match.rank(proto, port); r < best {
			best = r
		}
		if n.Above >= best {
			break
		}
	}
	return best
}

// Match tells for every protocol and port the first rule of one list of rules.
// Nodes with the same rules share one.
type Match struct {
	// First is the smallest rank in it.
	First uint32
	ports [Protocols]ports
}

// NewMatch builds a Match from spans by protocol. The spans of one protocol
// are disjoint, sorted and cover every port.
func NewMatch(first uint32, spans [Protocols][]Span) *Match {
	m := &Match{First: first}
	for i, s := range spans {
		m.ports[i] = newPorts(s)
	}
	return m
}

func (m *Match) rank(proto Protocol, port uint16) uint32 { return m.ports[proto].rank(port) }

// Span says that the rule of a rank decides from one port up to the next span.
type Span struct {
	From uint16
	Rank uint32
}

// few is how many spans are searched one by one.
const few = 8

// ports finds the span of a port. With few spans it compares them in turn; with
// many it counts the set bits up to the port, which costs the same for any
// number of them.
type ports struct {
	spans []Span
	index *[portWords]portWord
}

const portWords = 1 << 16 / 64

type portWord struct {
	starts uint64 // bit i: a span starts at the i-th port of the word
	before uint32 // spans that start before the word
}

func newPorts(spans []Span) ports {
	p := ports{spans: spans}
	if len(spans) <= few {
		return p
	}
	p.index = new([portWords]portWord)
	for _, s := range spans {
		p.index[s.From>>6].starts |= 1 << (s.From & 63)
	}
	n := 0
	for i := range p.index {
		p.index[i].before = uint32(n)
		n += bits.OnesCount64(p.index[i].starts)
	}
	return p
}

func (p *ports) rank(port uint16) uint32 {
	if p.index != nil {
		w := &p.index[port>>6]
		upTo := w.starts << (63 - port&63)
		return p.spans[int(w.before)+bits.OnesCount64(upTo)-1].Rank
	}
	for i := len(p.spans) - 1; i >= 0; i-- {
		if s := &p.spans[i]; s.From <= port {
			return s.Rank
		}
	}
	return None
}
