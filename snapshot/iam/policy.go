// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package iam is the compiled form of an IAM policy document: what compile/iam
// makes and decide/iam evaluates.
//
// Everything here is plain data without behaviour, so that a policy can be
// hashed, sent to a gateway far away and read back as it was. A Policy and all
// that hangs off it is immutable once built: it is shared by every request of
// every engine without a lock, and nobody may write to it.
package iam

// Version is the policy language version; variables exist only in Version2012.
type Version string

// The two versions of the policy language. A document that names none is
// Version2008.
const (
	Version2008 Version = "2008-10-17"
	Version2012 Version = "2012-10-17"
)

// Effect says what a matching statement does.
type Effect uint8

// The two effects. The zero value is Deny, so that a forgotten effect is safe.
const (
	Deny Effect = iota
	Allow
)

// String returns the effect as it is written in a policy.
func (e Effect) String() string {
	if e == Allow {
		return "Allow"
	}
	return "Deny"
}

// Policy is one compiled policy document.
type Policy struct {
	Version Version
	ID      string
	// Source is the document as it was written, short resource forms and all.
	Source     string
	Statements []Statement
}

// Statement is one compiled statement.
type Statement struct {
	// Index is the place of the statement in the document, from 0.
	Index int
	Sid   string
	// Path is where the statement stands in the document, as "Statement[1]".
	Path       string
	Effect     Effect
	Principals Principals
	Actions    Actions
	Resources  Resources
	// Conditions are ANDed; there is one for each operator and key.
	Conditions []Condition
}

// Name returns how to speak of the statement in a sentence: its path and, where
// it has one, its Sid.
func (s *Statement) Name() string {
	if s.Sid == "" {
		return s.Path
	}
	return s.Path + " (" + s.Sid + ")"
}

// Actions is the Action or NotAction element.
type Actions struct {
	Not  bool
	Path string
	// Patterns compare without regard to case.
	Patterns []Pattern
}

// Resources is the Resource or NotResource element.
type Resources struct {
	Not      bool
	Path     string
	Patterns []ResourcePattern
}

// ResourcePattern is one value of a Resource element.
type ResourcePattern struct {
	// Text is the value as written; Expanded is the full ARN it stands for, and
	// equals Text where the short form was not used.
	Text     string
	Expanded string
	// Any is the lone "*", which matches every resource.
	Any bool
	// AnyAPI is a short form outside an API: Parts[5] is matched against
	// "/stage/METHOD/path" alone, whatever API or domain the request is for.
	AnyAPI bool
	// Parts are the six sections of the ARN, each matched on its own.
	Parts [ARNParts]Pattern
}

// ARNParts is the number of sections that the first five colons cut an ARN into.
const ARNParts = 6
