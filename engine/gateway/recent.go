// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"
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
	// ForwardedFor is the field X-Forwarded-For of a trusted proxy.
	ForwardedFor string
	// ClientCertSubject is that of the certificate that the caller showed.
	ClientCertSubject string
	// Code is that of the step that decided, Status what was answered.
	Code   string
	Status int
}

// recent remembers the last requests in slots whose memory is used again and
// again. Each slot has a lock, which nobody else wants unless someone looks or
// the ring has come round within one request. A slot is small: by the time that
// its turn comes again it is in no cache any longer.
type recent struct {
	slots []slot
	next  atomic.Uint64
}

type slot struct {
	mu       sync.Mutex
	tls      bool
	hasAPIID bool
	hasKey   bool
	proto    exchange.Proto
	status   int32
	lengths  [texts]uint16 // of the texts in mem, one after the other
	id       [36]byte
	mem      []byte
	time     time.Time
	revision int64
	origin   *snapshot.Origin
	code     string
}

// texts is how many there are in a slot.
const texts = 10

// longest bounds what is kept of one text. It is what the grammar admits of a
// target, and of all fields together: part of a path would be judged as another
// path.
const longest = 10240

// add remembers a request and says where; nil if it could not.
func (r *recent) add(s *snapshot.Snapshot, x *exchange.Exchange, a *request.Arrival, code string) *slot {
	sl := &r.slots[r.next.Add(1)%uint64(len(r.slots))]
	if !sl.mu.TryLock() {
		return nil // it is being read; the newer request is not worth waiting for
	}
	copy(sl.id[:], x.ID())
	sl.time, sl.origin, sl.tls, sl.code, sl.status = x.Start, x.Origin, x.TLS != nil, code, int32(x.Response.Status)
	sl.proto, sl.revision, sl.hasAPIID, sl.hasKey = x.Request.Proto, 0, false, false
	if s != nil {
		sl.revision = s.Revision
	}
	sl.mem = sl.mem[:0]
	sl.keep(0, x.Request.Authority)
	sl.keep(1, x.Request.Method)
	sl.keep(2, x.Request.Target)
	clear(sl.lengths[3:])
	if x.TLS != nil {
		sl.keep(3, x.TLS.ServerName)
	}
	if a != nil {
		sl.hasAPIID, sl.hasKey = a.HasAPIID, a.HasKey
		sl.keep(4, a.APIID)
		sl.keep(5, a.Override)
		sl.keep(6, a.UserAgent)
		sl.keep(7, a.Referer)
		if a.ClientCert != nil {
			sl.keep(8, a.ClientCert.Subject)
		}
		if len(a.ForwardedFor) > 0 {
			sl.keep(9, strings.Join(a.ForwardedFor, ", "))
		}
	}
	sl.mu.Unlock()
	return sl
}

// keep adds text n behind those before it.
func (sl *slot) keep(n int, text string) {
	text = text[:min(len(text), longest)]
	sl.lengths[n] = uint16(len(text))
	sl.mem = append(sl.mem, text...)
}

// record is what the slot holds, in memory of its own.
func (sl *slot) record() Record {
	r := Record{
		ID: string(sl.id[:]), Time: sl.time, Revision: sl.revision, Origin: *sl.origin, Proto: sl.proto, TLS: sl.tls,
		HasAPIID: sl.hasAPIID, HasKey: sl.hasKey, Code: sl.code, Status: int(sl.status),
	}
	rest := string(sl.mem)
	for n, to := range [texts]*string{
		&r.Host, &r.Method, &r.Path, &r.SNI, &r.APIID, &r.Override, &r.UserAgent, &r.Referer, &r.ClientCertSubject,
		&r.ForwardedFor,
	} {
		*to, rest = rest[:sl.lengths[n]], rest[sl.lengths[n]:]
	}
	return r
}

// answered notes with which status a request was answered after all, and
// reports whether it is the one that is remembered here.
func (sl *slot) answered(id string, status int) bool {
	if sl == nil {
		return false
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if string(sl.id[:]) != id {
		return false
	}
	sl.status = int32(status)
	return true
}

// Recent returns what is remembered of a request. It looks through everything:
// it is for people, not for the request path.
func (e *Engine) Recent(id string) (Record, bool) {
	for i := range e.recent.slots {
		sl := &e.recent.slots[i]
		sl.mu.Lock()
		if sl.origin != nil && string(sl.id[:]) == id {
			defer sl.mu.Unlock()
			return sl.record(), true
		}
		sl.mu.Unlock()
	}
	return Record{}, false
}

// view makes a string of b without copying it; it holds until b is used again.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
