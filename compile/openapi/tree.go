// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is the kind of a JSON value.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// Limits of a document beside its size.
const (
	maxNodes = 1 << 19
	maxDepth = 200
)

// tree is a parsed document. All nodes lie in one slice, which is what makes
// reading ten thousand documents cheap; 0 stands for no node, as the root is
// nobody's child.
type tree struct {
	nodes []node
}

type node struct {
	kind        kind
	first, next int32
	key, text   string
}

// value is a place in a tree; the zero value is absent.
type value struct {
	t *tree
	i int32
}

func (v value) ok() bool { return v.t != nil }

func (v value) kind() kind {
	if !v.ok() {
		return null
	}
	return v.t.nodes[v.i].kind
}

func (v value) key() string { return v.t.nodes[v.i].key }

// text returns the text of a string, number or boolean.
func (v value) text() string {
	if !v.ok() {
		return ""
	}
	return v.t.nodes[v.i].text
}

// str returns a copy of the text that does not keep the document in memory.
func (v value) str() string { return strings.Clone(v.text()) }

func (v value) first() value {
	if !v.ok() {
		return value{}
	}
	return v.at(v.t.nodes[v.i].first)
}

func (v value) next() value { return v.at(v.t.nodes[v.i].next) }

func (v value) at(i int32) value {
	if i == 0 {
		return value{}
	}
	return value{v.t, i}
}

// get returns a member of an object.
func (v value) get(key string) value {
	if v.kind() != object {
		return value{}
	}
	for m := v.first(); m.ok(); m = m.next() {
		if m.key() == key {
			return m
		}
	}
	return value{}
}

// appendJSON writes the value as JSON.
func (v value) appendJSON(b []byte) []byte {
	switch v.kind() {
	case object, list:
		open, end := byte('{'), byte('}')
		if v.kind() == list {
			open, end = '[', ']'
		}
		b = append(b, open)
		for m := v.first(); m.ok(); m = m.next() {
			if b[len(b)-1] != open {
				b = append(b, ',')
			}
			if open == '{' {
				b = appendString(b, m.key())
				b = append(b, ':')
			}
			b = m.appendJSON(b)
		}
		return append(b, end)
	case text:
		return appendString(b, v.text())
	case null:
		return append(b, "null"...)
	default:
		return append(b, v.text()...)
	}
}

func appendString(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string always has a JSON form
		panic(err)
	}
	return append(b, q...)
}

// link makes i the next sibling of last, or the first child of parent.
func (t *tree) link(parent, last, i int32) {
	if last == 0 {
		t.nodes[parent].first = i
	} else {
		t.nodes[last].next = i
	}
}

// add appends a node.
func (t *tree) add(n node) (int32, error) {
	if len(t.nodes) >= maxNodes {
		return 0, fmt.Errorf("the document has more than %d values", maxNodes)
	}
	t.nodes = append(t.nodes, n)
	return int32(len(t.nodes) - 1), nil
}

// unique refuses an object that has a key twice: readers differ in which they
// take.
func (t *tree) unique(parent int32) error {
	const few = 16
	var seen map[string]bool
	count := 0
	for i := t.nodes[parent].first; i != 0; i = t.nodes[i].next {
		key := t.nodes[i].key
		if count++; count > few {
			if seen == nil {
				seen = map[string]bool{}
				for k := t.nodes[parent].first; k != i; k = t.nodes[k].next {
					seen[t.nodes[k].key] = true
				}
			}
			if seen[key] {
				return fmt.Errorf("the key %q stands twice in one object", key)
			}
			seen[key] = true
			continue
		}
		for k := t.nodes[parent].first; k != i; k = t.nodes[k].next {
			if t.nodes[k].key == key {
				return fmt.Errorf("the key %q stands twice in one object", key)
			}
		}
	}
	return nil
}

// parseJSON reads a JSON document (RFC 8259).
func parseJSON(doc string) (value, error) {
	p := parser{doc: doc, t: &tree{nodes: make([]node, 0, len(doc)/12+8)}}
	i, err := p.value(0)
	if err == nil {
		if p.space(); p.pos < len(doc) {
			err = errors.New("something follows the document")
		}
	}
	if err != nil {
		line := 1 + strings.Count(doc[:p.pos], "\n")
		column := p.pos - strings.LastIndexByte(doc[:p.pos], '\n')
		return value{}, fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return value{p.t, i}, nil
}

type parser struct {
	doc string
	pos int
	t   *tree
}

func (p *parser) space() {
	for p.pos < len(p.doc) {
		switch p.doc[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the byte after it, 0 at the end.
func (p *parser) peek() byte {
	p.space()
	if p.pos == len(p.doc) {
		return 0
	}
	return p.doc[p.pos]
}

func (p *parser) value(depth int) (int32, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	switch c := p.peek(); {
	case c == '{':
		return p.members(depth, object, '}')
	case c == '[':
		return p.members(depth, list, ']')
	case c == '"':
		s, err := p.string()
		if err != nil {
			return 0, err
		}
		return p.t.add(node{kind: text, text: s})
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	default:
		for _, w := range [...]struct {
			word string
			kind kind
		}{{"true", boolean}, {"false", boolean}, {"null", null}} {
			if strings.HasPrefix(p.doc[p.pos:], w.word) {
				p.pos += len(w.word)
				return p.t.add(node{kind: w.kind, text: w.word})
			}
		}
		return 0, errors.New("a value is missing here")
	}
}

func (p *parser) members(depth int, k kind, end byte) (int32, error) {
	at, err := p.t.add(node{kind: k})
	if err != nil {
		return 0, err
	}
	p.pos++
	if p.peek() == end {
		p.pos++
		return at, nil
	}
	for last := int32(0); ; {
		key := ""
		if k == object {
			if p.peek() != '"' {
				return 0, errors.New("a key in quotes is missing here")
			}
			if key, err = p.string(); err != nil {
				return 0, err
			}
			if p.peek() != ':' {
				return 0, errors.New("a colon is missing here")
			}
			p.pos++
		}
		i, err := p.value(depth + 1)
		if err != nil {
			return 0, err
		}
		p.t.nodes[i].key = key
		p.t.link(at, last, i)
		last = i
		switch p.peek() {
		case ',':
			p.pos++
		case end:
			p.pos++
			if k == object {
				return at, p.t.unique(at)
			}
			return at, nil
		default:
			return 0, fmt.Errorf("a comma or %q is missing here", end)
		}
	}
}

func (p *parser) number() (int32, error) {
	start := p.pos
	digits := func() int {
		n := p.pos
		for p.pos < len(p.doc) && '0' <= p.doc[p.pos] && p.doc[p.pos] <= '9' {
			p.pos++
		}
		return p.pos - n
	}
	if p.doc[p.pos] == '-' {
		p.pos++
	}
	zero := p.pos < len(p.doc) && p.doc[p.pos] == '0'
	if n := digits(); n == 0 || zero && n > 1 {
		return 0, errors.New("not a number")
	}
	if p.pos < len(p.doc) && p.doc[p.pos] == '.' {
		p.pos++
		if digits() == 0 {
			return 0, errors.New("not a number")
		}
	}
	if p.pos < len(p.doc) && p.doc[p.pos]|0x20 == 'e' {
		p.pos++
		if p.pos < len(p.doc) && (p.doc[p.pos] == '+' || p.doc[p.pos] == '-') {
			p.pos++
		}
		if digits() == 0 {
			return 0, errors.New("not a number")
		}
	}
	return p.t.add(node{kind: number, text: p.doc[start:p.pos]})
}

// string reads a string; one without escapes is a part of the document.
func (p *parser) string() (string, error) {
	p.pos++
	start := p.pos
	for ; p.pos < len(p.doc); p.pos++ {
		switch c := p.doc[p.pos]; {
		case c == '"':
			s := p.doc[start:p.pos]
			p.pos++
			if !utf8.ValidString(s) {
				return "", errors.New("not valid UTF-8")
			}
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", errors.New("a control character in a string")
		}
	}
	return "", errors.New("a string does not end")
}

func (p *parser) escaped(start int) (string, error) {
	b := append([]byte(nil), p.doc[start:p.pos]...)
	for p.pos < len(p.doc) {
		c := p.doc[p.pos]
		p.pos++
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				return "", errors.New("not valid UTF-8")
			}
			return string(b), nil
		case c < 0x20:
			return "", errors.New("a control character in a string")
		case c != '\\':
			b = append(b, c)
			continue
		}
		if p.pos == len(p.doc) {
			break
		}
		c = p.doc[p.pos]
		p.pos++
		if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
			b = append(b, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		r, ok := p.hex()
		if c != 'u' || !ok {
			return "", errors.New("an unknown escape in a string")
		}
		if utf16.IsSurrogate(r) && strings.HasPrefix(p.doc[p.pos:], `\u`) {
			p.pos += 2
			low, ok := p.hex()
			if !ok {
				return "", errors.New("an unknown escape in a string")
			}
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				r = pair
			} else {
				b = utf8.AppendRune(b, utf8.RuneError)
				r = low
			}
		}
		b = utf8.AppendRune(b, r)
	}
	return "", errors.New("a string does not end")
}

func (p *parser) hex() (rune, bool) {
	if p.pos+4 > len(p.doc) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.doc[p.pos : p.pos+4]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.pos += 4
	return r, true
}
