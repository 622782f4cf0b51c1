// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package token

import (
	"slices"

	"postern.dev/postern/model"
)

// Role is what the holder of a token may be.
type Role string

// The roles.
const (
	// Admin may do everything.
	Admin Role = "admin"
	// Publisher reads everything, and publishes APIs.
	Publisher Role = "publisher"
	// Viewer reads everything, and asks.
	Viewer Role = "viewer"
	// Host joins one Host or Link, and nothing else.
	Host Role = "host"
	// SelfHosted fetches one self-hosted gateway's configuration, and nothing
	// else.
	SelfHosted Role = "selfhosted"
)

// Roles lists every role.
var Roles = []Role{Admin, Publisher, Viewer, Host, SelfHosted}

// Operation is something that a role allows or not.
type Operation string

// The operations.
const (
	// Read shows resources, without secrets.
	Read Operation = "read"
	// Ask explains, plans and verifies; it changes nothing.
	Ask Operation = "ask"
	// Publish changes APIs and what belongs to them, and deploys.
	Publish Operation = "publish"
	// Administer changes everything else, approves Endpoints among it.
	Administer Operation = "administer"
	// Grant makes, lists and revokes tokens.
	Grant Operation = "grant"
	// Join registers a Host's or Link's key.
	Join Operation = "join"
	// Configure fetches a self-hosted gateway's configuration.
	Configure Operation = "configure"
)

// Operations lists every operation.
var Operations = []Operation{Read, Ask, Publish, Administer, Grant, Join, Configure}

var allowed = map[Role][]Operation{
	Admin:      Operations,
	Publisher:  {Read, Ask, Publish},
	Viewer:     {Read, Ask},
	Host:       {Join},
	SelfHosted: {Configure},
}

// Allows reports whether the role allows the operation.
func (r Role) Allows(o Operation) bool { return slices.Contains(allowed[r], o) }

// bound roles are for one subject each.
func (r Role) bound() bool { return r == Host || r == SelfHosted }

// Writing is the operation that changing a resource of kind k is.
func Writing(k model.Kind) Operation {
	switch k {
	case model.KindAPI, model.KindBackend, model.KindStage, model.KindDeployment, model.KindProduct, model.KindSubscription:
		return Publish
	default:
		return Administer
	}
}
