// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Build makes the routing tree of t from its Operations, sets their Params and
// notes whether any needs a key.
// Everything that is wrong is in the error.
func (t *Table) Build() error {
	t.Nodes = []Node{{AnyMethod: -1}}
	var errs []error
	for i := range t.Operations {
		t.Operations[i].Index = i
		t.Keyed = t.Keyed || t.Operations[i].KeyRequired
		if err := t.add(int32(i)); err != nil {
			errs = append(errs, fmt.Errorf("paths.%s.%s: %w", t.Operations[i].Path, strings.ToLower(t.Operations[i].Method), err))
		}
	}
	t.pack()
	return errors.Join(errs...)
}

// pack lays the tree's texts and lists side by side. A gateway of many APIs
// routes through memory that no cache holds, so that what counts is how many
// lines of it a look-up touches.
func (t *Table) pack() {
	var children, methods, length int
	for i := range t.Nodes {
		children += len(t.Nodes[i].Static)
		methods += len(t.Nodes[i].Methods)
		for _, c := range t.Nodes[i].Static {
			length += len(c.Segment)
		}
	}
	cs, ms := make([]Child, 0, children), make([]Method, 0, methods)
	var text strings.Builder
	text.Grow(length)
	for i := range t.Nodes {
		for _, c := range t.Nodes[i].Static {
			text.WriteString(c.Segment)
		}
	}
	texts := text.String()
	nodes := make([]Node, len(t.Nodes))
	for i, n := range t.Nodes {
		c, m := len(cs), len(ms)
		for _, x := range n.Static {
			x.Segment, texts = texts[:len(x.Segment)], texts[len(x.Segment):]
			cs = append(cs, x)
		}
		for _, x := range n.Methods {
			x.Name = known(x.Name)
			ms = append(ms, x)
		}
		n.Static, n.Methods = cs[c:len(cs):len(cs)], ms[m:len(ms):len(ms)]
		nodes[i] = n
	}
	t.Nodes = nodes
}

// known returns the one copy of a usual method's name.
func known(method string) string {
	for _, m := range [...]string{"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"} {
		if m == method {
			return m
		}
	}
	return method
}

func (t *Table) add(op int32) error {
	o := &t.Operations[op]
	if !strings.HasPrefix(o.Path, "/") {
		return errors.New("a path begins with a slash")
	}
	rest := strings.Trim(o.Path, "/")
	at := int32(0)
	o.Params = nil
	for rest != "" {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		name, greedy, isParam, err := parameter(segment)
		if err != nil {
			return err
		}
		if !isParam {
			at = t.static(at, segment)
			continue
		}
		if greedy && rest != "" {
			return fmt.Errorf("{%s+} must be the last segment", name)
		}
		if slices.Contains(o.Params, name) {
			return fmt.Errorf("the parameter %s stands twice in the path", name)
		}
		if len(o.Params) == MaxParams {
			return fmt.Errorf("more than %d parameters in the path", MaxParams)
		}
		o.Params = append(o.Params, name)
		at = t.wild(at, greedy)
	}
	return t.put(at, op)
}

// parameter takes a segment apart: {name} or {name+}, which must be all of it.
func parameter(segment string) (name string, greedy, isParam bool, err error) {
	if segment == "" {
		return "", false, false, errors.New("a segment of the path is empty")
	}
	if !strings.ContainsAny(segment, "{}") {
		return "", false, false, nil
	}
	name, opened := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	name, greedy = strings.CutSuffix(name, "+")
	if !opened || !closed || name == "" || strings.ContainsAny(name, "{}+") {
		return "", false, false, fmt.Errorf("%q: a parameter is a whole segment, as {name} or {name+}", segment)
	}
	return name, greedy, true, nil
}

func (t *Table) static(at int32, segment string) int32 {
	i, found := slices.BinarySearchFunc(t.Nodes[at].Static, segment, func(c Child, s string) int {
		return cmp.Compare(c.Segment, s)
	})
	if found {
		return t.Nodes[at].Static[i].Node
	}
	n := t.node()
	t.Nodes[at].Static = slices.Insert(t.Nodes[at].Static, i, Child{Segment: segment, Node: n})
	return n
}

func (t *Table) wild(at int32, greedy bool) int32 {
	p := t.Nodes[at].Param
	if greedy {
		p = t.Nodes[at].Greedy
	}
	if p != 0 {
		return p
	}
	p = t.node()
	if greedy {
		t.Nodes[at].Greedy = p
	} else {
		t.Nodes[at].Param = p
	}
	return p
}

func (t *Table) node() int32 {
	t.Nodes = append(t.Nodes, Node{AnyMethod: -1})
	return int32(len(t.Nodes) - 1)
}

func (t *Table) put(at, op int32) error {
	n, o := &t.Nodes[at], &t.Operations[op]
	if o.Method == Any {
		if n.AnyMethod >= 0 {
			return fmt.Errorf("%s has the same form", t.Operations[n.AnyMethod].Path)
		}
		n.AnyMethod = op
		return nil
	}
	i, found := slices.BinarySearchFunc(n.Methods, o.Method, func(m Method, s string) int {
		return cmp.Compare(m.Name, s)
	})
	if found {
		return fmt.Errorf("%s has the same form", t.Operations[n.Methods[i].Operation].Path)
	}
	n.Methods = slices.Insert(n.Methods, i, Method{Name: o.Method, Operation: op})
	return nil
}
