// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package answer

import "time"

// Access is what a self-hosted gateway could show its management plane, as that
// knows it: nothing of it is secret.
type Access struct {
	Credentials []Credential
	// Made says that keys were made for its tokens, so that where there are none
	// they were revoked.
	Made bool
	// Trouble is why no token is good whatever its record says; empty if there is
	// nothing.
	Trouble string
}

// Credential is one token, certificate or enrolment.
type Credential struct {
	ID string
	// Key is primary or secondary for a token, certificate, or enrolment.
	Key     string
	Expires time.Time
	// Renewable is until when a certificate that has ended is renewed.
	Renewable time.Time
	State     CredentialState
	// Used says that an instance that is not offline has shown it last.
	Used bool
}

// CredentialState is how good a credential is.
type CredentialState int

// The states, the best first.
const (
	CredentialGood CredentialState = iota
	// CredentialEnding is one that is good and ends soon, so that it is warned of.
	CredentialEnding
	// CredentialRenewable is a certificate that has ended and can be renewed.
	CredentialRenewable
	CredentialEnded
)
