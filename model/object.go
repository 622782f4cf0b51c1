// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"reflect"

	"postern.dev/postern/model/tree"
)

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
	// OutboundAddress is the address of a Gateway in its Subnet for outbound
	// integration: what it dials from there.
	OutboundAddress string `json:"outboundAddress,omitempty"`
	// PublicKey is the WireGuard key: of a Network's hub, or registered by a
	// Host or Link on joining.
	PublicKey string `json:"publicKey,omitempty"`
	// Port is the UDP port on which a Network's hub listens.
	Port int `json:"port,omitempty"`
	// Connection is an Endpoint's state: Pending, Approved or Rejected.
	Connection string `json:"connection,omitempty"`
	// Deployment is the number that a Stage serves, or an API's newest one.
	Deployment int `json:"deployment,omitempty"`
	// GrantedRules are the inbound rules that SecurityGroupAuthorizations put
	// into a SecurityGroup.
	GrantedRules []GrantedRule `json:"grantedRules,omitempty"`
	// GrantedPorts are the ranges of a SecurityGroupAuthorization for which a
	// rule was made. One whose rule is gone was revoked by hand and stays so.
	GrantedPorts []string `json:"grantedPorts,omitempty"`
	// Authorizations are those of a Gateway. They are shown and not stored.
	Authorizations []Authorized `json:"authorizations,omitempty"`
	// Instances are the processes of a SelfHostedGateway that were heard of. They
	// are shown and not stored.
	Instances []Instance `json:"instances,omitempty"`
	// Keys are the API keys that were issued for a Subscription. No manifest, nor
	// a backup in manifests, brings any.
	Keys []IssuedKey `json:"keys,omitempty"`
	// KeySecret is what the hashes of the keys for a Gateway's APIs are made with,
	// hexadecimal. It is made with the first key.
	KeySecret Secret `json:"keySecret,omitzero"`
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
	// Source is the document that the resource was read from, if its places
	// are of interest: Locate finds the place of a field in it.
	Source *tree.Node `json:"-"`
}

// Locate returns where a field, such as spec.rules[0], stands in the file that
// the resource was read from; where the resource begins if that is not known.
func (h *Head) Locate(field string) Position {
	p := h.Position
	if h.Source != nil {
		p.Line, p.Column = h.Source.Locate(field)
	}
	return p
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

// New returns an empty resource of kind k, or nil if there is no such kind.
func New(k Kind) Object {
	switch k {
	case KindNetwork:
		return &Network{}
	case KindSecurityGroup:
		return &SecurityGroup{}
	case KindSubnet:
		return &Subnet{}
	case KindHost:
		return &Host{}
	case KindLink:
		return &Link{}
	case KindPeering:
		return &Peering{}
	case KindGateway:
		return &Gateway{}
	case KindEndpoint:
		return &Endpoint{}
	case KindAuthorization:
		return &SecurityGroupAuthorization{}
	case KindBackend:
		return &Backend{}
	case KindAPI:
		return &API{}
	case KindDeployment:
		return &Deployment{}
	case KindStage:
		return &Stage{}
	case KindDomain:
		return &Domain{}
	case KindZone:
		return &Zone{}
	case KindSelfHosted:
		return &SelfHostedGateway{}
	case KindProduct:
		return &Product{}
	case KindSubscription:
		return &Subscription{}
	}
	return nil
}

// Clone returns a copy of o that shares nothing that is ever changed in place:
// raw JSON and the source document are shared.
func Clone[T Object](o T) T {
	v := reflect.ValueOf(o)
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(deep(v.Elem()))
	return c.Interface().(T)
}

var (
	rawType    = reflect.TypeFor[[]byte]()
	sourceType = reflect.TypeFor[*tree.Node]()
)

func deep(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := out.Field(i); f.CanSet() {
				f.Set(deep(v.Field(i)))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type() != sourceType {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(deep(v.Elem()))
		}
	case reflect.Slice:
		if !v.IsNil() && !v.Type().ConvertibleTo(rawType) {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(deep(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for _, k := range v.MapKeys() {
				out.SetMapIndex(k, deep(v.MapIndex(k)))
			}
		}
	}
	return out
}

// Equal reports whether a and b are the same resource with the same metadata,
// spec and status, wherever they were read from.
func Equal(a, b Object) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	return reflect.DeepEqual(bare(a), bare(b))
}

func bare(o Object) any {
	c := reflect.New(reflect.TypeOf(o).Elem())
	c.Elem().Set(reflect.ValueOf(o).Elem())
	h := c.Interface().(Object).Base()
	h.Position, h.Source, h.Revision = Position{}, nil, 0
	return c.Interface()
}
