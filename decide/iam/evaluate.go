// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package iam decides whether an IAM policy allows a request, and says why.
//
// Evaluate and Explain are pure: they read the compiled policy and the request,
// the time included, and nothing else. Explain asks the very functions that
// Evaluate asks, element by element, so the two cannot disagree.
package iam

import "postern.dev/postern/snapshot/iam"

// Decision is what a policy says about a request.
type Decision uint8

// The decisions. The zero value is ImplicitDeny, so that a forgotten verdict
// refuses.
const (
	ImplicitDeny Decision = iota
	ExplicitDeny
	Allow
)

// String returns the decision in words.
func (d Decision) String() string {
	switch d {
	case Allow:
		return "allow"
	case ExplicitDeny:
		return "explicit deny"
	default:
		return "implicit deny"
	}
}

// Verdict is a decision and what made it.
type Verdict struct {
	Decision Decision
	// Statement is the index of the statement that decided, or -1 for an implicit
	// deny. Where several would, it is the first of them.
	Statement int
	// Delegated marks an Allow that names only the caller's account: it grants
	// what that account's own policies also allow, not access by itself.
	Delegated bool
}

// Allowed reports whether the decision is Allow.
func (v Verdict) Allowed() bool { return v.Decision == Allow }

// Evaluate decides r by p: any Deny that matches wins, else any Allow that
// matches, else the request is denied implicitly. A nil policy denies
// implicitly; whether an absent policy means open is the caller's to know.
func Evaluate(p *iam.Policy, r *Request) Verdict {
	v := Verdict{Decision: ImplicitDeny, Statement: -1}
	if p == nil {
		return v
	}
	for i := range p.Statements {
		if s := &p.Statements[i]; s.Effect == iam.Deny && matches(s, r) {
			return Verdict{Decision: ExplicitDeny, Statement: i}
		}
	}
	for i := range p.Statements {
		s := &p.Statements[i]
		if s.Effect != iam.Allow || v.Statement >= 0 && !v.Delegated || !matches(s, r) {
			continue
		}
		delegated := delegates(&s.Principals, &r.Principal)
		if v.Statement < 0 || !delegated {
			v = Verdict{Decision: Allow, Statement: i, Delegated: delegated}
		}
	}
	return v
}

// matches reports whether every element of s holds for r.
func matches(s *iam.Statement, r *Request) bool {
	if !principalMatches(&s.Principals, s.Effect, &r.Principal) ||
		!actionMatches(&s.Actions, r) || !resourceMatches(&s.Resources, r) {
		return false
	}
	for i := range s.Conditions {
		if !conditionHolds(&s.Conditions[i], r) {
			return false
		}
	}
	return true
}

func actionMatches(a *iam.Actions, r *Request) bool {
	for i := range a.Patterns {
		if matchText(&a.Patterns[i], r.Action, r, foldASCII) {
			return !a.Not
		}
	}
	return a.Not
}
