// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tree holds a document (JSON, or YAML once it was read) as a tree in
// which each value knows its line and column, and moves it strictly into and
// out of Go structs: every unknown field and wrong type is reported, each at
// its place, all at once.
package tree

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind says what a Node is.
type Kind uint8

// The kinds of nodes. JSON is a value that is already encoded, in Text.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Map
	JSON
)

var kindNames = [...]string{"nothing", "a boolean", "a number", "text", "a list", "an object", "JSON"}

// String names k for people.
func (k Kind) String() string { return kindNames[k] }

// Node is one value of a document.
type Node struct {
	Kind Kind
	// Line and Column are where the value begins, from 1; 0 if it was not read.
	Line, Column int
	// Text is the content of a String, the JSON literal of a Number or Bool.
	Text   string
	Items  []*Node
	Fields []Field
}

// Field is one entry of a Map, in the order of the document.
type Field struct {
	Name         string
	Line, Column int
	Value        *Node
}

// Get returns the value of a Map's field, or nil.
func (n *Node) Get(name string) *Node {
	if n == nil || n.Kind != Map {
		return nil
	}
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return n.Fields[i].Value
		}
	}
	return nil
}

// Locate returns where the value at path, such as spec.rules[0].ports[1],
// begins. If the document has no such value it is where the closest enclosing
// one begins.
func (n *Node) Locate(path string) (line, column int) {
	line, column = n.Line, n.Column
	for path != "" && n != nil {
		path = strings.TrimPrefix(path, ".")
		var next *Node
		if rest, ok := strings.CutPrefix(path, "["); ok {
			num, after, _ := strings.Cut(rest, "]")
			i, err := strconv.Atoi(num)
			if err != nil || n.Kind != List || i < 0 || i >= len(n.Items) {
				return line, column
			}
			next, path = n.Items[i], after
			line, column = next.Line, next.Column
		} else {
			if n.Kind != Map {
				return line, column
			}
			// A key may hold dots itself (labels): the longest that fits wins.
			var found *Field
			for i := range n.Fields {
				f := &n.Fields[i]
				if strings.HasPrefix(path, f.Name) && (found == nil || len(f.Name) > len(found.Name)) {
					if r := path[len(f.Name):]; r == "" || r[0] == '.' || r[0] == '[' {
						found = f
					}
				}
			}
			if found == nil {
				return line, column
			}
			next, path = found.Value, path[len(found.Name):]
			line, column = next.Line, next.Column
			if next.Kind == List || next.Kind == Map || next.Kind == Null {
				line, column = found.Line, found.Column
			}
		}
		n = next
	}
	return line, column
}

// AppendJSON appends n as compact JSON, fields in the order of the document.
func (n *Node) AppendJSON(b []byte) []byte {
	switch n.Kind {
	case Bool, Number:
		return append(b, n.Text...)
	case String:
		return appendString(b, n.Text)
	case List:
		b = append(b, '[')
		for i, x := range n.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = x.AppendJSON(b)
		}
		return append(b, ']')
	case Map:
		b = append(b, '{')
		for i := range n.Fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, n.Fields[i].Name)
			b = append(b, ':')
			b = n.Fields[i].Value.AppendJSON(b)
		}
		return append(b, '}')
	case JSON:
		buf := bytes.NewBuffer(b)
		if err := json.Compact(buf, []byte(n.Text)); err == nil {
			return buf.Bytes()
		}
		return append(b, "null"...)
	default:
		return append(b, "null"...)
	}
}

const hex = "0123456789abcdef"

// appendString appends s as a JSON string. Unlike encoding/json it leaves <, >
// and & alone: manifests are read by people.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			i += size
			from = i
			continue
		}
		i += size
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
