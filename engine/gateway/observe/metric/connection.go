// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import "postern.dev/postern/snapshot"

// Listener is the kind of address that a connection was made to.
type Listener uint8

// The listeners.
const (
	Public     Listener = iota // a public address on the internet segment
	AtEndpoint                 // an Endpoint
	Node                       // the Gateway's own node in a Network
	Socket                     // a real socket of the server
	SelfHosted                 // a self-hosted gateway's port
	listeners
)

var listenerNames = [listeners]string{"public", "endpoint", "node", "socket", "selfhosted"}

// Protocol is the version of HTTP that a connection carries.
type Protocol uint8

// The protocols.
const (
	HTTP1 Protocol = iota
	HTTP2
	HTTP3
	protocols
)

var protocolNames = [protocols]string{"http/1.1", "h2", "h3"}

// ListenerOf tells to which kind of address a connection was made.
func ListenerOf(o *snapshot.Origin) Listener {
	switch {
	case o.ServedBy != "":
		return SelfHosted
	case o.Endpoint != "":
		return AtEndpoint
	case o.Node != "":
		return Node
	case o.Socket != 0:
		return Socket
	}
	return Public
}

// Connections is what connections of one kind are counted with.
func (s *Set) Connections(l Listener, p Protocol) *Connections { return &s.connections[l][p] }
