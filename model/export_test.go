// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

// Judge applies change and returns what Admit finds wrong with what depends on
// it, and what Validate finds wrong with the whole.
func Judge(current *Set, change Change) (part, whole Errors, next *Set) {
	a := &admission{
		current: current, next: current.Clone(), opts: Options{Deployments: true}.withDefaults(),
		touched: map[Ref]bool{}, seeds: map[Ref]bool{}, deleted: map[Ref]bool{}, cascade: change.Cascade,
	}
	a.puts(change.Puts)
	a.deletes(change.Deletes)
	a.spread()
	a.settle()
	a.grants()
	return validate(a.next, a.touched, nil, nil), Validate(a.next), a.next
}
