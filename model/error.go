// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"
)

// ErrorKind is the closed set of reasons for which a call fails. Kinds cross
// the wire, so the list only ever grows at its end.
type ErrorKind string

// The error kinds.
const (
	Invalid         ErrorKind = "invalid"
	NotFound        ErrorKind = "not_found"
	Conflict        ErrorKind = "conflict"
	Denied          ErrorKind = "denied"
	Unauthenticated ErrorKind = "unauthenticated"
	Limited         ErrorKind = "limited"
	Unavailable     ErrorKind = "unavailable"
	Internal        ErrorKind = "internal"
)

// ErrorKinds lists every kind of error.
var ErrorKinds = []ErrorKind{Invalid, NotFound, Conflict, Denied, Unauthenticated, Limited, Unavailable, Internal}

// Position is a place in a manifest file. Line and Column count from 1.
type Position struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns file:line:column with the parts that are known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error says what failed (Msg), where (Ref, Field, Position) and, within Msg,
// what to do.
type Error struct {
	Kind     ErrorKind `json:"kind"`
	Op       string    `json:"op,omitempty"`
	Ref      Ref       `json:"ref,omitzero"`
	Field    string    `json:"field,omitempty"`
	Position Position  `json:"position,omitzero"`
	Msg      string    `json:"msg"`
	Err      error     `json:"-"`
}

// Error returns one line: position, resource, field, message.
func (e *Error) Error() string {
	var b strings.Builder
	if s := e.Position.String(); s != "" {
		b.WriteString(s + ": ")
	}
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	if !e.Ref.IsZero() {
		b.WriteString(e.Ref.String() + ": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors is every error of one judgement, sorted by resource and field.
type Errors []*Error

// Error returns one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors for errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, x := range e {
		out[i] = x
	}
	return out
}
