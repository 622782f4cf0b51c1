// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

// Version is the apiVersion of every manifest.
const Version = "postern/v1"

// Metadata names a resource.
type Metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Status is written by the server only. Fields that do not belong to a kind
// stay empty.
type Status struct {
	// ID is made once and stays, a backup that is applied again keeps it.
	ID string `json:"id,omitempty"`
	// Host is the host name: an Endpoint's, API's, Gateway's or Domain's.
	Host string `json:"host,omitempty"`
	// Addresses are a Host's, Endpoint's or Gateway's addresses in its Network
	// (an Endpoint has one a Subnet, in the order of spec.subnets), else a
	// Gateway's public address.
	Addresses []string `json:"addresses,omitempty"`
	// PublicAddress is a Gateway's address on the internet segment, or a
	// Network's address for NAT there.
	PublicAddress string `json:"publicAddress,omitempty"`
	// ConfigurationAddress is a Gateway's second public address, for the
	// configuration host name.
	ConfigurationAddress string `json:"configurationAddress,omitempty"`
	// PublicKey is the WireGuard key: of a Network's hub, or registered by a
	// Host or Link on joining.
	PublicKey string `json:"publicKey,omitempty"`
	// Port is the UDP port on which a Network's hub listens.
	Port int `json:"port,omitempty"`
	// Connection is an Endpoint's state: Pending, Approved or Rejected.
	Connection string `json:"connection,omitempty"`
	// Deployment is the number that a Stage serves, or an API's newest one.
	Deployment int `json:"deployment,omitempty"`
	// Conditions say whether the resource is Ready and, if not, why.
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is one observation about a resource.
type Condition struct {
	Type    string `json:"type"`   // Ready, Stale, ...
	Status  bool   `json:"status"` // whether Type holds
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Connection states of an Endpoint.
const (
	Pending  = "Pending"
	Approved = "Approved"
	Rejected = "Rejected"
)

// Head is what every resource has beside its spec.
type Head struct {
	Metadata Metadata `json:"metadata"`
	Status   Status   `json:"status,omitzero"`
	// Revision is the store revision of the last change; 0 if not stored.
	Revision int64 `json:"-"`
	// Position is where the resource was read from, if from a file.
	Position Position `json:"-"`
}

// Base returns the head itself; it makes every resource an Object.
func (h *Head) Base() *Head { return h }

// Object is any resource: a pointer to one of the types of this package.
type Object interface {
	Base() *Head
	Kind() Kind
}

// RefOf names o.
func RefOf(o Object) Ref { return Ref{o.Kind(), o.Base().Metadata.Name} }
