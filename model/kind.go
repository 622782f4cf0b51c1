// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import "strings"

// Kind names a kind of resource as it is written in a manifest.
type Kind string

// The kinds of the public contract, in the order in which a set of them is
// listed: what others refer to comes first.
const (
	KindNetwork       Kind = "Network"
	KindSecurityGroup Kind = "SecurityGroup"
	KindSubnet        Kind = "Subnet"
	KindHost          Kind = "Host"
	KindLink          Kind = "Link"
	KindPeering       Kind = "Peering"
	KindGateway       Kind = "Gateway"
	KindEndpoint      Kind = "Endpoint"
	KindAuthorization Kind = "SecurityGroupAuthorization"
	KindBackend       Kind = "Backend"
	KindAPI           Kind = "API"
	KindDeployment    Kind = "Deployment"
	KindStage         Kind = "Stage"
	KindDomain        Kind = "Domain"
	KindZone          Kind = "Zone"
	KindSelfHosted    Kind = "SelfHostedGateway"
	KindProduct       Kind = "Product"
	KindSubscription  Kind = "Subscription"
)

// Kinds lists every kind that this build knows, in listing order.
var Kinds = []Kind{
	KindNetwork, KindSecurityGroup, KindSubnet, KindHost, KindLink, KindPeering, KindGateway,
	KindEndpoint, KindAuthorization, KindBackend, KindAPI, KindDeployment, KindStage, KindDomain, KindZone,
	KindSelfHosted, KindProduct, KindSubscription,
}

// selfHosted is what a SelfHostedGateway is called for short, as in the SOURCE of
// explain.
const selfHosted = "selfhosted"

// ParseKind finds the kind meant by s: its name or plural in any case.
func ParseKind(s string) (Kind, bool) {
	l := strings.ToLower(s)
	if l == selfHosted {
		return KindSelfHosted, true
	}
	for _, k := range Kinds {
		if l == strings.ToLower(string(k)) || l == k.Plural() {
			return k, true
		}
	}
	return "", false
}

// Plural is the lower-case plural that the management API and the command use.
func (k Kind) Plural() string {
	switch k {
	case KindPeering:
		return "peerings"
	default:
		return strings.ToLower(string(k)) + "s"
	}
}

// Ref names one resource. Its text form is Kind/name.
type Ref struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// String returns Kind/name.
func (r Ref) String() string { return string(r.Kind) + "/" + r.Name }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }
