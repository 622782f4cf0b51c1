// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"
	"strings"
)

// Set is a collection of resources, unique by kind and name. A Set is not safe
// for use while it is changed; Clone makes an independent one that shares the
// resources, which are treated as immutable once they are in a Set.
type Set struct {
	byKind map[Kind]map[string]Object
}

// NewSet returns a Set of the given resources; a later one replaces an earlier
// one of the same kind and name.
func NewSet(objects ...Object) *Set {
	s := &Set{byKind: map[Kind]map[string]Object{}}
	for _, o := range objects {
		s.Put(o)
	}
	return s
}

// Put adds o, replacing what has its kind and name.
func (s *Set) Put(o Object) {
	m := s.byKind[o.Kind()]
	if m == nil {
		m = map[string]Object{}
		s.byKind[o.Kind()] = m
	}
	m[o.Base().Metadata.Name] = o
}

// Delete removes what r names, if it is there.
func (s *Set) Delete(r Ref) { delete(s.byKind[r.Kind], r.Name) }

// Object returns what r names, or nil.
func (s *Set) Object(r Ref) Object {
	return s.byKind[r.Kind][r.Name]
}

// Len is the number of resources.
func (s *Set) Len() int {
	n := 0
	for _, m := range s.byKind {
		n += len(m)
	}
	return n
}

// Clone returns a Set of its own with the same resources.
func (s *Set) Clone() *Set {
	c := &Set{byKind: make(map[Kind]map[string]Object, len(s.byKind))}
	for k, m := range s.byKind {
		d := make(map[string]Object, len(m))
		for n, o := range m {
			d[n] = o
		}
		c.byKind[k] = d
	}
	return c
}

// Objects returns every resource in listing order: by kind, then by name.
func (s *Set) Objects() []Object {
	out := make([]Object, 0, s.Len())
	for _, k := range Kinds {
		from := len(out)
		for _, o := range s.byKind[k] {
			out = append(out, o)
		}
		slices.SortFunc(out[from:], func(a, b Object) int {
			return strings.Compare(a.Base().Metadata.Name, b.Base().Metadata.Name)
		})
	}
	return out
}

// All returns the resources of type T sorted by name.
func All[T Object](s *Set) []T {
	var zero T
	m := s.byKind[zero.Kind()]
	out := make([]T, 0, len(m))
	for _, o := range m {
		out = append(out, o.(T))
	}
	slices.SortFunc(out, func(a, b T) int {
		return strings.Compare(a.Base().Metadata.Name, b.Base().Metadata.Name)
	})
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
	return x.(T), true
}
