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

// conditions compiles a Condition element.
func (c *compiler) conditions(n *node, path string) []snapshot.Condition {
	if n.kind != object {
		c.fail(path, "the value is %s; write an object such as {\"StringEquals\": {\"aws:SourceVpce\": \"vpce-...\"}}", n.kind)
		return nil
	}
	var out []snapshot.Condition
	seen := map[string]bool{}
	for i := range n.members {
		m := &n.members[i]
		at := join(path, m.name)
		if seen[m.name] {
			c.duplicate(path, m.name)
			continue
		}
		seen[m.name] = true
		op, problem := operator(m.name)
		switch {
		case problem != "":
			c.fail(at, "%s", problem)
		case m.value.kind != object:
			c.fail(at, "the value is %s; write an object of condition keys, as {\"aws:SourceVpce\": \"vpce-...\"}", m.value.kind)
		case len(m.value.members) == 0:
			c.fail(at, "the operator compares nothing; write a condition key in it, or remove it")
		default:
			out = append(out, c.keys(&m.value, at, op)...)
		}
	}
	return out
}

// operator takes an operator's name apart, or says what is wrong with it.
func operator(name string) (snapshot.Operator, string) {
	base, set := name, snapshot.SetNone
	if qualifier, rest, ok := strings.Cut(name, ":"); ok {
		switch base = rest; qualifier {
		case "ForAllValues":
			set = snapshot.SetForAll
		case "ForAnyValue":
			set = snapshot.SetForAny
		default:
			return snapshot.Operator{}, sprintf("unknown qualifier %q%s; write ForAllValues: or ForAnyValue: before the operator",
				qualifier, didYouMean(qualifier, []string{"ForAllValues", "ForAnyValue"}))
		}
	}
	trimmed := strings.TrimSuffix(base, "IfExists")
	op, ok := snapshot.BaseOperator(trimmed)
	if !ok {
		var all []string
		for _, o := range snapshot.Operators() {
			all = append(all, o.Name)
			if o.Family != snapshot.FamilyNull {
				all = append(all, o.Name+"IfExists")
			}
		}
		hint := didYouMean(base, all)
		if hint == "" {
			hint = "; write one such as StringEquals, StringLike, IpAddress, ArnLike, Bool or Null"
		}
		return op, sprintf("unknown operator %q%s", base, hint)
	}
	op.Name, op.Set, op.IfExists = name, set, trimmed != base
	if op.Family == snapshot.FamilyNull && (op.IfExists || set != snapshot.SetNone) {
		return op, "Null takes neither a qualifier nor IfExists; write \"Null\""
	}
	return op, ""
}

// keys compiles the condition keys under one operator.
func (c *compiler) keys(n *node, path string, op snapshot.Operator) []snapshot.Condition {
	var out []snapshot.Condition
	seen := map[string]bool{}
	for i := range n.members {
		m := &n.members[i]
		at := join(path, m.name)
		if fold := strings.ToLower(m.name); seen[fold] {
			c.duplicate(path, m.name)
			continue
		} else {
			seen[fold] = true
		}
		if problem := keySyntax(m.name); problem != "" {
			c.fail(at, "%q %s", m.name, problem)
			continue
		}
		key, _, known := snapshot.LookupKey(m.name)
		if !known && strings.HasPrefix(strings.ToLower(m.name), "postern:") {
			c.fail(at, "Postern has no condition key %q%s", m.name, didYouMean(m.name, keyNames()))
			continue
		}
		cond := snapshot.Condition{Path: at, Operator: op, Key: key}
		c.conditionValues(&m.value, at, &cond)
		out = append(out, cond)
	}
	return out
}

func keyNames() []string {
	var out []string
	for _, k := range snapshot.KnownKeys() {
		out = append(out, k.Name)
	}
	return out
}

// conditionValues compiles the values of a condition: strings, or literals that
// stand for their text, alone or in a list.
func (c *compiler) conditionValues(n *node, path string, cond *snapshot.Condition) {
	list, one := n.items, n.kind != array
	if one {
		list = []node{*n}
	}
	if len(list) == 0 {
		c.fail(path, "the list is empty; write at least one value")
	}
	for i := range list {
		at := path
		if !one {
			at = index(path, i)
		}
		v := &list[i]
		if v.kind != str && v.kind != number && v.kind != boolean {
			c.fail(at, "the value is %s; write a string", v.kind)
			continue
		}
		cond.Text = append(cond.Text, v.text)
		if problem := c.conditionValue(v.text, at, cond); problem != "" {
			c.fail(at, "%q %s", v.text, problem)
		}
	}
}

// conditionValue compiles one value, or says what is wrong with it.
func (c *compiler) conditionValue(s, at string, cond *snapshot.Condition) string {
	if strings.Contains(s, "${") && c.variables() {
		switch cond.Operator.Family {
		case snapshot.FamilyString, snapshot.FamilyARN, snapshot.FamilyBool:
		default:
			return "holds a variable, which " + cond.Operator.Name + " does not take; write the value itself"
		}
	}
	x := syntax{variables: c.variables()}
	switch cond.Operator.Family {
	case snapshot.FamilyString:
		x.wildcards = cond.Operator.Test == snapshot.TestLike
		cond.Patterns = append(cond.Patterns, c.pattern(s, at, x))
	case snapshot.FamilyBool:
		if s != "true" && s != "false" && !(x.variables && strings.HasPrefix(s, "${")) {
			return "is neither true nor false; write \"true\" or \"false\""
		}
		cond.Patterns = append(cond.Patterns, c.pattern(s, at, x))
	case snapshot.FamilyNull:
		switch s {
		case "true":
			cond.WantAbsent = true
		case "false":
			cond.WantPresent = true
		default:
			return "is neither true nor false; write \"true\" for a key that must be missing, \"false\" for one that must be there"
		}
	case snapshot.FamilyNumeric:
		v, ok := iam.ParseNumber(s)
		if !ok {
			return "is not a number; write an integer or a decimal such as 3600 or 0.5"
		}
		cond.Numbers = append(cond.Numbers, v)
	case snapshot.FamilyDate:
		v, ok := iam.ParseTime(s)
		if !ok {
			return "is not a date; write it as 2026-01-31T09:00:00Z, or as seconds since 1970"
		}
		cond.Times = append(cond.Times, v)
	case snapshot.FamilyBinary:
		v, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || strings.ContainsAny(s, "\r\n") {
			return "is not base64; write the bytes in standard base64 with padding"
		}
		cond.Binaries = append(cond.Binaries, v)
	case snapshot.FamilyIP:
		v, ok := parsePrefix(s)
		if !ok {
			return "is not an address or CIDR; write for example 10.0.0.0/8, 203.0.113.9 or 2001:db8::/32"
		}
		cond.Prefixes = append(cond.Prefixes, v)
	case snapshot.FamilyARN:
		v, problem := arnPattern(s, x.variables)
		if problem != "" {
			return problem
		}
		cond.ARNs = append(cond.ARNs, v)
	}
	return ""
}

// parsePrefix reads an address or CIDR; bits beyond the prefix are dropped, and an
// IPv4 address in IPv6 clothes is IPv4.
func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), a.Zone() == ""
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// arnPattern compiles a value of an ARN operator.
func arnPattern(s string, variables bool) (snapshot.ARNPattern, string) {
	var p snapshot.ARNPattern
	x := syntax{wildcards: true, variables: variables}
	tokens, problem := tokenise(s, x)
	if problem != "" {
		return p, problem
	}
	if len(tokens) == 1 && tokens[0].Kind == snapshot.TokenVariable {
		p.Whole = true
		p.Parts[0] = snapshot.Pattern{Text: s, Tokens: tokens}
		return p, ""
	}
	parts := splitARN(s, variables)
	if len(parts) != snapshot.ARNParts || parts[0] != "arn" {
		return p, "is not an ARN; write all six parts, as arn:aws:execute-api:*:*:*, where a wildcard stays within its part"
	}
	for i, t := range parts {
		tokens, problem := tokenise(t, x)
		if problem != "" {
			return p, problem
		}
		p.Parts[i] = snapshot.Pattern{Text: t, Tokens: tokens}
	}
	return p, ""
}

// splitARN cuts s at its first five colons, those inside variables excepted.
func splitARN(s string, variables bool) []string {
	var out []string
	start := 0
	for i := 0; i < len(s) && len(out) < snapshot.ARNParts-1; i++ {
		switch {
		case variables && strings.HasPrefix(s[i:], "${"):
			if end := strings.IndexByte(s[i:], '}'); end > 0 {
				i += end
			}
		case s[i] == ':':
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}
