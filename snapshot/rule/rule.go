// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rule holds the reference to the line of a manifest that decided. It
// is a leaf, so that every compiled table can carry references.
package rule

import "postern.dev/postern/model"

// Ref points at the line of a manifest that decided.
type Ref struct {
	Resource model.Ref
	Path     string // such as spec.rules[0]
	Name     string // the rule's own name, if it has one
}

// IsZero reports whether the reference points at nothing.
func (r Ref) IsZero() bool { return r == Ref{} }
