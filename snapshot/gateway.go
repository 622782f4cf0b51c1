// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/model"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot/iam"
	"postern.dev/postern/snapshot/operation"
)

// Gateway is the service that APIs are published on.
type Gateway struct {
	Name   string
	ID     string
	Region string
	// Host is its own host name, <name>.<base>.
	Host string
	// Mode is its networkMode: model.ModeNone, ModeExternal or ModeInternal.
	Mode string
	// Public is its address on the internet segment.
	Public []netip.Addr
	// PublicAccess tells whether the gateway component is open there.
	PublicAccess bool
	// PublicPorts are the published ports and what shares each.
	PublicPorts map[uint16]Components
	// Configuration is its second address on the internet segment, for the
	// configuration host name, and ConfigurationPorts what is published there.
	Configuration      []netip.Addr
	ConfigurationPorts map[uint16]Components
	// Nodes are the interfaces of an injected Gateway: what reaches a public
	// address goes through the groups of the first. An interface for outbound
	// integration is not among them: nothing listens there.
	Nodes []*Interface
	// PrivatePorts are the ports that Nodes listen on.
	PrivatePorts map[uint16]Components
	// Outbound is its interface in the Subnet of its outbound integration; nil
	// without one.
	Outbound *Interface
	// HTTP says what port 80 does: off, redirect or serve.
	HTTP string
	// TrustedProxies are where the proxies in front of the Gateway stand, whose
	// word counts for where a request comes from.
	TrustedProxies []netip.Prefix
	// Hosts finds what a host name means at this Gateway: names in lower case
	// without port. A Domain's wildcard stands under "*.rest".
	Hosts map[string]*Host
	// APIs finds an API of this Gateway by its id.
	APIs map[string]*API
	// AccessLog is what the access log tells of requests that no Stage serves.
	AccessLog AccessLog
	// Paths holds the APIs that have a base path, for the Gateway's own name.
	Paths     []PathMapping
	Endpoints []*Endpoint
	// Keys are the API keys that open its APIs; nil if none was issued.
	Keys *Keys
}

// Component is a part of a Gateway that listens.
type Component string

// The components.
const (
	ComponentGateway       Component = "gateway"
	ComponentManagement    Component = "management"
	ComponentConfiguration Component = "configuration"
	ComponentPortal        Component = "portal"
	ComponentSCM           Component = "scm"
)

// Components share a port; the name in the TLS handshake tells them apart.
type Components []Component

// Has reports whether c is one of them.
func (cs Components) Has(c Component) bool { return slices.Contains(cs, c) }

// Ports returns what g publishes at one of its addresses on the internet
// segment.
func (g *Gateway) Ports(a netip.Addr) map[uint16]Components {
	if slices.Contains(g.Configuration, a) {
		return g.ConfigurationPorts
	}
	return g.PublicPorts
}

// Injected reports whether g has nodes in a Network.
func (g *Gateway) Injected() bool { return len(g.Nodes) > 0 }

// Interfaces lists what g has in Networks: its nodes, and its outbound
// integration.
func (g *Gateway) Interfaces() []*Interface {
	if g.Outbound == nil {
		return g.Nodes
	}
	return append(slices.Clip(g.Nodes), g.Outbound)
}

// HostKind says what a host name names.
type HostKind uint8

// The kinds of host names.
const (
	HostOwn        HostKind = iota + 1 // <gateway>.<base>
	HostExecuteAPI                     // <api id>.execute-api.<region>.<base>
	HostEndpoint                       // <endpoint id>-<8>.execute-api.<region>.vpce.<base>
	HostAssociated                     // <api id>-<endpoint id>.execute-api.<region>.<base>
	HostDomain                         // a Domain's name
	HostComponent                      // <gateway>.<component>.<base>
)

// Host is what one host name means.
type Host struct {
	Kind     HostKind
	Name     string
	API      *API      // HostExecuteAPI, HostAssociated
	Endpoint *Endpoint // HostEndpoint, HostAssociated
	Domain   *Domain   // HostDomain
	// Component is what the name leads to: HostComponent.
	Component Component
}

// PathMapping sends the paths below Path to a Stage. Path has no slash at
// either end; empty matches everything.
type PathMapping struct {
	Path  string
	API   *API
	Stage *Stage // nil: the API has no such Stage
	// StageName is the name that was asked for.
	StageName string

	segments int // of Path
}

// Segments is how many segments Path has, once SortMappings has counted them.
func (m *PathMapping) Segments() int { return m.segments }

// SortMappings puts the paths with the most segments first, so that the first
// that matches is the longest, and those with equally many in order; the empty
// path comes last.
func SortMappings(ms []PathMapping) {
	for i := range ms {
		if ms[i].segments = 0; ms[i].Path != "" {
			ms[i].segments = strings.Count(ms[i].Path, "/") + 1
		}
	}
	slices.SortStableFunc(ms, func(a, b PathMapping) int {
		return cmp.Or(b.segments-a.segments, strings.Compare(a.Path, b.Path))
	})
}

// Domain is a host name of one's own.
type Domain struct {
	Name string // as in Metadata: may begin with "*."
	ID   string
	Type string
	// Mappings are sorted by falling number of path segments.
	Mappings  []PathMapping
	Endpoints []*Endpoint
	Policy    *iam.Policy
	// Resource is Name+ID, ARN the Domain's own: how policies see a private
	// Domain.
	Resource, ARN string
	// Certificate and Key are PEM when they were given.
	Certificate string
	Key         model.Secret
	// NotBefore and NotAfter bound the time of a given certificate; zero without
	// one.
	NotBefore, NotAfter time.Time
	// ACME says how a certificate is obtained; nil when none is.
	ACME *ACME
	// ClientCA says which client certificates are taken; nil takes none.
	ClientCA *ClientCA
}

// ACME is how a certificate for a Domain is obtained (RFC 8555).
type ACME struct {
	// Directory is the URL of the authority's directory.
	Directory string
	// Email is where the authority writes to; may be empty.
	Email string
	// Roots are PEM certificates that the directory's own is verified with
	// beside the system's.
	Roots string
	// HTTP01 and TLSALPN01 are the challenges that may be answered.
	HTTP01, TLSALPN01 bool
}

// ClientCA says which client certificates a Domain takes.
type ClientCA struct {
	// Bundle is PEM certificates of the authorities.
	Bundle string
	// Pool is Bundle, read.
	Pool *x509.CertPool
	// Required refuses callers without a certificate.
	Required bool
}

// Backend is a set of targets that operations are sent to.
type Backend struct {
	Name    string
	Targets []Target
	// Protocol is http, https, h2c or grpc.
	Protocol string
	// Network is the one it is resolved and dialled in; nil: from the
	// Gateway's own place.
	Network *Network
	// Timeout bounds a call; 0: the integration's.
	Timeout time.Duration
	// Health says how targets are probed; nil: they are not.
	Health *Health
}

// Health says how the targets of a Backend are probed.
type Health struct {
	// Path is asked for with GET and has to answer below 400; empty: that the
	// port accepts a connection is enough.
	Path string
	// Interval is the time between two probes of a target, Timeout bounds one.
	Interval, Timeout time.Duration
	// Unhealthy probes in a row that fail take a target out, Healthy ones that
	// pass take it back.
	Unhealthy, Healthy int
}

// Target is one address of a Backend.
type Target struct {
	Host string
	Port uint16
	// Weight is its share of the calls, at least 1.
	Weight int
	// TLS says that gRPC is spoken under TLS.
	TLS bool
}

// Connection is the state of an Endpoint.
type Connection uint8

// The states of an Endpoint.
const (
	Pending Connection = iota
	Approved
	Rejected
)

// Endpoint is a private address of a Gateway in a Network.
type Endpoint struct {
	Name string
	ID   string
	// Host is its host name.
	Host       string
	Gateway    *Gateway
	Network    *Network
	Interfaces []*Interface // one a Subnet
	PrivateDNS bool
	// Policy is nil for full access.
	Policy     *iam.Policy
	Connection Connection
	HTTP2      bool
}

// API is a published API as it stands, with the Stages that serve it.
//
// What every request reads stands first, so that it is in one line of memory.
type API struct {
	// Stages are by short name.
	Stages  map[string]*Stage
	Type    string // model.Edge, model.Regional, model.Private
	ID      string
	Gateway *Gateway
	Name    string
	// Host is its execute-api host name.
	Host string
	// Products are those whose keys open it, sorted by name.
	Products []*Product
	// Endpoints are those the API lists; that grants nothing but a name.
	Endpoints []*Endpoint
}

// Stage serves one Deployment of an API under a name.
type Stage struct {
	Name string // short
	API  *API
	// Deployment is nil if there is none.
	Deployment *Deployment
	Variables  map[string]string
	// Stale lists the fields, such as spec.policy, in which the API as saved
	// differs from what the Stage serves.
	Stale []string
	// Throttle bounds the requests of all callers together; nil for no limit.
	Throttle *Throttle
	// Meter indexes what they are counted with, in Snapshot.Meters, and Qualified
	// is the Stage's full name, where there is a Throttle.
	Meter     int
	Qualified string
	// AccessLog is what the access log tells of its requests.
	AccessLog AccessLog
	// Index is the Stage's place among all of the snapshot, from 0 on.
	Index int
}

// AccessLog says what an access log tells of requests.
type AccessLog struct {
	// Off has nothing told.
	Off bool
	// Format is nil for the default one.
	Format *accesslog.Format
}

// Deployment is an immutable compiled copy of an API.
type Deployment struct {
	Number int
	// Policy is nil if the API had none.
	Policy                    *iam.Policy
	DisableExecuteAPIEndpoint bool
	Operations                *operation.Table
	// KeyRequired says that it is the API itself that asks for a key, of every
	// operation.
	KeyRequired bool
}
