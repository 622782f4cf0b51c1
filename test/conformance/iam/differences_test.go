// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"encoding/base64"
	"net/netip"
	"strings"

	"postern.dev/postern/decide/iam"
	snapshot "postern.dev/postern/snapshot/iam"
)

// differences are the pairs on which we differ from the simulator on purpose;
// README.md has the reason for each, under the same name.
var differences = []struct {
	name    string
	applies func(*pair) bool
}{
	{"version-ignored", versionIgnored},
	{"literal-in-equals", literalInEquals},
	{"unresolved-negated", anyCondition(unresolvedNegated)},
	{"wrong-type-negated", anyCondition(wrongTypeNegated)},
	{"not-a-number", anyCondition(notANumber)},
	{"not-a-date", anyCondition(notADate)},
	{"binary-text", anyCondition(binaryText)},
	{"plain-on-many", anyCondition(plainOnMany)},
	{"null-of-empty", anyCondition(nullOfEmpty)},
	{"not-principal-deny", notPrincipalDeny},
	{"epoch-milliseconds", anyCondition(epochMilliseconds)},
	{"host-of-other-family", anyCondition(hostOfOtherFamily)},
	{"all-of-ipv4", anyCondition(allOfIPv4)},
	{"wildcard-crosses-slash", wildcardCrossesSlash},
}

// difference names the first that applies to c.
func difference(c *pair) string {
	for _, d := range differences {
		if d.applies(c) {
			return d.name
		}
	}
	return ""
}

func allDifferences(c *pair) []string {
	var out []string
	for _, d := range differences {
		if d.applies(c) {
			out = append(out, d.name)
		}
	}
	return out
}

func anyCondition(f func(*pair, *snapshot.Condition) bool) func(*pair) bool {
	return func(c *pair) bool {
		for i := range c.policy.Statements {
			for j := range c.policy.Statements[i].Conditions {
				if f(c, &c.policy.Statements[i].Conditions[j]) {
					return true
				}
			}
		}
		return false
	}
}

// lookup reads the context that the simulator is given.
func lookup(c *pair, key string) (values []string, many, present bool) {
	for k, v := range c.context {
		if !strings.EqualFold(k, key) {
			continue
		}
		if s, ok := v.(string); ok {
			return []string{s}, false, true
		}
		return v.([]string), true, true
	}
	return nil, false, false
}

func versionIgnored(c *pair) bool {
	return c.policy.Version == snapshot.Version2008 && strings.Contains(c.doc, "${")
}

func literalInEquals(c *pair) bool {
	return anyCondition(func(_ *pair, k *snapshot.Condition) bool {
		if k.Operator.Family != snapshot.FamilyString || k.Operator.Test == snapshot.TestLike {
			return false
		}
		for _, s := range k.Text {
			if strings.Contains(s, "${*}") || strings.Contains(s, "${?}") || strings.Contains(s, "${$}") {
				return true
			}
		}
		return false
	})(c)
}

func unresolvedNegated(c *pair, k *snapshot.Condition) bool {
	if !k.Operator.Negated || c.policy.Version != snapshot.Version2012 {
		return false
	}
	tokens := []snapshot.Token{}
	for i := range k.Patterns {
		tokens = append(tokens, k.Patterns[i].Tokens...)
	}
	for i := range k.ARNs {
		for j := range k.ARNs[i].Parts {
			tokens = append(tokens, k.ARNs[i].Parts[j].Tokens...)
		}
	}
	for i := range tokens {
		if t := &tokens[i]; t.Kind == snapshot.TokenVariable && !t.HasDefault {
			if _, many, present := lookup(c, t.Key.Name); many || !present {
				return true
			}
		}
	}
	return false
}

func wrongTypeNegated(c *pair, k *snapshot.Condition) bool {
	if !k.Operator.Negated {
		return false
	}
	values, _, _ := lookup(c, k.Key.Name)
	for _, v := range values {
		ok := true
		switch k.Operator.Family {
		case snapshot.FamilyNumeric:
			_, ok = iam.ParseNumber(v)
		case snapshot.FamilyDate:
			_, ok = iam.ParseTime(v)
		case snapshot.FamilyIP:
			_, err := netip.ParseAddr(v)
			ok = err == nil
		case snapshot.FamilyARN:
			ok = strings.HasPrefix(v, "arn:") && strings.Count(v, ":") >= 5
		case snapshot.FamilyBinary:
			_, err := base64.StdEncoding.DecodeString(v)
			ok = err == nil
		}
		if !ok {
			return true
		}
	}
	return false
}

func plainOnMany(c *pair, k *snapshot.Condition) bool {
	_, many, _ := lookup(c, k.Key.Name)
	return many && k.Operator.Set == snapshot.SetNone && k.Operator.Family != snapshot.FamilyNull
}

// nullOfEmpty: Null asks about a key that is there without a value.
func nullOfEmpty(c *pair, k *snapshot.Condition) bool {
	values, _, present := lookup(c, k.Key.Name)
	return present && len(values) == 0 && k.Operator.Family == snapshot.FamilyNull
}

func notPrincipalDeny(c *pair) bool {
	for i := range c.policy.Statements {
		s := &c.policy.Statements[i]
		if s.Effect == snapshot.Deny && s.Principals.Not && c.request.Principal.Kind == iam.Identity {
			return true
		}
	}
	return false
}

// notANumber: a numeric operator reads a value that is none, such as a date.
func notANumber(c *pair, k *snapshot.Condition) bool {
	values, _, _ := lookup(c, k.Key.Name)
	for _, v := range values {
		if _, ok := iam.ParseNumber(v); !ok && k.Operator.Family == snapshot.FamilyNumeric {
			return true
		}
	}
	return false
}

// notADate: a date operator reads a value that is none, such as "vpce-1".
func notADate(c *pair, k *snapshot.Condition) bool {
	values, _, _ := lookup(c, k.Key.Name)
	for _, v := range values {
		if _, ok := iam.ParseTime(v); !ok && !isEpoch(v) && k.Operator.Family == snapshot.FamilyDate {
			return true
		}
	}
	return false
}

// binaryText: BinaryEquals compares a key that is there.
func binaryText(c *pair, k *snapshot.Condition) bool {
	_, _, present := lookup(c, k.Key.Name)
	return present && k.Operator.Family == snapshot.FamilyBinary
}

// isEpoch tells seconds since 1970 from a date.
func isEpoch(s string) bool { return strings.Trim(s, "0123456789.") == "" }

// epochMilliseconds: a date operator compares seconds since 1970 with a date, or
// reads a lone number that we do not take for a date.
func epochMilliseconds(c *pair, k *snapshot.Condition) bool {
	if k.Operator.Family != snapshot.FamilyDate {
		return false
	}
	values, _, _ := lookup(c, k.Key.Name)
	for _, v := range values {
		if _, ok := iam.ParseTime(v); !ok && isEpoch(v) {
			return true
		}
		for _, w := range k.Text {
			if isEpoch(v) != isEpoch(w) {
				return true
			}
		}
	}
	return false
}

// hostOfOtherFamily: NotIpAddress compares an IPv4 address without a prefix with
// an IPv6 address, or the other way about.
func hostOfOtherFamily(c *pair, k *snapshot.Condition) bool {
	if k.Operator.Family != snapshot.FamilyIP || !k.Operator.Negated {
		return false
	}
	values, _, _ := lookup(c, k.Key.Name)
	for _, v := range values {
		for _, w := range k.Text {
			if !strings.Contains(w, "/") && strings.Contains(v, ":") != strings.Contains(w, ":") {
				return true
			}
		}
	}
	return false
}

func allOfIPv4(c *pair, k *snapshot.Condition) bool {
	values, _, _ := lookup(c, k.Key.Name)
	for _, w := range k.Text {
		if k.Operator.Family == snapshot.FamilyIP && w == "0.0.0.0/0" && len(values) > 0 {
			return true
		}
	}
	return false
}

// wildcardCrossesSlash: a wildcard stands where the API's id does, before a slash.
func wildcardCrossesSlash(c *pair) bool {
	for i := range c.policy.Statements {
		for _, p := range c.policy.Statements[i].Resources.Patterns {
			if api, _, more := strings.Cut(p.Parts[5].Text, "/"); more && strings.ContainsAny(api, "*?") {
				return true
			}
		}
	}
	return false
}
