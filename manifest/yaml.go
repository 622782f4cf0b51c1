// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"postern.dev/postern/model/tree"
)

const (
	// maxYAML bounds one YAML file: the parser needs a large multiple of it.
	maxYAML = 4 << 20
	// maxNodes bounds the values of one file, those that aliases repeat
	// counted each time.
	maxNodes = 500_000
)

// parseYAML reads the documents in data.
func parseYAML(data []byte) (docs []*tree.Node, problems []*tree.Problem) {
	if len(data) > maxYAML {
		return nil, []*tree.Problem{{Msg: fmt.Sprintf("is larger than %d MiB; split it, or write it as JSON", maxYAML>>20)}}
	}
	if !utf8.Valid(data) {
		_, problems = tree.ParseJSON(data) // says where
		return nil, problems
	}
	// The library panics on some malformed input; that is an error of the file.
	defer func() {
		if x := recover(); x != nil {
			docs, problems = nil, []*tree.Problem{{Msg: "is not YAML that can be read; check its indentation and brackets"}}
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if p := tooDeep(tokens); p != nil {
		return nil, []*tree.Problem{p}
	}
	file, err := parser.Parse(joined(tokens), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []*tree.Problem{syntax(err)}
	}
	c := &converter{}
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if d.Body.Type() == ast.DirectiveType || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.NullType {
			continue
		}
		c.anchors = map[string]shared{}
		n, _ := c.node(d.Body, "", 0)
		docs = append(docs, n)
	}
	return docs, c.problems
}

// syntax turns an error of the parser into a Problem.
func syntax(err error) *tree.Problem {
	p := &tree.Problem{Msg: err.Error()}
	var e interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &e) {
		p.Msg = e.GetMessage()
		if strings.Contains(p.Msg, "tab character") || strings.Contains(p.Msg, "'\t'") {
			p.Msg = "YAML is not indented with tabs; write spaces"
		}
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	}
	return p
}

// joined undoes what the lexer does to [group:app] and [fd00::/8] within {}: it
// takes every colon there for the one behind a key. In YAML a colon with text
// right behind it is a part of the plain scalar. Within braces themselves the
// lexer is left alone.
func joined(in token.Tokens) token.Tokens {
	var open []token.Type
	out := in[:0:0]
	for _, t := range in {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(0, len(open)-1)]
		}
		if n := len(out); n > 0 && len(open) > 0 && open[len(open)-1] == token.SequenceStartType && continues(out[n-1], t) {
			last := out[n-1]
			last.Type, last.Value, last.Origin = token.StringType, last.Value+t.Value, last.Origin+t.Origin
			last.Next = t.Next
			if t.Next != nil {
				t.Next.Prev = last
			}
			continue
		}
		out = append(out, t)
	}
	return out
}

// continues tells whether t is more of the plain scalar that ends before it.
func continues(last, t *token.Token) bool {
	scalar := func(t *token.Token) bool {
		switch t.Type {
		case token.StringType, token.IntegerType, token.FloatType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType, token.BoolType, token.NullType:
			return true
		}
		return false
	}
	adjoins := func(a, b *token.Token) bool {
		return a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
	}
	switch {
	case !adjoins(last, t):
		return false
	case last.Type == token.MappingValueType:
		// ::1 begins with one.
		if last.Prev == nil || last.Prev.Type != token.SequenceStartType && last.Prev.Type != token.CollectEntryType {
			return false
		}
	case !scalar(last):
		return false
	}
	if t.Type == token.MappingValueType {
		return t.Next != nil && adjoins(t, t.Next) && (scalar(t.Next) || t.Next.Type == token.MappingValueType)
	}
	return scalar(t) && strings.HasSuffix(last.Value, ":")
}

// tooDeep finds nesting that the recursive parser should not be given.
func tooDeep(tokens token.Tokens) *tree.Problem {
	depth, run := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
			run++
		case token.SequenceEndType, token.MappingEndType:
			depth--
			run = 0
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			run++
		default:
			// Tags and anchors have their name in a token of their own.
			if t.Prev == nil || t.Prev.Type != token.AnchorType && t.Prev.Type != token.TagType {
				run = 0
			}
		}
		if depth > tree.MaxDepth || run > tree.MaxDepth || t.Position.IndentNum > 20*tree.MaxDepth {
			return &tree.Problem{Line: t.Position.Line, Column: t.Position.Column, Msg: fmt.Sprintf("values are nested deeper than %d levels", tree.MaxDepth)}
		}
	}
	return nil
}

// shared is a value with an anchor, how many values it holds and how deep.
type shared struct {
	node        *tree.Node
	size, depth int
}

// converter turns the library's tree into ours.
type converter struct {
	anchors  map[string]shared
	nodes    int
	problems []*tree.Problem
	full     bool
}

func (c *converter) fail(t *token.Token, path, format string, args ...any) {
	p := &tree.Problem{Field: path, Msg: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	c.problems = append(c.problems, p)
}

// count takes n values off the budget and reports whether it lasts.
func (c *converter) count(n int, t *token.Token) bool {
	c.nodes += n
	if c.nodes <= maxNodes {
		return true
	}
	if !c.full {
		c.full = true
		c.fail(t, "", "holds more than %d values, those that aliases repeat counted each time; split the file", maxNodes)
	}
	return false
}

// node converts n, which stands at path and depth, and tells how deep it is.
func (c *converter) node(n ast.Node, path string, depth int) (*tree.Node, int) {
	if n == nil {
		return &tree.Node{}, 1
	}
	t := n.GetToken()
	out := &tree.Node{}
	if t != nil && t.Position != nil {
		out.Line, out.Column = t.Position.Line, t.Position.Column
	}
	if !c.count(1, t) {
		return out, 1
	}
	if depth > tree.MaxDepth {
		c.fail(t, path, "values are nested deeper than %d levels", tree.MaxDepth)
		return out, 1
	}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.Kind, out.Text = tree.Bool, strconv.FormatBool(n.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		c.plain(out, t.Value)
	case *ast.InfinityNode, *ast.NanNode:
		c.fail(t, path, "%s is no number that can be used here", strings.TrimSpace(t.Value))
	case *ast.StringNode:
		out.Kind, out.Text = tree.String, n.Value
		if n.Token.Type == token.StringType {
			c.plain(out, n.Value)
		}
	case *ast.LiteralNode:
		out.Kind, out.Text = tree.String, n.Value.Value
	case *ast.SequenceNode:
		return out, c.sequence(out, n, path, depth)
	case *ast.MappingNode:
		return out, c.mapping(out, n.Values, path, depth)
	case *ast.MappingValueNode:
		return out, c.mapping(out, []*ast.MappingValueNode{n}, path, depth)
	case *ast.AnchorNode:
		return c.anchor(n, path, depth)
	case *ast.AliasNode:
		return c.alias(out, n, path, depth)
	case *ast.TagNode:
		return c.tag(out, n, path, depth)
	default:
		c.fail(t, path, "%s is not understood here", n.Type())
	}
	return out, 1
}

var (
	yamlInt   = regexp.MustCompile(`^[-+]?[0-9]+$`)
	yamlBased = regexp.MustCompile(`^0(o[0-7]+|x[0-9a-fA-F]+)$`)
	yamlFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	jsonPlain = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// plain resolves a plain scalar by the core schema of YAML 1.2: 1_000 is text
// and 010 is ten, whatever older versions say.
func (c *converter) plain(out *tree.Node, s string) {
	out.Kind, out.Text = tree.String, s
	switch {
	case yamlInt.MatchString(s):
		digits := strings.TrimLeft(strings.TrimLeft(s, "+-"), "0")
		if digits == "" {
			digits = "0"
		}
		if s[0] == '-' && digits != "0" {
			digits = "-" + digits
		}
		out.Kind, out.Text = tree.Number, digits
	case yamlBased.MatchString(s):
		if v, err := strconv.ParseUint(s, 0, 64); err == nil {
			out.Kind, out.Text = tree.Number, strconv.FormatUint(v, 10)
		}
	case yamlFloat.MatchString(s):
		if jsonPlain.MatchString(s) {
			out.Kind, out.Text = tree.Number, s
		} else if v, err := strconv.ParseFloat(s, 64); err == nil && !math.IsInf(v, 0) {
			out.Kind, out.Text = tree.Number, strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
}

func (c *converter) sequence(out *tree.Node, n *ast.SequenceNode, path string, depth int) int {
	out.Kind = tree.List
	deepest := 0
	for i, v := range n.Values {
		x, d := c.node(v, fmt.Sprintf("%s[%d]", path, i), depth+1)
		out.Items = append(out.Items, x)
		deepest = max(deepest, d)
	}
	return deepest + 1
}

func (c *converter) mapping(out *tree.Node, values []*ast.MappingValueNode, path string, depth int) int {
	out.Kind = tree.Map
	deepest := 0
	lines := map[string]int{}
	var merged []*tree.Node
	for i, v := range values {
		if i == 0 {
			if t := v.Key.GetToken(); t != nil && t.Position != nil && (out.Line == 0 || t.Position.Line < out.Line || t.Position.Line == out.Line && t.Position.Column < out.Column) {
				out.Line, out.Column = t.Position.Line, t.Position.Column
			}
		}
		if v.Key.IsMergeKey() {
			x, d := c.node(v.Value, path, depth+1)
			deepest = max(deepest, d)
			merged = append(merged, x)
			continue
		}
		f, ok := c.key(v.Key, path)
		if !ok {
			continue
		}
		field := tree.Join(path, f.Name)
		if first, dup := lines[f.Name]; dup {
			c.problems = append(c.problems, tree.Duplicate(field, f, first))
		} else {
			lines[f.Name] = f.Line
		}
		x, d := c.node(v.Value, field, depth+1)
		deepest = max(deepest, d)
		f.Value = x
		out.Fields = append(out.Fields, f)
	}
	for _, m := range merged {
		c.merge(out, m, path, lines)
	}
	return deepest + 1
}

// key reads the key of a mapping, which has to be text.
func (c *converter) key(k ast.MapKeyNode, path string) (tree.Field, bool) {
	var n ast.Node = k
	if x, ok := k.(*ast.MappingKeyNode); ok {
		n = x.Value
	}
	if x, ok := n.(*ast.AnchorNode); ok {
		n = x.Value
	}
	t := k.GetToken()
	f := tree.Field{}
	if t != nil && t.Position != nil {
		f.Line, f.Column = t.Position.Line, t.Position.Column
	}
	switch n := n.(type) {
	case *ast.StringNode:
		f.Name = n.Value
	case *ast.LiteralNode:
		f.Name = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		// 200: in an OpenAPI document, say: keys are text in JSON.
		f.Name = n.GetToken().Value
	default:
		c.fail(t, path, "a key has to be text")
		return f, false
	}
	return f, true
}

// merge adds what a merge key brings and is not written out.
func (c *converter) merge(out, from *tree.Node, path string, lines map[string]int) {
	switch from.Kind {
	case tree.Map:
		for _, f := range from.Fields {
			if _, ok := lines[f.Name]; !ok {
				lines[f.Name] = f.Line
				out.Fields = append(out.Fields, f)
			}
		}
	case tree.List:
		for _, x := range from.Items {
			if x.Kind == tree.Map {
				c.merge(out, x, path, lines)
			}
		}
	default:
		c.problems = append(c.problems, &tree.Problem{Field: path, Line: from.Line, Column: from.Column, Msg: "<< wants an object, or a list of them"})
	}
}

func (c *converter) anchor(n *ast.AnchorNode, path string, depth int) (*tree.Node, int) {
	before := c.nodes
	x, d := c.node(n.Value, path, depth+1)
	if n.Name != nil && n.Name.GetToken() != nil {
		c.anchors[n.Name.GetToken().Value] = shared{x, c.nodes - before, d}
	}
	return x, d
}

func (c *converter) alias(out *tree.Node, n *ast.AliasNode, path string, depth int) (*tree.Node, int) {
	name := ""
	if n.Value != nil && n.Value.GetToken() != nil {
		name = n.Value.GetToken().Value
	}
	a, ok := c.anchors[name]
	switch {
	case !ok:
		c.fail(n.GetToken(), path, "there is no anchor &%s before this", name)
		return out, 1
	case !c.count(a.size, n.GetToken()):
		return out, 1
	case depth+a.depth > tree.MaxDepth:
		c.fail(n.GetToken(), path, "values are nested deeper than %d levels", tree.MaxDepth)
		return out, 1
	}
	x := *a.node
	x.Line, x.Column = out.Line, out.Column
	return &x, a.depth
}

// tag obeys the tags of JSON's types; others would need code to run.
func (c *converter) tag(out *tree.Node, n *ast.TagNode, path string, depth int) (*tree.Node, int) {
	x, d := c.node(n.Value, path, depth+1)
	switch n.Start.Value {
	case "!!str":
		if s, ok := n.Value.(ast.ScalarNode); ok && x.Kind != tree.String {
			x.Kind, x.Text = tree.String, ""
			if s.GetToken() != nil && n.Value.Type() != ast.NullType {
				x.Text = s.GetToken().Value
			}
		}
	case "!!map", "!!seq", "!!int", "!!float", "!!bool", "!!null":
	default:
		c.fail(n.Start, path, "the tag %s is not understood; remove it", n.Start.Value)
		return out, 1
	}
	return x, d
}
