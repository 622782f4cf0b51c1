// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import "postern.dev/postern/model"

// reference is what a ${Kind/NAME.attribute} refers to.
type reference struct {
	ref       model.Ref
	attribute string
}

// expansion is a resource with its ${Kind/NAME.attribute} replaced, and by what.
type expansion struct {
	to    model.Object
	parts []part
}

type part struct {
	of    reference
	value string
}

// expand replaces references in strings; a resource in which that fails is left
// out. What is remembered stays the same object, so that what was compiled of
// it is found again.
func (b *build) expand(set *model.Set) {
	b.set = set
	values := map[reference]string{}
	value := func(r reference) string {
		v, ok := values[r]
		if !ok {
			// One that does not resolve stays as it is, and its resource fails below.
			v, _ = model.ExpandString("${"+r.ref.String()+"."+r.attribute+"}", set)
			values[r] = v
		}
		return v
	}
	m := &b.memo.expansions
	var failed []model.Ref
	for _, o := range set.Referring() {
		b.refer[o.Kind()] = true
		if s := m.slots[o]; s != nil && s.v.holds(value) {
			s.run = m.run
			continue
		}
		x, errs := model.Expand(o, set)
		if len(errs) > 0 {
			b.fail(o, "BadReference", errs)
			failed = append(failed, model.RefOf(o))
			continue
		}
		e := expansion{to: x}
		for _, r := range model.References(o) {
			if r.Attribute != "" {
				of := reference{r.Ref, r.Attribute}
				e.parts = append(e.parts, part{of, value(of)})
			}
		}
		m.slots[o] = &slot[expansion]{v: e, run: m.run}
	}
	if len(failed) > 0 {
		b.set = set.Clone()
		for _, ref := range failed {
			b.set.Delete(ref)
		}
	}
}

// holds reports whether all that was put in is still so.
func (e *expansion) holds(value func(reference) string) bool {
	for i := range e.parts {
		if value(e.parts[i].of) != e.parts[i].value {
			return false
		}
	}
	return true
}

// all lists the resources of a kind as they are compiled: with every reference
// replaced.
func all[T model.Object](b *build) []T {
	out := model.All[T](b.set)
	var zero T
	if !b.refer[zero.Kind()] {
		return out
	}
	for i, o := range out {
		out[i] = expanded(b, o)
	}
	return out
}

// get returns a resource as it is compiled.
func get[T model.Object](b *build, name string) (T, bool) {
	o, ok := model.Get[T](b.set, name)
	if ok {
		o = expanded(b, o)
	}
	return o, ok
}

func expanded[T model.Object](b *build, o T) T {
	m := &b.memo.expansions
	if s := m.slots[o]; s != nil && s.run == m.run {
		return s.v.to.(T)
	}
	return o
}
