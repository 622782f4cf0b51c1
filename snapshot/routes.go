// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"iter"
	"net/netip"

	"github.com/gaissmai/bart"
)

// Routes is a route table: the longest prefix that holds an address counts.
// The zero value is empty. compile fills it; it does not change afterwards.
type Routes struct{ table bart.Table[*Route] }

// Insert puts r at prefix, in place of what was there.
func (t *Routes) Insert(prefix netip.Prefix, r *Route) { t.table.Insert(prefix, r) }

// Lookup finds the route for an address.
func (t *Routes) Lookup(a netip.Addr) (*Route, bool) { return t.table.Lookup(a) }

// Around yields the routes whose prefix holds all of prefix, itself included.
func (t *Routes) Around(prefix netip.Prefix) iter.Seq2[netip.Prefix, *Route] {
	return t.table.Supernets(prefix)
}

// Within yields the routes whose prefix is part of prefix, itself included.
func (t *Routes) Within(prefix netip.Prefix) iter.Seq2[netip.Prefix, *Route] {
	return t.table.Subnets(prefix)
}
