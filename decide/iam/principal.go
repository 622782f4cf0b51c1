// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"

	"postern.dev/postern/snapshot/iam"
)

// principalMatches reports whether a statement's Principal or NotPrincipal
// element holds for who.
func principalMatches(p *iam.Principals, effect iam.Effect, who *Principal) bool {
	switch {
	case p.Absent:
		return true
	case !p.Not:
		return p.Any || anyNames(p, who)
	case p.Any:
		return false // everyone is excepted
	case effect == iam.Deny:
		// A Deny spares only a caller whose every identity is listed: of a session
		// the account, the role and the session itself.
		return !everyIdentityNamed(p, who)
	default:
		return !anyNames(p, who)
	}
}

func anyNames(p *iam.Principals, who *Principal) bool {
	for i := range p.Values {
		if names(&p.Values[i], who) {
			return true
		}
	}
	return false
}

// names reports whether v names who. Nothing but "*" names the anonymous.
func names(v *iam.Principal, who *Principal) bool {
	switch v.Kind {
	case iam.PrincipalAccount:
		return who.Kind == Identity && who.Account != "" && who.Account == v.Value
	case iam.PrincipalARN:
		return who.Kind == Identity && (who.ARN == v.Value || who.Role == v.Value)
	case iam.PrincipalService:
		return who.Kind == Service && who.Name == v.Value
	case iam.PrincipalFederated:
		return who.Kind == Federated && who.Name == v.Value
	default:
		return who.Kind == Canonical && who.Name == v.Value
	}
}

func everyIdentityNamed(p *iam.Principals, who *Principal) bool {
	if who.Kind != Identity {
		return anyNames(p, who)
	}
	var account, self, role bool
	for i := range p.Values {
		v := &p.Values[i]
		switch v.Kind {
		case iam.PrincipalAccount:
			account = account || who.Account == v.Value
		case iam.PrincipalARN:
			self = self || who.ARN == v.Value
			role = role || who.Role == v.Value
		}
	}
	return account && (self || isRoot(who)) && (role || who.Role == "")
}

func isRoot(who *Principal) bool { return strings.HasSuffix(who.ARN, ":root") }

// delegates reports whether p names who by account alone.
func delegates(p *iam.Principals, who *Principal) bool {
	if p.Absent || p.Any || p.Not || isRoot(who) {
		return false
	}
	for i := range p.Values {
		if v := &p.Values[i]; v.Kind != iam.PrincipalAccount && names(v, who) {
			return false
		}
	}
	return true
}
