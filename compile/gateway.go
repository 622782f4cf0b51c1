// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/decide/flow"
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
			Mode:         firstOf(g.Spec.NetworkMode, model.ModeNone),
			AccessLog:    b.accessLog(g, snapshot.AccessLog{}, g.Spec.AccessLog),
			Hosts:        make(map[string]*snapshot.Host, published[g.Metadata.Name]+5),
			APIs:         make(map[string]*snapshot.API, published[g.Metadata.Name]),
		}
		for _, p := range g.Spec.TrustedProxies {
			prefix, err := model.ParsePrefix(p)
			if err != nil {
				b.fail(g, "BadPrefix", err)
				continue
			}
			x.TrustedProxies = append(x.TrustedProxies, prefix)
		}
		publish(x)
		x.Public = addrs([]string{firstOf(g.Spec.PublicAddress, g.Status.PublicAddress)})
		x.Configuration = addrs([]string{g.Status.ConfigurationAddress})
		for _, a := range slices.Concat(x.Public, x.Configuration) {
			b.out.Internet.Gateways[a] = x
		}
		x.Hosts[x.Host] = &snapshot.Host{Kind: snapshot.HostOwn, Name: x.Host}
		for _, c := range named {
			name := componentHost(x, c, b.opts.Base)
			x.Hosts[name] = &snapshot.Host{Kind: snapshot.HostComponent, Name: name, Component: c}
		}
		b.out.Gateways[x.Name] = x
	}
}

// named are the components that have a host name of their own.
var named = []snapshot.Component{
	snapshot.ComponentManagement, snapshot.ComponentConfiguration, snapshot.ComponentPortal, snapshot.ComponentSCM,
}

// The ports of Gateways, and of HTTP in clear where it is published.
const (
	portHTTP       = 80
	portHTTPS      = 443
	portManagement = 3443
)

// publish fills in what g listens on: everything on its public addresses if it
// is not injected; with nodes in a Network, everything there, and outside what
// its mode leaves. External mode keeps the management plane and the
// configuration from the public port 443, internal mode everything but the
// management plane's own port.
func publish(g *snapshot.Gateway) {
	const (
		gateway       = snapshot.ComponentGateway
		management    = snapshot.ComponentManagement
		configuration = snapshot.ComponentConfiguration
		portal, scm   = snapshot.ComponentPortal, snapshot.ComponentSCM
	)
	g.PublicPorts = map[uint16]snapshot.Components{portManagement: {management}}
	switch g.Mode {
	case model.ModeNone:
		g.PublicPorts[portHTTPS] = snapshot.Components{gateway, management, portal, scm}
		g.ConfigurationPorts = map[uint16]snapshot.Components{portHTTPS: {configuration}}
	case model.ModeExternal:
		g.PublicPorts[portHTTPS] = snapshot.Components{gateway, portal, scm}
	}
	if g.Mode != model.ModeNone {
		g.PrivatePorts = map[uint16]snapshot.Components{
			portHTTPS:      {gateway, management, configuration, portal, scm},
			portManagement: {management},
		}
	}
	if g.HTTP == model.HTTPRedirect || g.HTTP == model.HTTPServe {
		if g.Mode != model.ModeInternal {
			g.PublicPorts[portHTTP] = snapshot.Components{gateway}
		}
		if g.PrivatePorts != nil {
			g.PrivatePorts[portHTTP] = snapshot.Components{gateway}
		}
	}
}

// nodes gives injected and integrated Gateways their interfaces.
func (b *build) nodes() {
	for _, g := range all[*model.Gateway](b) {
		x := b.out.Gateways[g.Metadata.Name]
		if x == nil {
			continue
		}
		if x.Mode != model.ModeNone {
			i := b.node(g, x, "spec.subnet", g.Spec.Subnet, firstOf(g.Status.Addresses...))
			if i == nil {
				b.withdraw(x)
				continue
			}
			x.Nodes = []*snapshot.Interface{i}
		}
		if g.Spec.Outbound != nil {
			if x.Outbound = b.node(g, x, "spec.outbound.subnet", g.Spec.Outbound.Subnet, g.Status.OutboundAddress); x.Outbound == nil {
				b.withdraw(x)
			}
		}
	}
}

// node makes one interface of a Gateway.
func (b *build) node(g *model.Gateway, x *snapshot.Gateway, field, subnet, address string) *snapshot.Interface {
	s := b.subnets[subnet]
	if s == nil {
		b.absent(g, field, model.KindSubnet, subnet)
		return nil
	}
	as := addrs([]string{address})
	if len(as) == 0 {
		b.failf(g, "NoAddress", "%s: no address was assigned in Subnet/%s", field, s.Name)
		return nil
	}
	i := &snapshot.Interface{Owner: model.RefOf(g), Network: s.Network, Subnet: s, Addr: as[0], Gateway: x}
	if !b.attach(g, i, g.Spec.SecurityGroups) {
		return nil
	}
	group := x.Name + model.ManagedSuffix
	b.members[group] = append(b.members[group], i)
	return i
}

// withdraw takes back a Gateway that is not where it should be: it is not
// served elsewhere instead.
func (b *build) withdraw(g *snapshot.Gateway) {
	delete(b.out.Gateways, g.Name)
	for _, a := range slices.Concat(g.Public, g.Configuration) {
		delete(b.out.Internet.Gateways, a)
	}
	nodes := g.Nodes
	if g.Outbound != nil {
		nodes = append(slices.Clip(nodes), g.Outbound)
	}
	b.detach(nodes)
}

// managed is the managed group of a Gateway's nodes: its own ports from
// anywhere, that of HTTP/3 too, and everything outward.
func managed(g *snapshot.Gateway, network string) *model.SecurityGroup {
	r := model.Rule{Name: "published", Direction: model.Inbound, Action: model.Allow, Protocol: "tcp"}
	for _, port := range slices.Sorted(maps.Keys(g.PrivatePorts)) {
		r.Ports = append(r.Ports, strconv.Itoa(int(port)))
	}
	m := &model.SecurityGroup{
		Head: model.Head{Metadata: model.Metadata{Name: g.Name + model.ManagedSuffix}},
		Spec: model.SecurityGroupSpec{Network: network, Defaults: model.DefaultsStrict},
	}
	if len(r.Ports) > 0 {
		m.Spec.Rules = []model.Rule{r}
	}
	if len(g.PrivatePorts[flow.EndpointPort]) > 0 {
		m.Spec.Rules = append(m.Spec.Rules, model.Rule{
			Name: "http3", Direction: model.Inbound, Action: model.Allow, Protocol: "udp", Ports: []string{strconv.Itoa(flow.EndpointPort)},
		})
	}
	model.Default(m)
	return m
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
			b.detach(x.Interfaces)
			return
		}
		x.Network = s.Network
		n := &snapshot.Interface{
			Owner: model.RefOf(e), Network: s.Network, Subnet: s, Addr: as[i], Endpoint: x,
		}
		if !b.attach(e, n, e.Spec.SecurityGroups) {
			b.detach(x.Interfaces)
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
	g.Endpoints = append(g.Endpoints, x)
	g.Hosts[x.Host] = &snapshot.Host{Kind: snapshot.HostEndpoint, Name: x.Host, Endpoint: x}
	b.out.Endpoints[x.Name] = x
}

// detach takes back the interfaces of what did not compile.
func (b *build) detach(is []*snapshot.Interface) {
	for _, i := range is {
		delete(i.Network.Interfaces, i.Addr)
		groups := b.carried[i]
		if i.Gateway != nil {
			groups = append(slices.Clip(groups), i.Gateway.Name+model.ManagedSuffix)
		}
		for _, g := range groups {
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
