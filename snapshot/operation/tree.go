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

// Build makes the routing tree of t from its Operations and sets their Params.
// Everything that is wrong is in the error.
func (t *Table) Build() error {
	t.Nodes = []Node{{AnyMethod: -1}}
	var errs []error
	for i := range t.Operations {
		if err := t.add(int32(i)); err != nil {
			errs = append(errs, fmt.Errorf("paths.%s.%s: %w", t.Operations[i].Path, strings.ToLower(t.Operations[i].Method), err))
		}
	}
	return errors.Join(errs...)
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
