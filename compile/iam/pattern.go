// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"

	"postern.dev/postern/snapshot/iam"
)

// syntax says what has a meaning in a pattern.
type syntax struct{ wildcards, variables bool }

// tokenise cuts s into tokens, or says what is wrong with a variable in it.
func tokenise(s string, x syntax) ([]iam.Token, string) {
	var out []iam.Token
	literal := func(t string) {
		if n := len(out); n > 0 && out[n-1].Kind == iam.TokenLiteral {
			out[n-1].Text += t
		} else if t != "" {
			out = append(out, iam.Token{Kind: iam.TokenLiteral, Text: t})
		}
	}
	start := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '*' && x.wildcards:
			literal(s[start:i])
			if n := len(out); n == 0 || out[n-1].Kind != iam.TokenMany {
				out = append(out, iam.Token{Kind: iam.TokenMany})
			}
			start = i + 1
		case s[i] == '?' && x.wildcards:
			literal(s[start:i])
			out = append(out, iam.Token{Kind: iam.TokenOne})
			start = i + 1
		case strings.HasPrefix(s[i:], "${") && x.variables:
			literal(s[start:i])
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, "has a \"${\" without \"}\"; close the variable, or write \"${$}{\" for the two characters"
			}
			inner := s[i+2 : i+end]
			if inner == "*" || inner == "?" || inner == "$" {
				literal(inner)
			} else {
				t, problem := variable(inner)
				if problem != "" {
					return nil, problem
				}
				out = append(out, t)
			}
			i += end
			start = i + 1
		}
	}
	literal(s[start:])
	return out, ""
}

// variable reads what stands between "${" and "}".
func variable(inner string) (iam.Token, string) {
	t := iam.Token{Kind: iam.TokenVariable}
	name, rest, hasDefault := strings.Cut(inner, ",")
	if hasDefault {
		rest = strings.TrimLeft(rest, " ")
		if len(rest) < 2 || rest[0] != '\'' || rest[len(rest)-1] != '\'' || strings.Contains(rest[1:len(rest)-1], "'") {
			return t, sprintf("has the variable ${%s}; write its default in single quotes: ${%s, 'default'}", inner, name)
		}
		t.Default, t.HasDefault = rest[1:len(rest)-1], true
	}
	if problem := keySyntax(name); problem != "" {
		return t, sprintf("has the variable ${%s}, but %q %s", inner, name, problem)
	}
	key, known, _ := iam.LookupKey(name)
	if known.Many {
		return t, sprintf("has the variable ${%s}, but %s has many values and cannot be a variable; compare it with ForAnyValue", inner, key.Name)
	}
	t.Key = key
	return t, ""
}

// keySyntax says what is wrong with the name of a condition key.
func keySyntax(name string) string {
	service, rest, ok := strings.Cut(name, ":")
	if !ok || service == "" || rest == "" {
		all := make([]string, 0, 32)
		for _, k := range iam.KnownKeys() {
			_, short, _ := strings.Cut(k.Name, ":")
			if strings.EqualFold(short, name) {
				return sprintf("is not a condition key; write %q", k.Name)
			}
			all = append(all, k.Name)
		}
		return sprintf("is not a condition key%s; write a prefix, a colon and a name, as in aws:SourceVpce", didYouMean(name, all))
	}
	for i := 0; i < len(service); i++ {
		if b := service[i]; !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-') {
			return "is not a condition key; its prefix is made of letters, digits and hyphens"
		}
	}
	if strings.ContainsAny(rest, "*?${}'\" ,") {
		return "is not a condition key; it holds a character that a key cannot"
	}
	return ""
}

// variables reports whether the document has policy variables.
func (c *compiler) variables() bool { return c.version == iam.Version2012 }

// pattern compiles s; it fails at path.
func (c *compiler) pattern(s, path string, x syntax) iam.Pattern {
	tokens, problem := tokenise(s, x)
	if problem != "" {
		c.fail(path, "%q %s", s, problem)
	}
	return iam.Pattern{Text: s, Tokens: tokens}
}
