// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package etcd keeps documents in etcd: embedded in the process by default, or
// a cluster by its addresses. Above the client both are the same code.
//
// # Layout
//
// Changes form a log, one record a revision. A record up to 512 KiB is the
// value of its log key; a larger one is first written in chunks under a random
// id that nothing refers to. Then one small transaction, within the stock
// limits of any cluster, compares the head key and moves it:
//
//	PREFIX/meta        format, store id, codec id
//	PREFIX/head        revision and record id of the last change
//	PREFIX/log/REV     the record of a revision, or where its chunks are
//	PREFIX/base        a checkpoint: the whole state at a revision
//	PREFIX/body/ID     marks the chunks of ID as wanted: leased while a writer
//	                   is at it, without lease once a record refers to them
//	PREFIX/chunk/ID/N  chunks
//
// Readers follow head. A writer that dies leaves chunks whose mark expires; the
// commit compares the mark, so chunks without a mark can never become visible
// and may be deleted by anybody at any time, whatever the clocks say.
package etcd

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern.dev/postern/store"
)

const (
	format = 1
	// chunkSize leaves a request well below etcd's stock limit of 1.5 MiB.
	chunkSize = 512 << 10
)

type recordID [16]byte

func newID() recordID {
	var id recordID
	rand.Read(id[:]) // never fails
	return id
}

func (id recordID) String() string { return hex.EncodeToString(id[:]) }

func parseID(s string) (id recordID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("bad record id %q", s)
	}
	return recordID(b), nil
}

// layout names keys.
type layout struct{ prefix string }

func (l layout) meta() string            { return l.prefix + "meta" }
func (l layout) head() string            { return l.prefix + "head" }
func (l layout) base() string            { return l.prefix + "base" }
func (l layout) logs() string            { return l.prefix + "log/" }
func (l layout) log(rev int64) string    { return fmt.Sprintf("%slog/%016x", l.prefix, rev) }
func (l layout) bodies() string          { return l.prefix + "body/" }
func (l layout) body(id recordID) string { return l.bodies() + id.String() }
func (l layout) chunks() string          { return l.prefix + "chunk/" }
func (l layout) chunk(id recordID, n int) string {
	return fmt.Sprintf("%s%s/%08x", l.chunks(), id, n)
}

func (l layout) logRevision(key string) (int64, error) {
	return strconv.ParseInt(strings.TrimPrefix(key, l.logs()), 16, 64)
}

// meta identifies a store. It is written once.
type meta struct {
	Format int    `json:"format"`
	Store  string `json:"store"`
	Codec  string `json:"codec"`
	// Check proves the key: it opens to the store's id.
	Check []byte `json:"check"`
}

// headValue is what the head key holds.
type headValue struct {
	Store    string `json:"store"`
	Revision int64  `json:"revision"`
	ID       string `json:"id"`
}

func decodeHead(b []byte) (h headValue, id recordID, err error) {
	if err = json.Unmarshal(b, &h); err == nil {
		id, err = parseID(h.ID)
	}
	return h, id, err
}

// entry is the value of a log key or of the base key.
type entry struct {
	id recordID
	// prev is the id of the record before, so that a log that was rolled back
	// and written on is told from the one read before. For a checkpoint it is
	// the id of the last record it includes.
	prev     recordID
	revision int64
	// older is, for a checkpoint, the revision of the checkpoint before: the
	// log after it is kept for readers that are a little behind.
	older int64
	// inline is the payload, or nil when it is in chunks.
	inline []byte
	chunks int
	size   int64
	sum    [sha256.Size]byte
}

func (e entry) encode() []byte {
	b := make([]byte, 0, 128+len(e.inline))
	b = append(b, format)
	b = append(b, e.id[:]...)
	b = append(b, e.prev[:]...)
	b = binary.AppendUvarint(b, uint64(e.revision))
	b = binary.AppendUvarint(b, uint64(e.older))
	b = binary.AppendUvarint(b, uint64(e.chunks))
	if e.chunks == 0 {
		return append(b, e.inline...)
	}
	b = binary.AppendUvarint(b, uint64(e.size))
	return append(b, e.sum[:]...)
}

func decodeEntry(b []byte) (entry, error) {
	r := reader{b: b}
	var e entry
	if v := r.take(1); r.err == nil && v[0] != format {
		return e, fmt.Errorf("record format %d is unknown", v[0])
	}
	copy(e.id[:], r.take(len(e.id)))
	copy(e.prev[:], r.take(len(e.prev)))
	e.revision = r.number()
	e.older = r.number()
	e.chunks = int(r.number())
	if e.chunks == 0 {
		e.inline = r.b
		return e, r.err
	}
	e.size = r.number()
	copy(e.sum[:], r.take(len(e.sum)))
	return e, r.end()
}

// payload is what a record says: the writes of a change, or all documents.
type payload struct {
	docs    []store.Document
	deletes []store.Key
}

func encodeChange(c store.Change) []byte {
	var p payload
	for _, put := range c.Puts {
		p.docs = append(p.docs, store.Document{Key: put.Key, Data: put.Data})
	}
	for _, d := range c.Deletes {
		p.deletes = append(p.deletes, d.Key)
	}
	return p.encode()
}

func (p payload) encode() []byte {
	n := 32
	for _, d := range p.docs {
		n += len(d.Kind) + len(d.Name) + len(d.Data) + 5*binary.MaxVarintLen32
	}
	for _, k := range p.deletes {
		n += len(k.Kind) + len(k.Name) + 2*binary.MaxVarintLen32
	}
	b := make([]byte, 0, n)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(len(p.docs)))
	for _, d := range p.docs {
		text(d.Kind)
		text(d.Name)
		b = binary.AppendUvarint(b, uint64(d.Revision))
		b = binary.AppendUvarint(b, uint64(d.Created))
		b = binary.AppendUvarint(b, uint64(len(d.Data)))
		b = append(b, d.Data...)
	}
	b = binary.AppendUvarint(b, uint64(len(p.deletes)))
	for _, k := range p.deletes {
		text(k.Kind)
		text(k.Name)
	}
	return b
}

// decodePayload copies data out of b, so that one document does not keep the
// record of all its neighbours in memory.
func decodePayload(b []byte) (payload, error) {
	r := reader{b: b}
	key := func() store.Key {
		return store.Key{Kind: string(r.take(int(r.number()))), Name: string(r.take(int(r.number())))}
	}
	var p payload
	for n := r.number(); n > 0 && r.err == nil; n-- {
		d := store.Document{Key: key(), Revision: r.number(), Created: r.number()}
		d.Data = bytes.Clone(r.take(int(r.number())))
		p.docs = append(p.docs, d)
	}
	for n := r.number(); n > 0 && r.err == nil; n-- {
		p.deletes = append(p.deletes, key())
	}
	return p, r.end()
}

// change returns the payload of a log record as a change without conditions.
func (p payload) change() store.Change {
	c := store.Change{IfRevision: store.Any}
	for _, d := range p.docs {
		c.Puts = append(c.Puts, store.Put{Key: d.Key, IfRevision: store.Any, Data: d.Data})
	}
	for _, k := range p.deletes {
		c.Deletes = append(c.Deletes, store.Delete{Key: k, IfRevision: store.Any})
	}
	return c
}

// reader takes fields off a record; after the first error it returns zeros.
type reader struct {
	b   []byte
	err error
}

var errShort = errors.New("record ends early")

func (r *reader) take(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.b)) {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) number() int64 {
	v, n := binary.Uvarint(r.b)
	if r.err == nil && (n <= 0 || v > 1<<62) {
		r.err = errShort
	}
	if r.err != nil {
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = errors.New("record has bytes after its end")
	}
	return r.err
}
