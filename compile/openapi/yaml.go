// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
	yaml "github.com/goccy/go-yaml/parser"
)

// parseYAML reads a YAML document into the same tree as JSON. Aliases are
// copied, and count towards the limit of values.
func parseYAML(doc []byte) (v value, err error) {
	defer func() {
		// The library is known to panic on some malformed documents.
		if r := recover(); r != nil {
			v, err = value{}, fmt.Errorf("not valid YAML: %v", r)
		}
	}()
	if err := shallow(doc); err != nil {
		return value{}, err
	}
	f, err := yaml.ParseBytes(doc, 0)
	if err != nil {
		return value{}, err
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return value{}, errors.New("one YAML document is wanted")
	}
	c := converter{t: &tree{}, anchors: map[string]ast.Node{}}
	i, err := c.value(f.Docs[0].Body, 0)
	if err != nil {
		return value{}, err
	}
	return value{c.t, i}, nil
}

type converter struct {
	t       *tree
	anchors map[string]ast.Node
}

func (c *converter) value(n ast.Node, depth int) (int32, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return c.t.add(node{kind: null, text: "null"})
	case *ast.StringNode:
		return c.t.add(node{kind: text, text: n.Value})
	case *ast.LiteralNode:
		return c.t.add(node{kind: text, text: n.Value.Value})
	case *ast.BoolNode:
		return c.t.add(node{kind: boolean, text: fmt.Sprint(n.Value)})
	case *ast.IntegerNode:
		return c.t.add(node{kind: number, text: fmt.Sprint(n.Value)})
	case *ast.FloatNode:
		return c.number(n)
	case *ast.TagNode:
		return c.value(n.Value, depth+1)
	case *ast.AnchorNode:
		c.anchors[n.Name.GetToken().Value] = n.Value
		return c.value(n.Value, depth+1)
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		to, ok := c.anchors[name]
		if !ok {
			return 0, fmt.Errorf("line %d: no anchor &%s stands before this alias", line(n), name)
		}
		return c.value(to, depth+1)
	case *ast.MappingNode:
		return c.object(n.Values, depth)
	case *ast.MappingValueNode:
		return c.object([]*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		return c.list(n, depth)
	}
	return 0, fmt.Errorf("line %d: %s has no place in an OpenAPI document", line(n), n.Type())
}

func (c *converter) number(n *ast.FloatNode) (int32, error) {
	// JSON has fewer spellings of numbers; what it does not know is text.
	s := n.GetToken().Value
	if v, err := parseJSON(s); err == nil && v.kind() == number {
		return c.t.add(node{kind: number, text: s})
	}
	return c.t.add(node{kind: text, text: s})
}

func (c *converter) list(n *ast.SequenceNode, depth int) (int32, error) {
	at, err := c.t.add(node{kind: list})
	if err != nil {
		return 0, err
	}
	last := int32(0)
	for _, e := range n.Values {
		i, err := c.value(e, depth+1)
		if err != nil {
			return 0, err
		}
		c.t.link(at, last, i)
		last = i
	}
	return at, nil
}

func (c *converter) object(members []*ast.MappingValueNode, depth int) (int32, error) {
	at, err := c.t.add(node{kind: object})
	if err != nil {
		return 0, err
	}
	last := int32(0)
	for _, m := range members {
		if m.Key.IsMergeKey() {
			return 0, fmt.Errorf("line %d: merge keys (<<) are not read; write the members out", line(m))
		}
		i, err := c.value(m.Value, depth+1)
		if err != nil {
			return 0, err
		}
		c.t.nodes[i].key = keyText(m.Key)
		c.t.link(at, last, i)
		last = i
	}
	if err := c.t.unique(at); err != nil && len(members) > 0 {
		return 0, fmt.Errorf("line %d: %w", line(members[0]), err)
	}
	return at, nil
}

func keyText(k ast.MapKeyNode) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	return k.GetToken().Value
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// shallow refuses what nests deeper than any document does: the library needs
// time in the square of the depth. It counts more than it should where brackets
// stand in prose, so its bounds are generous.
func shallow(doc []byte) error {
	const most = 2 * maxDepth
	open, column, indenting := 0, 0, true
	for _, c := range doc {
		switch {
		case c == '\n':
			column, indenting = 0, true
			continue
		case c == '[' || c == '{':
			open++
		case c == ']' || c == '}':
			open = max(open-1, 0)
		}
		if indenting = indenting && (c == ' ' || c == '-' || c == '?' || c == ':'); indenting {
			column++
		}
		if open > most || column > most {
			return fmt.Errorf("nested more than %d deep", maxDepth)
		}
	}
	return nil
}
