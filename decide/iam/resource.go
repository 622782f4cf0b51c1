// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import "postern.dev/postern/snapshot/iam"

func resourceMatches(e *iam.Resources, r *Request) bool {
	for i := range e.Patterns {
		if resourceOne(&e.Patterns[i], r) {
			return !e.Not
		}
	}
	// With a variable that cannot be resolved it is not known what NotResource
	// excepts, and the statement matches nothing.
	return e.Not && !anyUnresolved(e, r)
}

func resourceOne(p *iam.ResourcePattern, r *Request) bool {
	if p.Any {
		return true
	}
	s := &r.Resource
	if !matchText(&p.Parts[1], arnPartition, r, exact) || !matchText(&p.Parts[2], arnService, r, exact) ||
		!matchText(&p.Parts[3], s.Region, r, exact) || !matchText(&p.Parts[4], s.Account, r, exact) {
		return false
	}
	if p.AnyAPI {
		pieces := s.call()
		return match(p.Parts[5].Tokens, pieces[:], r, exact)
	}
	pieces := s.last()
	return match(p.Parts[5].Tokens, pieces[:], r, exact)
}

func anyUnresolved(e *iam.Resources, r *Request) bool {
	for i := range e.Patterns {
		tokens := e.Patterns[i].Parts[5].Tokens
		for j := range tokens {
			t := &tokens[j]
			if t.Kind != iam.TokenVariable || t.HasDefault {
				continue
			}
			if v := r.value(&t.Key); v.kind == missing || v.kind == kindStrings {
				return true
			}
		}
	}
	return false
}
