// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"unicode/utf8"
)

// MaxDepth bounds how deep values may be nested.
const MaxDepth = 100

// Problem is one thing wrong with a document.
type Problem struct {
	// Field is the path of the value, such as spec.rules[0].ports[1].
	Field        string
	Line, Column int
	Msg          string
}

// Error returns the message.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.Msg
	}
	return fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Msg)
}

// ParseJSON reads the JSON values that stand in data one after another. A
// syntax error ends it; duplicate keys are reported together.
func ParseJSON(data []byte) ([]*Node, []*Problem) {
	p := &jsonParser{data: data}
	if i := invalidUTF8(data); i >= 0 {
		line, col := p.position(i)
		return nil, []*Problem{{Line: line, Column: col, Msg: "this is not UTF-8 text; save the file as UTF-8"}}
	}
	p.dec = json.NewDecoder(bytes.NewReader(data))
	p.dec.UseNumber()
	var out []*Node
	for {
		n, err := p.value("", 0)
		if errors.Is(err, io.EOF) {
			return out, p.problems
		}
		if err != nil {
			return out, append(p.problems, p.syntax(err))
		}
		out = append(out, n)
	}
}

func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

type jsonParser struct {
	data  []byte
	dec   *json.Decoder
	lines []int // offsets at which lines begin
	// last is the place asked for last: the next one mostly lies a little
	// behind it, and a document may be one long line.
	last     struct{ offset, line, column int }
	problems []*Problem
}

// position turns an offset into line and column.
func (p *jsonParser) position(offset int) (line, column int) {
	if p.lines == nil {
		p.lines = []int{0}
		for i, c := range p.data {
			if c == '\n' {
				p.lines = append(p.lines, i+1)
			}
		}
	}
	offset = min(max(offset, 0), len(p.data))
	line = sort.Search(len(p.lines), func(i int) bool { return p.lines[i] > offset })
	from, column := p.lines[line-1], 1
	if p.last.line == line && p.last.offset <= offset {
		from, column = p.last.offset, p.last.column
	}
	column += utf8.RuneCount(p.data[from:offset])
	p.last.offset, p.last.line, p.last.column = offset, line, column
	return line, column
}

var errDepth = fmt.Errorf("values are nested deeper than %d levels", MaxDepth)

func (p *jsonParser) syntax(err error) *Problem {
	offset := int(p.dec.InputOffset())
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(s.Offset) - 1
	}
	msg := err.Error()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		msg, offset = "the document ends too early; is a bracket or quote missing?", len(p.data)
	}
	line, col := p.position(offset)
	return &Problem{Line: line, Column: col, Msg: msg}
}

// token returns the next token and the offset at which it begins.
func (p *jsonParser) token() (json.Token, int, error) {
	from := int(p.dec.InputOffset())
	t, err := p.dec.Token()
	for from < len(p.data) && slices.Contains([]byte(" \t\r\n,:"), p.data[from]) {
		from++
	}
	return t, from, err
}

func (p *jsonParser) value(path string, depth int) (*Node, error) {
	t, at, err := p.token()
	if err != nil {
		if depth > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if depth > MaxDepth {
		return nil, errDepth
	}
	n := &Node{}
	n.Line, n.Column = p.position(at)
	switch t := t.(type) {
	case nil:
	case bool:
		n.Kind, n.Text = Bool, fmt.Sprint(t)
	case json.Number:
		n.Kind, n.Text = Number, t.String()
	case string:
		n.Kind, n.Text = String, t
	case json.Delim:
		if t == '[' {
			return n, p.list(n, path, depth)
		}
		return n, p.object(n, path, depth)
	}
	return n, nil
}

func (p *jsonParser) list(n *Node, path string, depth int) error {
	n.Kind = List
	for p.dec.More() {
		x, err := p.value(fmt.Sprintf("%s[%d]", path, len(n.Items)), depth+1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, x)
	}
	return p.end()
}

func (p *jsonParser) object(n *Node, path string, depth int) error {
	n.Kind = Map
	seen := map[string]int{}
	for p.dec.More() {
		t, at, err := p.token()
		if err != nil {
			return err
		}
		f := Field{Name: t.(string)}
		f.Line, f.Column = p.position(at)
		field := Join(path, f.Name)
		if first, dup := seen[f.Name]; dup {
			p.problems = append(p.problems, Duplicate(field, f, first))
		} else {
			seen[f.Name] = f.Line
		}
		if f.Value, err = p.value(field, depth+1); err != nil {
			return err
		}
		n.Fields = append(n.Fields, f)
	}
	return p.end()
}

// end takes the closing bracket.
func (p *jsonParser) end() error {
	_, _, err := p.token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Duplicate is the Problem of a key that stands twice in one Map; first is the
// line of its first appearance.
func Duplicate(path string, f Field, first int) *Problem {
	return &Problem{
		Field: path, Line: f.Line, Column: f.Column,
		Msg: fmt.Sprintf("the key %q stands twice, first on line %d; keep one", f.Name, first),
	}
}

// Join appends a field's name to a path.
func Join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
