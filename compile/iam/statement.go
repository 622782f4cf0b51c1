// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"

	"postern.dev/postern/snapshot/iam"
)

// actions compiles an Action or NotAction element.
func (c *compiler) actions(n *node, path string, not bool) iam.Actions {
	a := iam.Actions{Not: not, Path: path}
	c.texts(n, path, func(s, at string) {
		if s != "*" {
			service, name, ok := strings.Cut(s, ":")
			switch {
			case !ok || service == "" || name == "":
				c.fail(at, "%q is not an action; write \"*\", or a service and a name as in \"execute-api:Invoke\"", s)
				return
			case strings.ContainsAny(service, "*?"):
				c.fail(at, "%q has a wildcard in the service; write the service in full, as in \"execute-api:*\", or \"*\" for everything", s)
				return
			case !actionChars(service, "-") || !actionChars(name, "*?"):
				c.fail(at, "%q is not an action: it holds a character that an action cannot; write it as in \"execute-api:Invoke\"", s)
				return
			}
		}
		a.Patterns = append(a.Patterns, c.pattern(s, at, syntax{wildcards: true}))
	})
	return a
}

func actionChars(s, also string) bool {
	for i := 0; i < len(s); i++ {
		if b := s[i]; !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte(also, b) >= 0) {
			return false
		}
	}
	return true
}

const shortForm = "execute-api:/"

// resources compiles a Resource or NotResource element.
func (c *compiler) resources(n *node, path string, not bool) iam.Resources {
	r := iam.Resources{Not: not, Path: path}
	c.texts(n, path, func(s, at string) {
		switch {
		case s == "*":
			r.Patterns = append(r.Patterns, iam.ResourcePattern{Text: s, Expanded: s, Any: true})
		case strings.HasPrefix(s, shortForm):
			r.Patterns = append(r.Patterns, c.short(s, at))
		case strings.HasPrefix(s, "arn:"):
			if p, ok := c.arn(s, at); ok {
				r.Patterns = append(r.Patterns, p)
			}
		case strings.HasPrefix(s, "/"):
			c.fail(at, "%q is not a resource; write %q", s, "execute-api:"+s)
		case strings.HasPrefix(s, "execute-api:"):
			c.fail(at, "%q is not a resource; write a slash after the colon: %q", s, shortForm+strings.TrimPrefix(s, "execute-api:"))
		default:
			c.fail(at, "%q is not a resource; write \"*\", \"execute-api:/STAGE/METHOD/PATH\", or a full ARN", s)
		}
	})
	return r
}

// short compiles the form "execute-api:/stage/METHOD/path".
func (c *compiler) short(s, at string) iam.ResourcePattern {
	rest := strings.TrimPrefix(s, "execute-api:")
	p := iam.ResourcePattern{Text: s, AnyAPI: c.API == ""}
	tail := c.pattern(rest, at, syntax{wildcards: true, variables: c.variables()})
	// The region, account and API come from the model: they are literal, whatever
	// characters are in them.
	for i, t := range []string{"arn", "aws", "execute-api", c.Region, c.Account} {
		p.Parts[i] = exactly(t)
	}
	api := c.API
	if p.AnyAPI {
		api = "*"
		p.Parts[5] = tail
	} else {
		p.Parts[5] = exactly(api)
		p.Parts[5].Text += rest
		p.Parts[5].Tokens = append(p.Parts[5].Tokens, tail.Tokens...)
	}
	p.Expanded = "arn:aws:execute-api:" + p.Parts[3].Text + ":" + p.Parts[4].Text + ":" + api + rest
	return p
}

// exactly is the pattern of s itself, or of anything if s is not known.
func exactly(s string) iam.Pattern {
	if s == "" {
		return iam.Pattern{Text: "*", Tokens: []iam.Token{{Kind: iam.TokenMany}}}
	}
	return iam.Pattern{Text: s, Tokens: []iam.Token{{Kind: iam.TokenLiteral, Text: s}}}
}

// arn compiles a full ARN.
func (c *compiler) arn(s, at string) (iam.ResourcePattern, bool) {
	p := iam.ResourcePattern{Text: s, Expanded: s}
	parts := strings.SplitN(s, ":", iam.ARNParts)
	if len(parts) < iam.ARNParts || parts[5] == "" {
		c.fail(at, "%q is not an ARN of six parts; write arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH", s)
		return p, false
	}
	if parts[2] == "" || strings.ContainsAny(parts[2], "*?") {
		c.fail(at, "%q must name its service; write \"arn:%s:execute-api:...\", or \"*\" for everything", s, parts[1])
		return p, false
	}
	for i, t := range parts[:5] {
		if strings.Contains(t, "${") && c.variables() {
			c.fail(at, "%q has a variable before the fifth colon; write variables in the last part only", s)
			return p, false
		}
		p.Parts[i] = c.pattern(t, at, syntax{wildcards: true})
	}
	p.Parts[5] = c.pattern(parts[5], at, syntax{wildcards: true, variables: c.variables()})
	return p, true
}
