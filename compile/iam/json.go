// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// jsonKind is the kind of a JSON value, worded for messages.
type jsonKind string

const (
	object  jsonKind = "an object"
	array   jsonKind = "a list"
	str     jsonKind = "a string"
	number  jsonKind = "a number"
	boolean jsonKind = "true or false"
	null    jsonKind = "null"
)

// node is a JSON value that keeps the order of members, and repeated ones, which
// encoding/json would lose.
type node struct {
	kind    jsonKind
	text    string // of a string, number or boolean, as a string
	items   []node
	members []member
}

type member struct {
	name  string
	value node
}

// maxDepth is more than any policy needs: the values of a condition are at depth 6.
const maxDepth = 16

func readJSON(doc []byte) (*node, *Error) {
	if !utf8.Valid(doc) {
		return nil, &Error{Msg: "the policy is not valid UTF-8; save it as UTF-8"}
	}
	// Unmarshal checks the whole document, which the token reader is laxer about.
	var whole json.RawMessage
	err := json.Unmarshal(doc, &whole)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		var n node
		if n, err = readNode(d, 0); err == nil {
			return &n, nil
		}
		return nil, &Error{Msg: err.Error()}
	}
	at := int64(len(doc))
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = min(max(syntax.Offset, 0), at)
	}
	before := doc[:at]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return nil, &Error{Msg: sprintf("the policy is not JSON; mend line %d, column %d: %v", line, max(column, 1), err)}
}

func readNode(d *json.Decoder, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("objects and lists are nested more than %d deep; a policy needs no more than 6", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return node{}, err
	}
	switch t := t.(type) {
	case string:
		return node{kind: str, text: t}, nil
	case json.Number:
		return node{kind: number, text: t.String()}, nil
	case bool:
		if t {
			return node{kind: boolean, text: "true"}, nil
		}
		return node{kind: boolean, text: "false"}, nil
	case json.Delim:
		n := node{kind: array}
		if t == '{' {
			n.kind = object
		}
		for d.More() {
			var m member
			if n.kind == object {
				name, err := d.Token()
				if err != nil {
					return n, err
				}
				m.name, _ = name.(string) // the decoder yields nothing else here
			}
			if m.value, err = readNode(d, depth+1); err != nil {
				return n, err
			}
			if n.kind == object {
				n.members = append(n.members, m)
			} else {
				n.items = append(n.items, m.value)
			}
		}
		_, err := d.Token() // the closing bracket
		return n, err
	}
	return node{kind: null}, nil
}
