// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import "postern.dev/postern/snapshot"

// Component tells which of the components that share a port serves a TLS
// connection whose handshake names sni: the one whose own name that is, or
// else the gateway. It reports false where none of them does, and the handshake
// is refused: nothing but a name leads to the other components.
func Component(g *snapshot.Gateway, listens snapshot.Components, sni string) (snapshot.Component, bool) {
	if h := Find(g, sni); h != nil && h.Kind == snapshot.HostComponent && listens.Has(h.Component) {
		return h.Component, true
	}
	return snapshot.ComponentGateway, listens.Has(snapshot.ComponentGateway)
}
