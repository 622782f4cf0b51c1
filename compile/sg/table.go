// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"postern.dev/postern/snapshot/sg"
)

// fill builds the nodes of rules, whose index is their rank.
func fill(t *sg.Table, rules []*resolved) {
	ranks := map[netip.Prefix][]uint32{}
	for rank, r := range rules {
		for _, p := range r.prefixes {
			ranks[p] = append(ranks[p], uint32(rank))
		}
	}
	prefixes := make([]netip.Prefix, 0, len(ranks))
	for p := range ranks {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, comparePrefix)

	matches := map[string]*sg.Match{}
	var key []byte
	var around []open
	for _, p := range prefixes {
		for len(around) > 0 && !around[len(around)-1].prefix.Overlaps(p) {
			around = around[:len(around)-1]
		}
		here := open{prefix: p, ranks: ranks[p], node: &sg.Node{Above: sg.None}}
		if len(around) > 0 {
			here.below(&around[len(around)-1])
		}
		key = key[:0]
		for _, r := range here.ranks {
			key = binary.BigEndian.AppendUint32(key, r)
		}
		m := matches[string(key)]
		if m == nil {
			m = match(rules, here.ranks)
			matches[string(key)] = m
		}
		here.node.Match, here.node.First = m, here.ranks[0]
		around = append(around, here)
		t.Insert(p, here.node)
	}
}

// open is a prefix that may hold the next ones. Those on the stack hold one
// another, widest first.
type open struct {
	prefix netip.Prefix
	ranks  []uint32 // in its Match
	node   *sg.Node
}

// copied is how many rules of wider prefixes a node copies at most.
const copied = 16

// below makes the rules of wide hold at o as well.
func (o *open) below(wide *open) {
	if len(wide.ranks) <= copied {
		o.node.Parent, o.node.Above = wide.node.Parent, wide.node.Above
		o.ranks = slices.Concat(o.ranks, wide.ranks)
		slices.Sort(o.ranks)
		o.ranks = slices.Compact(o.ranks)
		return
	}
	o.node.Parent = wide.node
	o.node.Above = min(wide.node.Above, wide.node.First)
}

// match paints the ports of every protocol with the rules of ranks, which rise.
func match(rules []*resolved, ranks []uint32) *sg.Match {
	var spans [sg.Protocols][]sg.Span
	for proto := range sg.Protocol(sg.Protocols) {
		var strokes []stroke
		for _, rank := range ranks {
			r := rules[rank]
			if r.Protocol != sg.Any && r.Protocol != proto {
				continue
			}
			if len(r.Ports) == 0 {
				// Nothing behind a rule for all ports can decide.
				strokes = append(strokes, stroke{sg.Ports{First: 0, Last: 1<<16 - 1}, rank})
				break
			}
			if proto != sg.TCP && proto != sg.UDP {
				continue // without ports, a rule for some ports cannot match
			}
			for _, p := range r.Ports {
				strokes = append(strokes, stroke{p, rank})
			}
		}
		spans[proto] = paint(strokes)
	}
	return sg.NewMatch(spans)
}

// stroke claims a range of ports for a rule.
type stroke struct {
	sg.Ports
	rank uint32
}

// paint gives every port to the first stroke that covers it and joins
// neighbours of equal rank.
func paint(strokes []stroke) []sg.Span {
	edges := []int{0}
	for _, s := range strokes {
		edges = append(edges, int(s.First), int(s.Last)+1)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	if edges[len(edges)-1] == 1<<16 {
		edges = edges[:len(edges)-1]
	}
	// next[i] leads to the first unpainted cell at or after i, so that no cell
	// is looked at again for every stroke that covers it.
	next := make([]int, len(edges)+1)
	colour := make([]uint32, len(edges))
	for i := range edges {
		next[i], colour[i] = i, sg.None
	}
	next[len(edges)] = len(edges)
	find := func(i int) int {
		for next[i] != i {
			next[i] = next[next[i]]
			i = next[i]
		}
		return i
	}
	for _, s := range strokes {
		from, _ := slices.BinarySearch(edges, int(s.First))
		for i := find(from); i < len(edges) && edges[i] <= int(s.Last); i = find(i) {
			colour[i] = s.rank
			next[i] = i + 1
		}
	}
	var spans []sg.Span
	for i, e := range edges {
		if i == 0 || colour[i] != colour[i-1] {
			spans = append(spans, sg.Span{From: uint16(e), Rank: colour[i]})
		}
	}
	return slices.Clip(spans)
}
