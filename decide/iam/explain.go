// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"strings"

	"postern.dev/postern/snapshot/iam"
)

// Message returns the sentence that AWS answers a refused caller, for the body of
// the 403; it is empty for an Allow. Like the service's own it names neither the
// policy nor the statement.
func Message(v Verdict, r *Request) string {
	if v.Allowed() {
		return ""
	}
	who := "anonymous"
	if r.Principal.Kind != Anonymous {
		who = r.Principal.ARN
		if who == "" {
			who = r.Principal.Name
		}
	}
	s := "User: " + who + " is not authorized to perform: " + r.Action + " on resource: " + r.Resource.MaskedARN()
	if v.Decision == ExplicitDeny {
		s += " with an explicit deny"
	}
	return s
}

// Element is the part of a statement that a check is about.
type Element uint8

// The elements, in the order in which they are checked.
const (
	ElementPrincipal Element = iota
	ElementAction
	ElementResource
	ElementCondition
)

// String returns the element's name.
func (e Element) String() string {
	return [...]string{"Principal", "Action", "Resource", "Condition"}[e]
}

// Check is one element of a statement held against a request.
type Check struct {
	Element Element
	Holds   bool
	// Path is where the element stands in the document.
	Path string
	// Operator and Key belong to a condition.
	Operator, Key string
	// Want is what the policy says, Got what the request has.
	Want, Got []string
	// Missing says that the request lacks the key.
	Missing bool
}

// String returns the check as a sentence.
func (c Check) String() string {
	want := strings.Join(c.Want, ", ")
	holds := " does not hold: "
	if c.Holds {
		holds = " holds: "
	}
	switch {
	case c.Element != ElementCondition:
		return c.Path + holds + "the policy says " + want + ", the request has " + strings.Join(c.Got, ", ")
	case c.Missing:
		return c.Path + holds + "the request has no " + c.Key + ", and the operator is " + c.Operator
	default:
		return c.Path + holds + "the policy says " + want + ", the request has " + strings.Join(c.Got, ", ")
	}
}

// StatementTrace is one statement held against a request.
type StatementTrace struct {
	Index   int
	Sid     string
	Path    string
	Effect  iam.Effect
	Matched bool
	// Checks has one entry for each element and for each condition, those that
	// hold included: what holds is why a Deny fires.
	Checks []Check
}

// Failed returns the checks that do not hold.
func (s *StatementTrace) Failed() []Check {
	var out []Check
	for _, c := range s.Checks {
		if !c.Holds {
			out = append(out, c)
		}
	}
	return out
}

// Trace is a verdict with the reasons for it.
type Trace struct {
	Verdict    Verdict
	Statements []StatementTrace
	// Nearest is, for an implicit deny, the index of the Allow that fails in the
	// fewest elements, or -1 where the policy has no Allow.
	Nearest int
}

// Explain decides r by p as Evaluate does, and tells for every statement which
// elements hold. It allocates freely and is not for the request path.
func Explain(p *iam.Policy, r *Request) Trace {
	t := Trace{Verdict: Evaluate(p, r), Nearest: -1}
	if p == nil {
		return t
	}
	fewest := 0
	for i := range p.Statements {
		s := explainStatement(&p.Statements[i], r)
		t.Statements = append(t.Statements, s)
		if n := len(s.Failed()); t.Verdict.Decision == ImplicitDeny && s.Effect == iam.Allow && (t.Nearest < 0 || n < fewest) {
			t.Nearest, fewest = i, n
		}
	}
	return t
}

func explainStatement(s *iam.Statement, r *Request) StatementTrace {
	t := StatementTrace{Index: s.Index, Sid: s.Sid, Path: s.Path, Effect: s.Effect, Matched: matches(s, r)}
	t.Checks = append(t.Checks, Check{
		Element: ElementPrincipal, Path: s.Principals.Path,
		Holds: principalMatches(&s.Principals, s.Effect, &r.Principal),
		Want:  principalTexts(&s.Principals), Got: []string{callerText(&r.Principal)},
	}, Check{
		Element: ElementAction, Path: s.Actions.Path,
		Holds: actionMatches(&s.Actions, r),
		Want:  actionTexts(&s.Actions), Got: []string{r.Action},
	}, Check{
		Element: ElementResource, Path: s.Resources.Path,
		Holds: resourceMatches(&s.Resources, r),
		Want:  resourceTexts(&s.Resources), Got: []string{r.Resource.ARN()},
	})
	for i := range s.Conditions {
		c := &s.Conditions[i]
		v := r.value(&c.Key)
		t.Checks = append(t.Checks, Check{
			Element: ElementCondition, Path: c.Path,
			Holds:    conditionHolds(c, r),
			Operator: c.Operator.Name, Key: c.Key.Name,
			Want: append([]string(nil), c.Text...), Got: v.texts(), Missing: v.kind == missing,
		})
	}
	return t
}

// texts returns the values for a reader.
func (v *value) texts() []string {
	switch v.kind {
	case missing:
		return nil
	case kindString:
		return []string{v.str}
	case kindStrings:
		return append([]string(nil), v.many...)
	}
	return []string{string(v.append(nil))}
}

func callerText(who *Principal) string {
	switch {
	case who.Kind == Anonymous:
		return "anonymous"
	case who.ARN != "":
		return who.ARN
	default:
		return who.Name
	}
}

func principalTexts(p *iam.Principals) []string {
	var out []string
	if p.Any {
		out = append(out, "*")
	}
	for i := range p.Values {
		out = append(out, p.Values[i].Text)
	}
	return out
}

func actionTexts(a *iam.Actions) []string {
	out := make([]string, 0, len(a.Patterns))
	for i := range a.Patterns {
		out = append(out, a.Patterns[i].Text)
	}
	return out
}

func resourceTexts(e *iam.Resources) []string {
	out := make([]string, 0, len(e.Patterns))
	for i := range e.Patterns {
		out = append(out, e.Patterns[i].Text)
	}
	return out
}
