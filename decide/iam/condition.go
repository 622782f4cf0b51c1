// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"
	"time"
	"unicode/utf8"

	"postern.dev/postern/snapshot/iam"
)

// conditionHolds reports whether c holds for r; the rules for a missing key are
// all here.
func conditionHolds(c *iam.Condition, r *Request) bool {
	v := r.value(&c.Key)
	o := &c.Operator
	if o.Family == iam.FamilyNull {
		return v.kind == missing && c.WantAbsent || v.kind != missing && c.WantPresent
	}
	if v.kind == missing {
		// A qualifier asks about the values, of which there are none: all of them
		// pass and not any does, and IfExists has no say in that.
		switch o.Set {
		case iam.SetForAll:
			return true
		case iam.SetForAny:
			return false
		}
		return o.IfExists || o.Negated
	}
	if v.kind != kindStrings {
		return valueMatches(c, &v, r) != o.Negated
	}
	// A set that every value passes, or that some value passes. An operator without
	// a qualifier is not meant for many values: a positive one asks for some value,
	// a negated one for none that matches, as it does of the policy's values.
	all := o.Set == iam.SetForAll || o.Set == iam.SetNone && o.Negated
	for _, s := range v.many {
		one := value{kind: kindString, str: s}
		if passes := valueMatches(c, &one, r) != o.Negated; passes != all {
			return passes
		}
	}
	return all
}

// valueMatches reports whether v matches any of the values of c, negation aside.
// A value that is not what the operator compares matches none.
func valueMatches(c *iam.Condition, v *value, r *Request) bool {
	switch c.Operator.Family {
	case iam.FamilyNumeric:
		n, ok := v.number()
		for i := 0; ok && i < len(c.Numbers); i++ {
			if ordered(c.Operator.Test, compareNumbers(n, c.Numbers[i])) {
				return true
			}
		}
	case iam.FamilyDate:
		t, ok := v.instant()
		for i := 0; ok && i < len(c.Times); i++ {
			if ordered(c.Operator.Test, compareTimes(t, &c.Times[i])) {
				return true
			}
		}
	case iam.FamilyIP:
		a, ok := v.address()
		for i := 0; ok && i < len(c.Prefixes); i++ {
			if c.Prefixes[i].Contains(a) {
				return true
			}
		}
	case iam.FamilyBinary:
		for i := 0; v.kind == kindString && i < len(c.Binaries); i++ {
			if string(c.Binaries[i]) == v.str {
				return true
			}
		}
	case iam.FamilyARN:
		return v.kind == kindString && arnMatches(c, v.str, r)
	default:
		if v.kind == kindString {
			return textMatches(c, v.str, "", r)
		}
		// The text of an address or a time is cut in two because the compiler keeps
		// strings of up to 32 bytes on the stack.
		var b [formatted]byte
		s := v.append(b[:0])
		n := min(len(s), 32)
		return textMatches(c, string(s[:n]), string(s[n:]), r)
	}
	return false
}

// textMatches matches a text in up to two pieces with the patterns of c.
func textMatches(c *iam.Condition, head, tail string, r *Request) bool {
	for i := range c.Patterns {
		p := &c.Patterns[i]
		var ok bool
		switch {
		case c.Operator.Test == iam.TestEqualFold:
			ok = equalFold(p.Tokens, head, tail, r)
		case tail == "":
			ok = matchText(p, head, r, exact)
		default:
			pieces := [2]string{head, tail}
			ok = match(p.Tokens, pieces[:], r, exact)
		}
		if ok {
			return true
		}
	}
	return false
}

// equalFold compares tokens, which hold no wildcard, with a text without regard
// to case.
func equalFold(tokens []iam.Token, head, tail string, r *Request) bool {
	ok := true
	for i := 0; ok && i < len(tokens); i++ {
		k := &tokens[i]
		s := k.Text
		if k.Kind == iam.TokenVariable {
			switch v := r.value(&k.Key); {
			case v.kind == kindString:
				s = v.str
			case v.kind == missing && k.HasDefault:
				s = k.Default
			case v.kind == missing || v.kind == kindStrings:
				return false
			default:
				var b [formatted]byte
				for _, c := range v.append(b[:0]) {
					if head == "" {
						head, tail = tail, ""
					}
					if head == "" || lowerASCII(head[0]) != lowerASCII(c) {
						return false
					}
					head = head[1:]
				}
				continue
			}
		}
		for s != "" && ok {
			if head == "" {
				head, tail = tail, ""
			}
			_, n := utf8.DecodeRuneInString(s)
			_, m := utf8.DecodeRuneInString(head)
			ok = strings.EqualFold(s[:n], head[:m])
			s, head = s[n:], head[m:]
		}
	}
	return ok && head == "" && tail == ""
}

// arnMatches compares an ARN with the values of c, section by section.
func arnMatches(c *iam.Condition, arn string, r *Request) bool {
	var parts [iam.ARNParts]string
	rest := arn
	for i := range parts {
		if i == len(parts)-1 {
			parts[i] = rest
			break
		}
		colon := strings.IndexByte(rest, ':')
		if colon < 0 {
			return false
		}
		parts[i], rest = rest[:colon], rest[colon+1:]
	}
next:
	for i := range c.ARNs {
		p := &c.ARNs[i]
		if p.Whole {
			if matchText(&p.Parts[0], arn, r, exact) {
				return true
			}
			continue
		}
		for j := range parts {
			if !matchText(&p.Parts[j], parts[j], r, exact) {
				continue next
			}
		}
		return true
	}
	return false
}

// ordered reports whether a comparison's sign satisfies the test.
func ordered(t iam.Test, sign int) bool {
	switch t {
	case iam.TestLess:
		return sign < 0
	case iam.TestLessEqual:
		return sign <= 0
	case iam.TestGreater:
		return sign > 0
	case iam.TestGreaterEqual:
		return sign >= 0
	default:
		return sign == 0
	}
}

func compareNumbers(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareTimes(a time.Time, b *time.Time) int { return a.Compare(*b) }
