// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"slices"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Component tells which of the components that share a port serves a TLS
// connection whose handshake names sni: the one whose own name that is, and the
// gateway for every other name. It reports false where that one is not among
// them, and the handshake is refused.
func Component(g *snapshot.Gateway, listens snapshot.Components, sni string) (snapshot.Component, bool) {
	if h := Find(g, sni); h != nil && h.Kind == snapshot.HostComponent {
		return h.Component, listens.Has(h.Component)
	}
	return snapshot.ComponentGateway, listens.Has(snapshot.ComponentGateway)
}

// Listens tells which components share the port of g that a connection came to.
// A real socket, whose address is in no snapshot, stands for both public
// addresses of every Gateway.
func Listens(s *snapshot.Snapshot, g *snapshot.Gateway, o *snapshot.Origin) snapshot.Components {
	port := o.Local.Port()
	switch {
	case o.Endpoint != "", o.ServedBy != "":
		return atEndpoint
	case o.Node != "":
		return g.PrivatePorts[port]
	case !Shared(s, o):
		return g.Ports(o.Local.Addr().Unmap())[port]
	}
	public, configuration := g.PublicPorts[port], g.ConfigurationPorts[port]
	if len(configuration) == 0 || len(g.Configuration) == 0 {
		return public
	}
	return slices.Concat(public, configuration)
}

// atEndpoint is what an Endpoint or a self-hosted gateway leads to.
var atEndpoint = snapshot.Components{snapshot.ComponentGateway}

// Shared reports whether a connection came to a real socket, which all Gateways
// share: only a name tells which one was called.
func Shared(s *snapshot.Snapshot, o *snapshot.Origin) bool {
	return o.Endpoint == "" && o.Node == "" && o.ServedBy == "" && s.Internet.Gateways[o.Local.Addr().Unmap()] == nil
}

// Admitted judges the flow of a connection that came to a real socket, once a
// name has told that it is for component c of g: as if it had come to the
// public address of g that publishes c.
func Admitted(s *snapshot.Snapshot, g *snapshot.Gateway, c snapshot.Component, o *snapshot.Origin) flow.Verdict {
	at := g.Public
	if c == snapshot.ComponentConfiguration && len(g.Configuration) > 0 {
		at = g.Configuration
	}
	src := flow.FromInternet(o.Source.Addr().Unmap())
	src.Relayed = true
	q := flow.Query{Source: src, Proto: sg.TCP, Port: o.Local.Port()}
	if o.QUIC {
		q.Proto = sg.UDP
	}
	for _, a := range at {
		if !q.Dst.IsValid() || a.Is4() == src.Addr.Is4() {
			q.Dst = a
		}
	}
	return flow.Judge(s, q, false)
}

// Authority returns the Domain whose authorities a TLS connection that names
// sni has to show a certificate of, or may; nil if there is none.
func Authority(g *snapshot.Gateway, e *snapshot.Endpoint, sni string) *snapshot.Domain {
	h := Find(g, sni)
	if h == nil || h.Kind != snapshot.HostDomain || h.Domain.ClientCA == nil || domainNote(h.Domain, e) != "" {
		return nil
	}
	return h.Domain
}

// Page is the status of a request to a component whose contents are not part of
// this version: it has one page, under its own name.
func Page(g *snapshot.Gateway, c snapshot.Component, host, method, path string) int {
	h := Find(g, host)
	if h != nil && h.Component == c && path == "/" && (method == "GET" || method == "HEAD") {
		return 200
	}
	return 404
}
