// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store keeps the documents of a Postern server: opaque bytes under a
// kind and a name, changed atomically, numbered by one revision that only ever
// grows, and watched by whoever compiles them.
//
// The package holds the interface and its types. store/etcd keeps documents
// durably, store/mem keeps them in memory, and store/storetest is the suite
// both must pass.
package store

import (
	"context"
	"strings"
	"unicode/utf8"
)

const (
	// Any, as an IfRevision, accepts whatever is found.
	Any int64 = -1
	// Absent, as the IfRevision of a Put, demands that the document does not
	// exist. It is the zero value, so a Put that says nothing only creates.
	Absent int64 = 0
)

// Key names a document.
type Key struct {
	Kind string
	Name string
}

// String returns the key as Kind/Name.
func (k Key) String() string { return k.Kind + "/" + k.Name }

// Compare orders keys by kind, then by name.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Kind, o.Kind); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

// Document is one stored document. Documents that a Store hands out share
// their Data with the store: read it, never write to it.
type Document struct {
	Key
	// Revision is the store revision of the last change to the document.
	Revision int64
	// Created is the store revision that created it. A document deleted and
	// put again has a new one.
	Created int64
	Data    []byte
}

// Put writes one document.
type Put struct {
	Key
	// IfRevision is Any, Absent, or the exact revision the document must have.
	IfRevision int64
	Data       []byte
}

// Delete removes one document. With IfRevision Any, a document that does not
// exist is no error.
type Delete struct {
	Key
	// IfRevision is Any, or the exact revision the document must have. Absent
	// is refused: it asks to delete what must not exist.
	IfRevision int64
}

// Change is a set of writes that become visible and durable together, or not
// at all. A key may occur once.
type Change struct {
	Puts    []Put
	Deletes []Delete
	// IfRevision is Any, or the revision the whole store must have.
	IfRevision int64
}

// Event is what one revision changed or, when Reset is set, the whole state.
type Event struct {
	Revision int64
	// Puts are the documents written, in the order of the change, or all
	// documents sorted by key when Reset is set.
	Puts []Document
	// Deletes are the keys that existed and no longer do.
	Deletes []Key
	// Reset says that the events since the last one delivered are no longer
	// to be had: forget everything and start from Puts. Revision may then be
	// lower than that of an earlier event, when a backup was restored.
	Reset bool
}

// Store keeps documents. All methods are safe for concurrent use. Errors are or
// wrap an *Error.
type Store interface {
	// Load returns all documents sorted by key, and the revision at which they
	// were read. It is linearizable: it sees every Apply that returned before.
	Load(ctx context.Context) ([]Document, int64, error)
	// Apply commits a change and returns its revision. When it returns without
	// an error the change survives a crash. A failed condition is ErrConflict.
	Apply(ctx context.Context, c Change) (int64, error)
	// Watch delivers, in order and without gaps, the events after the given
	// revision. With after Any, or a revision the store no longer (or not yet)
	// knows, the first event is a Reset; so it is whenever the receiver falls
	// too far behind. The channel is closed when ctx ends or the store closes.
	Watch(ctx context.Context, after int64) (<-chan Event, error)
	// Close ends all watches and releases the store. Later calls of the other
	// methods return ErrClosed. Closing twice is no error.
	Close() error
}

// Limits bound what a store takes, so that its memory and its disk are
// bounded. A zero field stands for its default.
type Limits struct {
	Name     int   // bytes of a kind or a name; default 1 KiB
	Document int64 // bytes of one document; default 16 MiB
	Change   int64 // bytes of one change; default 64 MiB
	Total    int64 // bytes of all documents; default 512 MiB
}

// WithDefaults returns the limits with zero fields filled in.
func (l Limits) WithDefaults() Limits {
	if l.Name <= 0 {
		l.Name = 1 << 10
	}
	if l.Document <= 0 {
		l.Document = 16 << 20
	}
	if l.Change <= 0 {
		l.Change = 64 << 20
	}
	if l.Total <= 0 {
		l.Total = 512 << 20
	}
	return l
}

// overhead is what a document counts beside its bytes, so that many empty
// documents are bounded as well.
const overhead = 64

// Size returns what a document with this key and data counts towards Limits.
func Size(k Key, data []byte) int64 {
	return int64(len(k.Kind)+len(k.Name)+len(data)) + overhead
}

// Validate reports what is wrong with a change whatever the store holds.
func (c Change) Validate(l Limits) error {
	if len(c.Puts)+len(c.Deletes) == 0 {
		return invalid(Key{}, "the change is empty")
	}
	if c.IfRevision < Any {
		return invalid(Key{}, "the revision condition of the change is negative")
	}
	l = l.WithDefaults()
	seen := make(map[Key]struct{}, len(c.Puts)+len(c.Deletes))
	check := func(k Key, ifRevision int64) error {
		for _, s := range []string{k.Kind, k.Name} {
			switch {
			case s == "":
				return invalid(k, "kind and name must not be empty")
			case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
				return invalid(k, "kind and name must be UTF-8 without NUL")
			case len(s) > l.Name:
				return tooLarge(k, "kind or name", int64(len(s)), int64(l.Name))
			}
		}
		if ifRevision < Any {
			return invalid(k, "the revision condition is negative")
		}
		if _, twice := seen[k]; twice {
			return invalid(k, "the document occurs twice in the change")
		}
		seen[k] = struct{}{}
		return nil
	}
	var total int64
	for _, p := range c.Puts {
		if err := check(p.Key, p.IfRevision); err != nil {
			return err
		}
		if n := int64(len(p.Data)); n > l.Document {
			return tooLarge(p.Key, "document", n, l.Document)
		}
		total += Size(p.Key, p.Data)
	}
	for _, d := range c.Deletes {
		if err := check(d.Key, d.IfRevision); err != nil {
			return err
		}
		if d.IfRevision == Absent {
			return invalid(d.Key, "a delete cannot demand that the document is absent; use Any or its revision")
		}
		total += Size(d.Key, nil)
	}
	if total > l.Change {
		return tooLarge(Key{}, "change", total, l.Change)
	}
	return nil
}
