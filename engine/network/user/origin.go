// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"net/netip"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// origin is what a flow knows of who opened it. It is the Value of a Flow.
type origin struct {
	// Who opened it: a Host of a Network, a Link, or a Gateway, with its Network
	// if it did so from an address there.
	network, host, link, gateway string
	// What of the engine's own it led to in a Network: an Endpoint, or the node
	// of a Gateway.
	endpoint, node string
	ends           ends
}

// ends are the two machines of a flow, and the address of the Network under
// which the one appears to the other. They tell whether addresses still mean who
// they meant when the flow was let through.
type ends struct {
	from, to party
	nat      netip.Addr
}

// party is a machine: whose address it has, and which key it has shown.
type party struct {
	owner        model.Ref
	network, key string
}

func endsOf(v *flow.Verdict) ends {
	e := ends{nat: v.Target.NAT}
	switch s := &v.Query.Source; {
	case s.Interface != nil:
		e.from = interfaceParty(s.Interface)
	case s.Link != nil:
		e.from = linkParty(s.Link)
	}
	switch t := &v.Target; t.Kind {
	case flow.ToInterface:
		e.to = interfaceParty(t.Interface)
	case flow.ToLink:
		e.to = linkParty(t.Link)
	case flow.ToResolver:
		e.to.network = t.Network.Name
	case flow.ToGateway:
		e.to = gatewayParty(t.Gateway)
	}
	return e
}

func gatewayParty(g *snapshot.Gateway) party {
	return party{owner: model.Ref{Kind: model.KindGateway, Name: g.Name}, key: g.ID}
}

func interfaceParty(i *snapshot.Interface) party {
	p := party{owner: i.Owner, network: i.Network.Name, key: i.PublicKey}
	switch {
	case i.Endpoint != nil:
		p.key = i.Endpoint.ID
	case i.Gateway != nil:
		p.key = i.Gateway.ID
	}
	return p
}

func linkParty(l *snapshot.Link) party {
	return party{owner: model.Ref{Kind: model.KindLink, Name: l.Name}, network: l.Network.Name, key: l.PublicKey}
}

// caller is who a connection is counted for.
func caller(o *snapshot.Origin) model.Ref {
	switch {
	case o.Host != "":
		return model.Ref{Kind: model.KindHost, Name: o.Host}
	case o.Link != "":
		return model.Ref{Kind: model.KindLink, Name: o.Link}
	case o.Gateway != "":
		return model.Ref{Kind: model.KindGateway, Name: o.Gateway}
	}
	return model.Ref{}
}

// originOf turns a flow's origin into that of a connection.
func originOf(e *entry, remote, local netip.AddrPort) *snapshot.Origin {
	o := &snapshot.Origin{Source: remote, Local: local}
	if x, ok := e.Flow.Value.(*origin); ok {
		o.Network, o.Host, o.Link, o.Gateway = x.network, x.host, x.link, x.gateway
		o.Endpoint, o.Node = x.endpoint, x.node
	}
	return o
}
