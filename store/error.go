// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"strings"
)

// Kind classifies an error for whoever maps it to a status or an exit code.
type Kind string

// The kinds a store returns; they carry the names of the domain's error kinds.
const (
	Invalid     Kind = "invalid"
	Conflict    Kind = "conflict"
	Denied      Kind = "denied"
	Limited     Kind = "limited"
	Unavailable Kind = "unavailable"
	Internal    Kind = "internal"
)

// The reasons of an Error, to be compared with errors.Is.
var (
	ErrInvalid     = errors.New("invalid change")
	ErrConflict    = errors.New("conflict")
	ErrTooLarge    = errors.New("too large")
	ErrFull        = errors.New("store is full")
	ErrUnavailable = errors.New("store unavailable")
	ErrClosed      = errors.New("store closed")
	ErrInUse       = errors.New("store in use by another process")
	ErrWrongKey    = errors.New("wrong encryption key")
	ErrForeign     = errors.New("not a Postern store")
	ErrCorrupt     = errors.New("store corrupt")
)

var kinds = map[error]Kind{
	ErrInvalid: Invalid, ErrConflict: Conflict, ErrTooLarge: Limited, ErrFull: Limited,
	ErrUnavailable: Unavailable, ErrClosed: Unavailable, ErrInUse: Unavailable,
	ErrWrongKey: Denied, ErrForeign: Invalid, ErrCorrupt: Internal,
}

// Error is the error of every store operation.
type Error struct {
	// Kind follows from Reason.
	Kind Kind
	// Reason is one of the Err values of this package.
	Reason error
	// Key is the document concerned, zero when it is the whole store.
	Key Key
	// Found is, for ErrConflict, the revision found instead of the one
	// demanded; 0 says that the document does not exist.
	Found int64
	// Size and Limit are set for ErrTooLarge and ErrFull.
	Size, Limit int64
	// Unknown says that the change may or may not have been committed, or may
	// still be: the answer was lost. Load tells.
	Unknown bool
	// Detail says what happened and what to do.
	Detail string
	// Err is the cause, if there is one beside Reason.
	Err error
}

// NewError returns an error with the kind that belongs to reason.
func NewError(reason error, detail string, cause error) *Error {
	k, ok := kinds[reason]
	if !ok {
		k = Internal
	}
	return &Error{Kind: k, Reason: reason, Detail: detail, Err: cause}
}

// Error returns the error as one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("store: ")
	b.WriteString(e.Reason.Error())
	if e.Key != (Key{}) {
		fmt.Fprintf(&b, ": %s", e.Key)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Limit != 0 {
		fmt.Fprintf(&b, ": %d bytes, the limit is %d", e.Size, e.Limit)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Unknown {
		b.WriteString(" (it is unknown whether the change was committed)")
	}
	return b.String()
}

// Unwrap returns the reason and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

func invalid(k Key, detail string) error {
	e := NewError(ErrInvalid, detail, nil)
	e.Key = k
	return e
}

func tooLarge(k Key, what string, size, limit int64) error {
	e := NewError(ErrTooLarge, what, nil)
	e.Key, e.Size, e.Limit = k, size, limit
	return e
}
