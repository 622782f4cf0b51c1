// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"

	"postern.dev/postern/decide/name"
)

// nameReason is one sentence about what a name resolved to.
func nameReason(asked string, v *name.Verdict) string {
	chain := asked
	if v.Name != asked {
		chain = asked + " is a CNAME of " + v.Name + ", which"
	}
	switch {
	case v.Status == name.Loop:
		return asked + " leads in a circle of CNAMEs."
	case v.Status == name.NoData:
		return chain + " exists but has no address."
	case v.Status == name.NotFound && v.Zone == nil:
		return chain + " is in no zone that this caller sees."
	case v.Status == name.NotFound && v.Zone.Private:
		return chain + " is not in the private zone " + v.Zone.Domain + " of " + v.Zone.Owner.String() + ", and a private zone never falls through to the public one."
	case v.Status == name.NotFound:
		return chain + " has no record in the public zone " + v.Zone.Domain + "."
	}
	text := chain + " is " + strings.Join(texts(v.Addrs), ", ")
	if !v.Owner.IsZero() {
		text += ", the address of " + v.Owner.String()
	}
	switch v.Code {
	case name.PrivateShadowsPublic:
		return text + ": the private zone " + v.ShadowedBy.Domain + " of " + v.ShadowedBy.Owner.String() + " answers, and hides the public answer."
	case name.ResolvesPublic:
		return text + ": a public address, although the Network has an Endpoint of that Gateway."
	}
	return text + "."
}
