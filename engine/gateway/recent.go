// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/snapshot"
)

// Record is a request that has been answered, with what it takes to ask again
// what becomes of it.
type Record struct {
	ID       string
	Time     time.Time
	Revision int64
	Origin   snapshot.Origin
	Proto    exchange.Proto
	TLS      bool
	SNI      string
	Host     string
	Method   string
	// Path has the query with it.
	Path string
	// APIID is the field x-apigw-api-id, if HasAPIID.
	APIID              string
	HasAPIID           bool
	HasKey             bool
	Override           string
	UserAgent, Referer string
	// ClientCertSubject is that of the certificate that the caller showed.
	ClientCertSubject string
	// Code is that of the step that decided, Status what was answered.
	Code   string
	Status int
}

// recent remembers the last requests in slots whose memory is used again and
// again. Each slot has a lock, which nobody else wants unless someone looks or
// the ring has come round within one request.
type recent struct {
	slots []slot
	next  atomic.Uint64
}

type slot struct {
	mu  sync.Mutex
	r   Record
	mem []byte // what the strings of r point into
	id  [36]byte
}

// longest bounds what is kept of one field. It is what the grammar admits of a
// target, and of all fields together: part of a path would be judged as another
// path.
const longest = 10240

// add remembers a request and says where; nil if it could not.
func (r *recent) add(s *snapshot.Snapshot, x *exchange.Exchange, a *request.Arrival, code string) *slot {
	sl := &r.slots[r.next.Add(1)%uint64(len(r.slots))]
	if !sl.mu.TryLock() {
		return nil // it is being read; the newer request is not worth waiting for
	}
	defer sl.mu.Unlock()
	sl.mem = sl.mem[:0]
	copy(sl.id[:], x.ID())
	rec := Record{
		ID: view(sl.id[:]), Time: x.Start, Origin: *x.Origin, Proto: x.Request.Proto, TLS: x.TLS != nil, Code: code, Status: x.Response.Status,
	}
	if s != nil {
		rec.Revision = s.Revision
	}
	need := 0
	fields := [...]struct {
		to   *string
		from string
	}{
		{&rec.Host, x.Request.Authority},
		{&rec.Method, x.Request.Method},
		{&rec.Path, x.Request.Target},
		{&rec.SNI, ""},
		{&rec.APIID, ""},
		{&rec.Override, ""},
		{&rec.UserAgent, ""},
		{&rec.Referer, ""},
		{&rec.ClientCertSubject, ""},
	}
	if x.TLS != nil {
		fields[3].from = x.TLS.ServerName
	}
	if a != nil {
		rec.HasAPIID, rec.HasKey = a.HasAPIID, a.HasKey
		fields[4].from, fields[5].from, fields[6].from, fields[7].from = a.APIID, a.Override, a.UserAgent, a.Referer
		if a.ClientCert != nil {
			fields[8].from = a.ClientCert.Subject
		}
	}
	for i := range fields {
		fields[i].from = fields[i].from[:min(len(fields[i].from), longest)]
		need += len(fields[i].from)
	}
	if cap(sl.mem) < need {
		sl.mem = make([]byte, 0, need+64)
	}
	for _, f := range fields {
		at := len(sl.mem)
		sl.mem = append(sl.mem, f.from...)
		*f.to = view(sl.mem[at:])
	}
	sl.r = rec
	return sl
}

// answered notes with which status a request was answered after all, and
// reports whether it is the one that is remembered here.
func (sl *slot) answered(id string, status int) bool {
	if sl == nil {
		return false
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.r.ID != id {
		return false
	}
	sl.r.Status = status
	return true
}

// Recent returns what is remembered of a request. It looks through everything:
// it is for people, not for the request path.
func (e *Engine) Recent(id string) (Record, bool) {
	for i := range e.recent.slots {
		sl := &e.recent.slots[i]
		sl.mu.Lock()
		if sl.r.ID == id && id != "" {
			r := sl.r
			for _, s := range [...]*string{&r.ID, &r.Host, &r.Method, &r.Path, &r.SNI, &r.APIID, &r.Override, &r.UserAgent, &r.Referer, &r.ClientCertSubject} {
				*s = clone(*s)
			}
			sl.mu.Unlock()
			return r, true
		}
		sl.mu.Unlock()
	}
	return Record{}, false
}

// view makes a string of b without copying it; it holds until b is used again.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
