// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

// PrincipalKind says what a principal value names.
type PrincipalKind uint8

// The kinds of principal a policy can name.
const (
	PrincipalAccount   PrincipalKind = iota // every principal of an account
	PrincipalARN                            // one user, role or session
	PrincipalService                        // an AWS service
	PrincipalFederated                      // an identity provider
	PrincipalCanonical                      // an S3 canonical user
)

// Principals is the Principal or NotPrincipal element.
type Principals struct {
	// Absent marks a policy of an identity, which names no principal: it applies
	// to whoever holds it.
	Absent bool
	Not    bool
	Path   string
	// Any says that "*" is among the values: everyone, the anonymous included.
	Any    bool
	Values []Principal
}

// Principal is one value of a Principal element other than "*".
type Principal struct {
	Kind PrincipalKind
	// Text is the value as written.
	Text string
	// Value is what is compared: an account's twelve digits, or an ARN, service
	// name or id.
	Value string
}
