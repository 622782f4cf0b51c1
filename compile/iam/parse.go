// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package iam compiles IAM policy documents.
//
// Parse is strict: what the policy language does not define is refused rather
// than skipped, because an element that is silently ignored makes a policy mean
// something else than it says. It returns every error of a document at once, each
// with its place and with what to write instead. Lint finds what is well formed
// and yet rarely meant.
package iam

import (
	"strings"
	"unicode/utf8"

	"postern.dev/postern/snapshot/iam"
)

// DefaultMaxCharacters is the length of the longest policy accepted unless
// Options say otherwise; it is API Gateway's limit.
const DefaultMaxCharacters = 8192

// Options say what a policy is attached to.
type Options struct {
	// Region, Account and API complete the short form "execute-api:/stage/METHOD/path".
	// Without an API, as for the policy of an Endpoint or of a domain, the short
	// form means that path of any API.
	Region, Account, API string
	// Identity marks a policy that belongs to a caller instead of a resource: it
	// names no principal.
	Identity bool
	// MaxCharacters bounds the document; 0 means DefaultMaxCharacters.
	MaxCharacters int
}

// Parse compiles a policy document. If it is not well formed the error is Errors.
func Parse(doc []byte, o Options) (*iam.Policy, error) {
	limit := o.MaxCharacters
	if limit <= 0 {
		limit = DefaultMaxCharacters
	}
	if n := utf8.RuneCount(doc); n > limit {
		return nil, Errors{{Msg: sprintf("the policy has %d characters; shorten it to at most %d", n, limit)}}
	}
	root, err := readJSON(doc)
	if err != nil {
		return nil, Errors{*err}
	}
	c := &compiler{Options: o}
	p := c.policy(root)
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	p.Source = string(doc)
	return p, nil
}

// compiler carries what all parts of one document need.
type compiler struct {
	Options
	version iam.Version
	errs    Errors
}

// maxErrors bounds what one document can make us say.
const maxErrors = 100

func (c *compiler) fail(path, format string, args ...any) {
	switch n := len(c.errs); {
	case n < maxErrors:
		c.errs = append(c.errs, Error{Path: path, Msg: sprintf(format, args...)})
	case n == maxErrors:
		c.errs = append(c.errs, Error{Msg: "there are more errors; mend these first"})
	}
}

var (
	policyElements    = []string{"Version", "Id", "Statement"}
	statementElements = []string{
		"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction",
		"Resource", "NotResource", "Condition",
	}
)

// elements returns the members of an object by element name. Element names
// compare without regard to case.
func (c *compiler) elements(n *node, path, what string, known []string) map[string]*node {
	if n.kind != object {
		c.fail(path, "%s is %s; write an object in braces", what, n.kind)
		return nil
	}
	out := make(map[string]*node, len(n.members))
	for i := range n.members {
		m := &n.members[i]
		name, ok := foldIn(known, m.name)
		switch {
		case !ok:
			c.fail(join(path, m.name), "unknown element %q%s; the elements of %s are %s",
				m.name, didYouMean(m.name, known), what, strings.Join(known, ", "))
		case out[name] != nil:
			c.duplicate(path, m.name)
		default:
			out[name] = &m.value
		}
	}
	return out
}

func (c *compiler) duplicate(path, name string) {
	c.fail(join(path, name), "%q occurs more than once (names compare without regard to case); write it once, with a list if it has several values", name)
}

func (c *compiler) policy(root *node) *iam.Policy {
	e := c.elements(root, "", "a policy", policyElements)
	if e == nil {
		return nil
	}
	p := &iam.Policy{Version: iam.Version2008}
	if v := e["Version"]; v != nil {
		switch s, ok := c.text(v, "Version"); {
		case !ok:
		case s == string(iam.Version2008) || s == string(iam.Version2012):
			p.Version = iam.Version(s)
		default:
			c.fail("Version", "unknown version %q; write \"2012-10-17\" (or \"2008-10-17\", which has no variables)", s)
		}
	}
	c.version = p.Version
	if v := e["Id"]; v != nil {
		p.ID, _ = c.text(v, "Id")
	}
	v := e["Statement"]
	switch {
	case v == nil:
		c.fail("Statement", "a policy needs a Statement; write \"Statement\": [{...}]")
	case v.kind == array && len(v.items) == 0:
		c.fail("Statement", "the list of statements is empty; write at least one")
	case v.kind == array:
		for i := range v.items {
			p.Statements = append(p.Statements, c.statement(&v.items[i], i, index("Statement", i)))
		}
	default:
		p.Statements = append(p.Statements, c.statement(v, 0, "Statement"))
	}
	seen := map[string]string{}
	for i := range p.Statements {
		s := &p.Statements[i]
		if first, dup := seen[s.Sid]; dup && s.Sid != "" {
			c.fail(s.Path+".Sid", "%q is also the Sid of %s; give each statement its own", s.Sid, first)
		} else {
			seen[s.Sid] = s.Path
		}
	}
	return p
}

func (c *compiler) statement(n *node, i int, path string) iam.Statement {
	s := iam.Statement{Index: i, Path: path}
	e := c.elements(n, path, "a statement", statementElements)
	if e == nil {
		return s
	}
	if v := e["Sid"]; v != nil {
		s.Sid, _ = c.text(v, path+".Sid")
	}
	s.Effect = c.effect(e["Effect"], path+".Effect")

	if c.Identity {
		for _, name := range []string{"Principal", "NotPrincipal"} {
			if e[name] != nil {
				c.fail(join(path, name), "the policy of an identity names no principal; remove %s", name)
			}
		}
		s.Principals.Absent = true
	} else if v, name := c.either(e, path, "Principal", "NotPrincipal", `"Principal": "*"`); v != nil {
		s.Principals = c.principals(v, join(path, name), name == "NotPrincipal")
	}
	if v, name := c.either(e, path, "Action", "NotAction", `"Action": "execute-api:Invoke"`); v != nil {
		s.Actions = c.actions(v, join(path, name), name == "NotAction")
	}
	if v, name := c.either(e, path, "Resource", "NotResource", `"Resource": "execute-api:/*"`); v != nil {
		s.Resources = c.resources(v, join(path, name), name == "NotResource")
	}
	if v := e["Condition"]; v != nil {
		s.Conditions = c.conditions(v, path+".Condition")
	}
	return s
}

func (c *compiler) effect(v *node, path string) iam.Effect {
	if v == nil {
		c.fail(path, "a statement needs an Effect; write \"Allow\" or \"Deny\"")
		return iam.Deny
	}
	switch s, ok := c.text(v, path); {
	case !ok:
	case s == "Allow":
		return iam.Allow
	case s != "Deny":
		c.fail(path, "unknown effect %q%s; write \"Allow\" or \"Deny\", in that case", s, didYouMean(s, []string{"Allow", "Deny"}))
	}
	return iam.Deny
}

// either returns the one of two elements that is there, and its name.
func (c *compiler) either(e map[string]*node, path, yes, not, write string) (*node, string) {
	switch a, b := e[yes], e[not]; {
	case a != nil && b != nil:
		c.fail(path, "the statement has both %s and %s; keep one of them", yes, not)
		return nil, ""
	case a != nil:
		return a, yes
	case b != nil:
		return b, not
	}
	c.fail(path, "the statement has neither %s nor %s; write for example %s", yes, not, write)
	return nil, ""
}

// text returns the string that n must be.
func (c *compiler) text(n *node, path string) (string, bool) {
	if n.kind != str {
		c.fail(path, "the value is %s; write a string in quotes", n.kind)
		return "", false
	}
	return n.text, true
}

// texts calls f with each string of a string or list of strings.
func (c *compiler) texts(n *node, path string, f func(s, path string)) {
	switch {
	case n.kind == str:
		f(n.text, path)
	case n.kind == array && len(n.items) == 0:
		c.fail(path, "the list is empty; write at least one value")
	case n.kind == array:
		for i := range n.items {
			if s, ok := c.text(&n.items[i], index(path, i)); ok {
				f(s, index(path, i))
			}
		}
	default:
		c.fail(path, "the value is %s; write a string or a list of strings", n.kind)
	}
}
