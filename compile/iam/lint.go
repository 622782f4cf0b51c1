// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"

	"postern.dev/postern/snapshot/iam"
)

// Use says how what the policy protects is used, which Lint needs to know.
type Use struct {
	// Private: the API is called through Endpoints only.
	Private bool
	// Endpoint: the policy is an Endpoint's own. Its callers come through that
	// Endpoint and no other, so admitting all of them is not careless.
	Endpoint bool
	// Unauthenticated: some method does not require a signed request, so its
	// callers are anonymous.
	Unauthenticated bool
}

// Codes of findings.
const (
	CodeSourceIPOnPrivate = "policy/source-ip-on-private"
	CodeNegatedKeysAnded  = "policy/negated-keys-anded"
	CodeOpenToAllNetworks = "policy/open-to-all-networks"
	CodeNotPrincipalAllow = "policy/not-principal-allow"
	CodePrincipalUnsigned = "policy/principal-needs-signature"
	CodeIdentityKey       = "policy/key-needs-signature"
	CodeUnknownKey        = "policy/unknown-key"
	CodeForAllValuesAllow = "policy/for-all-values-allow"
	CodeManyValuedKey     = "policy/many-valued-key"
	CodeNoSuchAction      = "policy/no-such-action"
	CodeForeignResource   = "policy/foreign-resource"
)

// Finding is something in a policy that is well formed and rarely meant.
type Finding struct {
	Code string
	// Statement is the index of the statement, Path the place in it.
	Statement int
	Path      string
	Sentence  string
}

// Lint returns the findings of a compiled policy, in the order of its statements.
func Lint(p *iam.Policy, u Use) []Finding {
	l := &linter{policy: p, use: u}
	for i := range p.Statements {
		l.statement(&p.Statements[i])
	}
	return l.out
}

type linter struct {
	policy *iam.Policy
	use    Use
	out    []Finding
}

func (l *linter) find(s *iam.Statement, code, path, format string, args ...any) {
	l.out = append(l.out, Finding{Code: code, Statement: s.Index, Path: path, Sentence: sprintf(format, args...)})
}

func (l *linter) statement(s *iam.Statement) {
	l.principals(s)
	l.actions(s)
	for i := range s.Resources.Patterns {
		if r := &s.Resources.Patterns[i]; !r.Any && r.Parts[2].Text != "execute-api" {
			l.find(s, CodeForeignResource, s.Resources.Path, "%s is not a resource of execute-api, so it matches no request here.", r.Text)
		}
	}
	negated := ""
	for i := range s.Conditions {
		c := &s.Conditions[i]
		l.condition(s, c)
		switch {
		case !c.Operator.Negated || s.Effect != iam.Deny:
		case negated == "":
			negated = c.Key.Name
		case negated != c.Key.Name:
			l.find(s, CodeNegatedKeysAnded, c.Path,
				"Conditions are ANDed: this Deny applies only when %s and %s both differ; write two Deny statements to refuse when either does.", negated, c.Key.Name)
		}
	}
	if l.use.Private && l.open(s) {
		l.find(s, CodeOpenToAllNetworks, s.Path,
			"This Allow lets every Endpoint of every Network call the private API; add a condition on aws:SourceVpce or aws:SourceVpc.")
	}
}

func (l *linter) principals(s *iam.Statement) {
	p := &s.Principals
	switch {
	case p.Absent:
	case p.Not && s.Effect == iam.Allow:
		l.find(s, CodeNotPrincipalAllow, p.Path,
			"NotPrincipal with Allow admits everyone else, the anonymous included; write Principal with those who may.")
	case !p.Not && !p.Any && l.use.Unauthenticated && s.Effect == iam.Allow:
		l.find(s, CodePrincipalUnsigned, p.Path,
			"The statement names principals, but some methods take unsigned requests, whose caller is anonymous and matches only \"*\"; write \"*\" and tell callers apart by a condition, as on aws:SourceVpce.")
	}
}

func (l *linter) actions(s *iam.Statement) {
	known := []string{"execute-api:Invoke", "execute-api:ManageConnections", "execute-api:InvalidateCache"}
	for i := range s.Actions.Patterns {
		a := s.Actions.Patterns[i].Text
		if strings.ContainsAny(a, "*?") && (a == "*" || strings.HasPrefix(strings.ToLower(a), "execute-api:")) {
			continue
		}
		if _, ok := foldIn(known, a); !ok {
			l.find(s, CodeNoSuchAction, s.Actions.Path, "No request here asks for %s%s", a, orStop(didYouMean(a, known)))
		}
	}
}

func orStop(hint string) string {
	if hint == "" {
		return "."
	}
	return hint
}

func (l *linter) condition(s *iam.Statement, c *iam.Condition) {
	_, known, ok := iam.LookupKey(c.Key.Name)
	if !ok {
		l.find(s, CodeUnknownKey, c.Path, "No request here carries %s, so the operator sees a missing key%s", c.Key.Name, orStop(didYouMean(c.Key.Name, keyNames())))
		return
	}
	if c.Key.ID == iam.KeySourceIP && (l.use.Private || l.use.Endpoint) {
		effect := "never holds"
		if c.Operator.Negated || c.Operator.IfExists || c.Operator.Set == iam.SetForAll {
			effect = "always holds"
		}
		if c.Operator.Family != iam.FamilyNull {
			l.find(s, CodeSourceIPOnPrivate, c.Path, "aws:SourceIp is missing from calls through an Endpoint, so this condition %s; use aws:VpcSourceIp.", effect)
		}
	}
	if known.Identity && l.use.Unauthenticated {
		l.find(s, CodeIdentityKey, c.Path, "%s is missing from unsigned requests, which some methods take; tell callers apart by another key, such as aws:SourceVpce.", c.Key.Name)
	}
	if known.Many && c.Operator.Set == iam.SetNone && c.Operator.Family != iam.FamilyNull {
		l.find(s, CodeManyValuedKey, c.Path, "%s has many values; write ForAnyValue:%s or ForAllValues:%s.", c.Key.Name, c.Operator.Name, c.Operator.Name)
	}
	if s.Effect == iam.Allow && c.Operator.Set == iam.SetForAll {
		for i := range s.Conditions {
			if o := &s.Conditions[i]; o.Operator.Family == iam.FamilyNull && o.Key == c.Key && !o.WantAbsent {
				return
			}
		}
		l.find(s, CodeForAllValuesAllow, c.Path, "ForAllValues also holds when %s is missing, so this Allow admits requests without it; add \"Null\": {%q: \"false\"}.", c.Key.Name, c.Key.Name)
	}
}

// open reports whether s admits callers of every network.
func (l *linter) open(s *iam.Statement) bool {
	if s.Effect != iam.Allow || !s.Principals.Any || s.Principals.Not {
		return false
	}
	for i := range s.Conditions {
		if c := &s.Conditions[i]; narrows(c) && !c.Operator.IfExists && c.Operator.Set != iam.SetForAll {
			return false
		}
	}
	for i := range l.policy.Statements {
		if d := &l.policy.Statements[i]; d.Effect == iam.Deny && refusesOthers(d, s) {
			return false
		}
	}
	return true
}

// narrows reports whether c is about which network, or who, calls.
func narrows(c *iam.Condition) bool {
	switch c.Key.ID {
	case iam.KeySourceVpce, iam.KeySourceVpc, iam.KeySourceEndpoint, iam.KeySourceNetwork, iam.KeySourceHost, iam.KeySourceLink,
		iam.KeyClientCertSubject:
		return true
	}
	_, known, _ := iam.LookupKey(c.Key.Name)
	return known.Identity
}

// refusesOthers reports whether d refuses, for all that s allows, every network
// but some. It knows the usual forms and takes the others for not refusing.
func refusesOthers(d, s *iam.Statement) bool {
	if !d.Principals.Any || d.Principals.Not || d.Actions.Not || d.Resources.Not || s.Resources.Not || len(d.Conditions) == 0 {
		return false
	}
	for i := range d.Conditions {
		if c := &d.Conditions[i]; !c.Operator.Negated || !narrows(c) {
			return false
		}
	}
	for i := range s.Resources.Patterns {
		covered := false
		for j := range d.Resources.Patterns {
			covered = covered || covers(&d.Resources.Patterns[j], &s.Resources.Patterns[i])
		}
		if !covered {
			return false
		}
	}
	for i := range d.Actions.Patterns {
		switch a := strings.ToLower(d.Actions.Patterns[i].Text); a {
		case "*", "execute-api:*", "execute-api:invoke":
			return true
		}
	}
	return false
}

// covers reports whether wide plainly matches all that narrow matches.
func covers(wide, narrow *iam.ResourcePattern) bool {
	prefix, all := strings.CutSuffix(wide.Expanded, "*")
	for all && strings.HasSuffix(prefix, "/*/") {
		prefix = strings.TrimSuffix(prefix, "*/")
	}
	return wide.Any || wide.Expanded == narrow.Expanded ||
		all && !strings.ContainsAny(prefix, "*?$") && strings.HasPrefix(narrow.Expanded, prefix)
}
