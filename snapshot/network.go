// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
)

// Network is a private address space.
type Network struct {
	Name     string
	ID       string
	Prefixes []netip.Prefix
	Subnets  []*Subnet
	// InternetGateway tells whether Subnets with an internet route reach the
	// internet; NAT is then the address they appear under there.
	InternetGateway bool
	NAT             []netip.Addr // at most one of each family
	// Resolver holds the address base+2 of the first CIDR of each family.
	Resolver []netip.Addr
	// Forward lists where names that Postern does not hold are asked.
	Forward []netip.AddrPort
	// Routes holds what the Network's route table says of a destination:
	// local, link and peering routes. The way to the internet is the Subnet's.
	Routes *Routes
	// Interfaces finds what has an address of this Network.
	Interfaces map[netip.Addr]*Interface
	Links      []*Link
	Peers      []*Network
	// View holds the private zones that this Network's hosts see.
	View *View
	// Hub is the WireGuard side.
	Hub Hub
}

// Hub is what a Network's WireGuard hub needs.
type Hub struct {
	PrivateKey model.Secret // base64
	PublicKey  string
	Port       int // UDP port; 0: not offered
}

// Subnet is a part of a Network.
type Subnet struct {
	Name    string
	ID      string
	Network *Network
	Prefix  netip.Prefix
	// Groups judges everything in the Subnet; nil allows at this level.
	Groups *sg.Set
	// InternetRoute tells whether the Subnet has a route to the internet.
	InternetRoute bool
}

// Interface is one address in a Subnet and who has it.
type Interface struct {
	Owner   model.Ref // Host, Endpoint or Gateway
	Network *Network
	Subnet  *Subnet
	Addr    netip.Addr
	// Groups is the merge of the interface's own groups; nil allows at this
	// level.
	Groups *sg.Set
	// Managed is the managed group of a Gateway's nodes, judged apart from and
	// in addition to Groups; nil on everything else.
	Managed *sg.Set
	// Endpoint and Gateway are set on the interfaces of these.
	Endpoint *Endpoint
	Gateway  *Gateway
	// PublicKey is a Host's WireGuard key, base64; empty until it joins.
	PublicKey string
}

// Link is a site joined to a Network.
type Link struct {
	Name      string
	ID        string
	Type      string
	Network   *Network
	Prefixes  []netip.Prefix
	PublicKey string
	// Remote is the host:port that the hub dials; empty if the site dials.
	Remote string
	// Down says that the link is known to carry nothing. Compiled snapshots
	// have it false; explain sets it on a copy from what the engine observes.
	Down bool
}

// RouteKind says what kind of next hop a route has.
type RouteKind uint8

// The kinds of routes.
const (
	RouteLocal RouteKind = iota + 1
	RouteLink
	RoutePeering
)

// Route is one entry of a Network's route table.
type Route struct {
	Kind   RouteKind
	Prefix netip.Prefix
	Link   *Link    // RouteLink
	Peer   *Network // RoutePeering
	// Source is the resource that made the route.
	Source model.Ref
	// Shadows names a resource whose prefix overlaps this one and loses.
	Shadows model.Ref
}
