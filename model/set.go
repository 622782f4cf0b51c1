// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// Set is a collection of resources, unique by kind and name. A Set is not safe
// for use while it is changed; Clone makes an independent one that shares the
// resources, which are treated as immutable once they are in a Set.
type Set struct {
	byKind map[Kind]map[string]*entry
	// owned lists the maps of byKind that no other Set shares.
	owned map[Kind]bool
	// lent is set when a Clone shares the maps: nothing is owned from then on.
	lent atomic.Bool
	// orders holds what is worked out once about the resources of a kind as
	// they stand. Clones share it, whoever changes the kind makes a new one.
	orders map[Kind]*order
}

// order is what was worked out about the resources of one kind.
type order struct {
	sorted    atomic.Pointer[[]*entry]
	referring atomic.Pointer[[]Object]
}

// entry is one resource and what was found out about it; as it never changes,
// Clones share it.
type entry struct {
	Object
	refs atomic.Pointer[[]Reference]
}

// references returns References of the resource, found once.
func (e *entry) references() []Reference {
	if r := e.refs.Load(); r != nil {
		return *r
	}
	r := References(e.Object)
	e.refs.Store(&r)
	return r
}

// NewSet returns a Set of the given resources; a later one replaces an earlier
// one of the same kind and name.
func NewSet(objects ...Object) *Set {
	s := &Set{byKind: map[Kind]map[string]*entry{}, owned: map[Kind]bool{}, orders: map[Kind]*order{}}
	for _, o := range objects {
		s.Put(o)
	}
	return s
}

// own returns the resources of a kind, in a map that no other Set sees, to be
// changed.
func (s *Set) own(k Kind) map[string]*entry {
	s.orders[k] = &order{}
	if s.lent.Swap(false) {
		s.owned = map[Kind]bool{}
	}
	if !s.owned[k] {
		m := maps.Clone(s.byKind[k])
		if m == nil {
			m = map[string]*entry{}
		}
		s.byKind[k], s.owned[k] = m, true
	}
	return s.byKind[k]
}

// Put adds o, replacing what has its kind and name.
func (s *Set) Put(o Object) { s.own(o.Kind())[o.Base().Metadata.Name] = &entry{Object: o} }

// Delete removes what r names, if it is there.
func (s *Set) Delete(r Ref) {
	if _, ok := s.byKind[r.Kind][r.Name]; ok {
		delete(s.own(r.Kind), r.Name)
	}
}

// Object returns what r names, or nil.
func (s *Set) Object(r Ref) Object {
	if e := s.byKind[r.Kind][r.Name]; e != nil {
		return e.Object
	}
	return nil
}

// Has reports whether what r names is there.
func (s *Set) Has(r Ref) bool { return s.byKind[r.Kind][r.Name] != nil }

// Len is the number of resources.
func (s *Set) Len() int {
	n := 0
	for _, m := range s.byKind {
		n += len(m)
	}
	return n
}

// Clone returns a Set of its own with the same resources. It is cheap: what
// neither of the two changes stays shared.
func (s *Set) Clone() *Set {
	s.lent.Store(true)
	return &Set{byKind: maps.Clone(s.byKind), owned: map[Kind]bool{}, orders: maps.Clone(s.orders)}
}

// sorted returns the resources of a kind by name. It is not to be changed.
func (s *Set) sorted(k Kind) []*entry {
	o := s.orders[k]
	if o == nil {
		return nil
	}
	if l := o.sorted.Load(); l != nil {
		return *l
	}
	l := slices.SortedFunc(maps.Values(s.byKind[k]), func(a, b *entry) int { return compareNames(a, b) })
	o.sorted.Store(&l)
	return l
}

// Referring returns the resources whose spec holds a ${Kind/NAME.id} or the
// like, in listing order: those that Expand changes.
func (s *Set) Referring() []Object {
	var out []Object
	for _, k := range Kinds {
		o := s.orders[k]
		if o == nil {
			continue
		}
		l := o.referring.Load()
		if l == nil {
			found := []Object{}
			for _, e := range s.sorted(k) {
				if slices.ContainsFunc(e.references(), func(r Reference) bool { return r.Attribute != "" }) {
					found = append(found, e.Object)
				}
			}
			l = &found
			o.referring.Store(l)
		}
		out = append(out, *l...)
	}
	return out
}

// Objects returns every resource in listing order: by kind, then by name.
func (s *Set) Objects() []Object {
	out := make([]Object, 0, s.Len())
	for _, k := range Kinds {
		for _, e := range s.sorted(k) {
			out = append(out, e.Object)
		}
	}
	return out
}

func compareNames(a, b Object) int {
	return strings.Compare(a.Base().Metadata.Name, b.Base().Metadata.Name)
}

// Names returns the names of a kind, sorted.
func (s *Set) Names(k Kind) []string { return slices.Sorted(maps.Keys(s.byKind[k])) }

// each yields the resources of type T in no order.
func each[T Object](s *Set) iter.Seq[T] {
	var zero T
	return func(yield func(T) bool) {
		for _, e := range s.byKind[zero.Kind()] {
			if !yield(e.Object.(T)) {
				return
			}
		}
	}
}

// All returns the resources of type T sorted by name.
func All[T Object](s *Set) []T {
	var zero T
	sorted := s.sorted(zero.Kind())
	out := make([]T, len(sorted))
	for i, e := range sorted {
		out[i] = e.Object.(T)
	}
	return out
}

// Get returns the resource of type T with that name; ok tells whether it is
// there.
func Get[T Object](s *Set, name string) (o T, ok bool) {
	var zero T
	x, ok := s.byKind[zero.Kind()][name]
	if !ok {
		return zero, false
	}
	return x.Object.(T), true
}
