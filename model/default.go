// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

// The values of enumerated fields.
const (
	ModeNone     = "none"
	ModeExternal = "external"
	ModeInternal = "internal"

	HTTPOff      = "off"
	HTTPRedirect = "redirect"
	HTTPServe    = "serve"

	ApprovalAuto   = "auto"
	ApprovalManual = "manual"

	Inbound  = "inbound"
	Outbound = "outbound"
	Allow    = "allow"
	Deny     = "deny"
	AnyProto = "any"

	DefaultsStrict     = "strict"
	DefaultsAzure      = "azure"
	DefaultsBasic      = "basic"
	DefaultsEnterprise = "enterprise"

	ChallengeHTTP01    = "http-01"
	ChallengeTLSALPN01 = "tls-alpn-01"

	DirectConnect = "direct-connect"
	VPN           = "vpn"
)

// DefaultPriority is the priority of a Rule that names none.
const DefaultPriority = 1000

// DefaultACME is the directory of the ACME authority that a Domain uses if it
// names none.
const DefaultACME = "https://acme-v02.api.letsencrypt.org/directory"

// DefaultTTL is the TTL of a Record that names none, in seconds.
const DefaultTTL = 300

// Default fills in, in place, what a manifest may leave out. What depends on
// other resources, such as an API's only Stage, is left to those who need it.
func Default(o Object) {
	switch o := o.(type) {
	case *SecurityGroup:
		set(&o.Spec.Defaults, DefaultsStrict)
		for i := range o.Spec.Rules {
			r := &o.Spec.Rules[i]
			set(&r.Action, Allow)
			set(&r.Priority, DefaultPriority)
			set(&r.Protocol, AnyProto)
		}
	case *Gateway:
		set(&o.Spec.NetworkMode, ModeNone)
		set(&o.Spec.HTTP, HTTPOff)
		set(&o.Spec.EndpointApproval, ApprovalAuto)
		if o.Spec.PublicAccess == nil {
			o.Spec.PublicAccess = new(true)
		}
	case *Endpoint:
		if o.Spec.PrivateDNS == nil {
			o.Spec.PrivateDNS = new(true)
		}
	case *Domain:
		if t := o.Spec.TLS; t != nil && t.ACME != nil {
			set(&t.ACME.Directory, DefaultACME)
			if len(t.ACME.Challenges) == 0 {
				t.ACME.Challenges = []string{ChallengeHTTP01, ChallengeTLSALPN01}
			}
		}
	case *Backend:
		set(&o.Spec.Protocol, "http")
		for i := range o.Spec.Targets {
			set(&o.Spec.Targets[i].Weight, 1)
		}
	case *Stage:
		burst(o.Spec.Throttle)
	case *Product:
		burst(o.Spec.Throttle)
	case *Zone:
		for i := range o.Spec.Records {
			set(&o.Spec.Records[i].TTL, DefaultTTL)
		}
	}
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// on reads a switch that is on unless it says otherwise.
func on(b *bool) bool { return b == nil || *b }
