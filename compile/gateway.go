// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"slices"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// gateways compiles Gateways without their APIs.
func (b *build) gateways() {
	published := map[string]int{}
	for _, a := range all[*model.API](b) {
		published[a.Spec.Gateway]++
	}
	for _, g := range all[*model.Gateway](b) {
		x := &snapshot.Gateway{
			Name: g.Metadata.Name, ID: g.Status.ID, Region: g.Spec.Region, Host: g.Status.Host,
			PublicAccess: g.Spec.PublicAccess == nil || *g.Spec.PublicAccess,
			HTTP:         g.Spec.HTTP,
			PublicPorts:  map[uint16]snapshot.Component{443: snapshot.ComponentGateway},
			Hosts:        make(map[string]*snapshot.Host, published[g.Metadata.Name]+1),
			APIs:         make(map[string]*snapshot.API, published[g.Metadata.Name]),
		}
		switch g.Spec.HTTP {
		case "redirect":
			x.PublicPorts[80] = snapshot.ComponentRedirect
		case "serve":
			x.PublicPorts[80] = snapshot.ComponentGateway
		}
		if g.Spec.NetworkMode != "" && g.Spec.NetworkMode != "none" {
			b.failf(g, "Unsupported", "spec.networkMode: %q is not served by this version; leave it out or write none", g.Spec.NetworkMode)
			continue
		}
		if g.Spec.Outbound != nil {
			b.failf(g, "Unsupported", "spec.outbound: integration with a Subnet is not served by this version; leave it out")
			continue
		}
		x.Public = addrs([]string{firstOf(g.Spec.PublicAddress, g.Status.PublicAddress)})
		for _, a := range x.Public {
			b.out.Internet.Gateways[a] = x
		}
		x.Hosts[x.Host] = &snapshot.Host{Kind: snapshot.HostOwn, Name: x.Host}
		b.out.Gateways[x.Name] = x
	}
}

func (b *build) endpoint(e *model.Endpoint) {
	g := b.out.Gateways[e.Spec.Gateway]
	if g == nil {
		b.absent(e, "spec.gateway", model.KindGateway, e.Spec.Gateway)
		return
	}
	x := &snapshot.Endpoint{
		Name: e.Metadata.Name, ID: e.Status.ID, Host: e.Status.Host, Gateway: g,
		PrivateDNS: e.Spec.PrivateDNS == nil || *e.Spec.PrivateDNS,
		HTTP2:      e.Spec.HTTP2,
		Connection: connection(e.Status.Connection),
	}
	as := addrs(e.Status.Addresses)
	if len(as) != len(e.Spec.Subnets) || len(as) == 0 {
		b.failf(e, "NoAddress", "%d addresses were assigned for %d Subnets", len(as), len(e.Spec.Subnets))
		return
	}
	policy, err := b.memo.policy(e.Spec.Policy, policyScope{region: g.Region})
	if err != nil {
		b.failf(e, "BadPolicy", "spec.policy: %w", err)
		return
	}
	x.Policy = policy
	b.lint(e, policy, compileiam.Use{Endpoint: true, Unauthenticated: true})
	for i, name := range e.Spec.Subnets {
		s := b.subnets[name]
		if s == nil {
			b.absent(e, "spec.subnets", model.KindSubnet, name)
			b.detach(x)
			return
		}
		x.Network = s.Network
		n := &snapshot.Interface{
			Owner: model.RefOf(e), Network: s.Network, Subnet: s, Addr: as[i], Endpoint: x,
		}
		if !b.attach(e, n, e.Spec.SecurityGroups) {
			b.detach(x)
			return
		}
		x.Interfaces = append(x.Interfaces, n)
	}
	if x.Connection != snapshot.Approved {
		message := "the connection waits for the owner of Gateway/" + g.Name + ": postern endpoint approve " + x.Name
		if x.Connection == snapshot.Rejected {
			message = "the owner of Gateway/" + g.Name + " rejected the connection; to approve it after all: postern endpoint approve " + x.Name
		}
		b.note(model.RefOf(e), model.Condition{Type: ConditionReady, Reason: e.Status.Connection, Message: message})
	}
	b.unserved(e, "spec.http2", e.Spec.HTTP2, "; callers speak HTTP/1.1")
	g.Endpoints = append(g.Endpoints, x)
	g.Hosts[x.Host] = &snapshot.Host{Kind: snapshot.HostEndpoint, Name: x.Host, Endpoint: x}
	b.out.Endpoints[x.Name] = x
}

// detach takes back the interfaces of an Endpoint that did not compile.
func (b *build) detach(e *snapshot.Endpoint) {
	for _, i := range e.Interfaces {
		delete(i.Network.Interfaces, i.Addr)
		for _, g := range b.carried[i] {
			b.members[g] = slices.DeleteFunc(b.members[g], func(m *snapshot.Interface) bool { return m == i })
		}
		delete(b.carried, i)
	}
}

func connection(state string) snapshot.Connection {
	switch state {
	case model.Approved:
		return snapshot.Approved
	case model.Rejected:
		return snapshot.Rejected
	default:
		return snapshot.Pending
	}
}

// endpointAddrs lists the addresses of an Endpoint.
func endpointAddrs(e *snapshot.Endpoint) []netip.Addr {
	out := make([]netip.Addr, len(e.Interfaces))
	for i, n := range e.Interfaces {
		out[i] = n.Addr
	}
	return out
}
