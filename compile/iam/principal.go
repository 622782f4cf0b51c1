// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"

	"postern.dev/postern/snapshot/iam"
)

// principals compiles a Principal or NotPrincipal element.
func (c *compiler) principals(n *node, path string, not bool) iam.Principals {
	p := iam.Principals{Not: not, Path: path}
	if n.kind == str {
		if n.text == "*" {
			p.Any = true
		} else {
			c.fail(path, "a lone string can only be \"*\"; write {\"AWS\": %q}", n.text)
		}
		return p
	}
	if n.kind != object {
		c.fail(path, "the value is %s; write \"*\" or an object such as {\"AWS\": \"arn:aws:iam::123456789012:root\"}", n.kind)
		return p
	}
	if len(n.members) == 0 {
		c.fail(path, "the object names nobody; write \"*\" for everyone, or {\"AWS\": ...}")
	}
	seen := map[string]bool{}
	for i := range n.members {
		m := &n.members[i]
		at := join(path, m.name)
		if seen[m.name] {
			c.duplicate(path, m.name)
			continue
		}
		seen[m.name] = true
		compile, ok := principalTypes[m.name]
		if !ok {
			types := []string{"AWS", "Service", "Federated", "CanonicalUser"}
			c.fail(at, "unknown type of principal %q%s; the types are %s", m.name, didYouMean(m.name, types), strings.Join(types, ", "))
			continue
		}
		c.texts(&m.value, at, func(s, at string) {
			if s == "*" && m.name == "AWS" {
				p.Any = true
				return
			}
			v, problem := compile(s)
			if problem != "" {
				c.fail(at, "%q %s", s, problem)
				return
			}
			v.Text = s
			p.Values = append(p.Values, v)
		})
	}
	return p
}

// principalTypes compiles a value of each type, or says what is wrong with it.
var principalTypes = map[string]func(string) (iam.Principal, string){
	"AWS": awsPrincipal,
	"Service": func(s string) (iam.Principal, string) {
		if strings.Contains(s, "*") || !strings.HasSuffix(s, ".amazonaws.com") || strings.TrimSuffix(s, ".amazonaws.com") == "" {
			return iam.Principal{}, "is not a service; write for example \"apigateway.amazonaws.com\""
		}
		return iam.Principal{Kind: iam.PrincipalService, Value: s}, ""
	},
	"Federated": func(s string) (iam.Principal, string) {
		if s == "" || strings.ContainsAny(s, "*? ") {
			return iam.Principal{}, "is not an identity provider; write its name or ARN in full, without wildcards"
		}
		return iam.Principal{Kind: iam.PrincipalFederated, Value: s}, ""
	},
	"CanonicalUser": func(s string) (iam.Principal, string) {
		if s == "" || strings.ContainsAny(s, "*? ") {
			return iam.Principal{}, "is not a canonical user id; write the id in full, without wildcards"
		}
		return iam.Principal{Kind: iam.PrincipalCanonical, Value: s}, ""
	},
}

func awsPrincipal(s string) (iam.Principal, string) {
	const example = "write an account (\"123456789012\"), or the ARN of a user, role or session in full"
	if isAccount(s) {
		return iam.Principal{Kind: iam.PrincipalAccount, Value: s}, ""
	}
	if strings.ContainsAny(s, "*?") {
		return iam.Principal{}, "holds a wildcard: a principal is \"*\" or exact; to match some, write \"*\" and a Condition ArnLike on aws:PrincipalArn"
	}
	if strings.Contains(s, "${") {
		return iam.Principal{}, "holds a variable, which a principal cannot; " + example
	}
	p := strings.SplitN(s, ":", iam.ARNParts)
	if len(p) != iam.ARNParts || p[0] != "arn" || p[1] == "" || p[3] != "" {
		return iam.Principal{}, "is not a principal; " + example
	}
	if !isAccount(p[4]) {
		return iam.Principal{}, "names no account of twelve digits; " + example
	}
	kind, name, _ := strings.Cut(p[5], "/")
	switch service := p[2]; {
	case service == "iam" && p[5] == "root":
		return iam.Principal{Kind: iam.PrincipalAccount, Value: p[4]}, ""
	case service == "iam" && kind == "group":
		return iam.Principal{}, "is a group, and groups are no principals; name its users, or the account"
	case service == "iam" && (kind == "user" || kind == "role") && isName(name),
		service == "sts" && kind == "federated-user" && isName(name):
		return iam.Principal{Kind: iam.PrincipalARN, Value: s}, ""
	case service == "sts" && kind == "assumed-role":
		if role, session, ok := strings.Cut(name, "/"); !ok || role == "" || !isName(session) {
			return iam.Principal{}, "names no session; write \"arn:aws:sts::" + p[4] + ":assumed-role/ROLE/SESSION\", or the role's own ARN for all its sessions"
		}
		return iam.Principal{Kind: iam.PrincipalARN, Value: s}, ""
	}
	return iam.Principal{}, "is not a principal; " + example
}

// isName reports whether s can follow the "user/" or "role/" of an ARN.
func isName(s string) bool {
	return s != "" && s[0] != '/' && s[len(s)-1] != '/' && !strings.ContainsAny(s, ": ")
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
