// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"

	"postern.dev/postern/snapshot/rule"
)

// Snapshot is one immutable compiled configuration.
type Snapshot struct {
	// Revision is the store revision it was compiled from; 0 when it was
	// compiled from manifests alone.
	Revision int64
	// Base is the base domain, such as postern.internal.
	Base string

	Networks  map[string]*Network   // by name
	Gateways  map[string]*Gateway   // by name
	Endpoints map[string]*Endpoint  // by name
	Hosts     map[string]*Interface // by the Host's name
	Links     map[string]*Link      // by name
	APIs      map[string]*API       // by name
	Backends  map[string]*Backend   // by name

	Subscriptions map[string]*Subscription // by name
	// Meters name what is counted, by the index that a Key or Stage has: the same
	// thing has the same name in every snapshot.
	Meters []string

	Internet Internet
	// Public is the view of the internet, of links and of peers.
	Public *View
}

// Internet is the segment on which Gateways have public addresses and Networks
// their address for NAT. It also stands for everything beyond.
type Internet struct {
	// Prefixes are the segment's own, 198.18.0.0/15 unless configured.
	Prefixes []netip.Prefix
	// Gateways finds the Gateway that owns a public address, its first or its
	// configuration's; Gateway.Ports says what is published there.
	Gateways map[netip.Addr]*Gateway
	// NAT finds the Network whose hosts appear under an address.
	NAT map[netip.Addr]*Network
	// Egress lists what may be dialled beyond the segment although it is
	// loopback, private, link-local or an address of the server itself.
	Egress []netip.Prefix
	// Own are addresses of the server itself.
	Own []netip.Addr
	// Management are the management plane's own addresses on the segment, from
	// which it reaches Gateways: the tag ApiManagement.
	Management []netip.Addr
}

// Origin says where a connection came from. The network engine vouches for it:
// nothing above the network trusts an address that does not stand in an Origin.
type Origin struct {
	// Network is the Network the caller's interface is in; empty for links,
	// and for callers on the internet.
	Network string
	// Endpoint is the Endpoint through which the connection came, if any.
	Endpoint string
	// Host, Link, Gateway and SelfHosted name the caller, if it is one.
	Host, Link, Gateway, SelfHosted string
	// Source is the caller's address as it reached the listener: behind NAT
	// this is the Network's public address.
	Source netip.AddrPort
	// Local is the address that was called.
	Local netip.AddrPort
	// Node is the Gateway whose own node in a Network was called; empty at
	// Endpoints and public addresses.
	Node string
	// Socket is the port of the real socket that was called, which --public-ports
	// may have moved, and SocketTLS that of the one that stands for 443; zero
	// elsewhere.
	Socket, SocketTLS uint16
	// QUIC tells that the caller speaks HTTP/3, and AltSvc says where it is spoken
	// beside the real socket that was called: a value of the field Alt-Svc (RFC
	// 7838), empty if nowhere.
	QUIC   bool
	AltSvc string
	// ServedBy is the SelfHostedGateway in whose process the connection arrived;
	// empty everywhere else. What only holds for a Gateway's place in the network
	// does not hold there.
	ServedBy string
}

// Rule points at the line of a manifest that decided.
type Rule = rule.Ref
