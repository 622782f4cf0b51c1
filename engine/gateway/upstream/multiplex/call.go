// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/upstream"
)

// call is a call under way. As a response's body it belongs to the exchange until that closes it.
type call struct {
	p      *Pool
	e      *exchange.Exchange
	target upstream.Target
	c      *conn
	reused bool

	ctx    context.Context
	cancel context.CancelCauseFunc
	unlink func() bool // from the pool's own end
	halt   func() bool // from the request's body; nil without one

	req  *http.Request
	res  *http.Response
	body *sending // nil without a body

	total   *time.Timer  // of the whole call; nil where there is no bound
	head    *time.Timer  // of the response's head, from the request's end
	quiet   *time.Timer  // looks whether the call has fallen silent
	silence int64        // how long a stream may be silent, in nanoseconds; 0 is no bound
	moved   atomic.Int64 // Unix nanoseconds of the last byte in either direction

	complete bool // the response has been read to its end
	spoilt   bool // the connection left the call without an answer
	closed   bool
}

// Do makes the call. On success the response stands in e, with a body that is read from the backend as it is read by
// the client; it must be closed, which finishing the exchange does. The request's body may still be under way then. The
// error is a *upstream.Failure; e's response is then empty. Where it wraps ErrOldVersion the backend has seen nothing.
//
// ctx bounds the call until its response is closed, as the time-outs and Close do.
func (p *Pool) Do(ctx context.Context, in *upstream.Call, e *exchange.Exchange) error {
	out, bad := request(in, e)
	if bad != nil {
		return &upstream.Failure{Kind: upstream.Request, Phase: upstream.Sending, Target: in.Target, Err: bad}
	}
	if !p.begin() {
		return fail(in.Target, upstream.Connecting, upstream.ErrClosed)
	}
	k := &call{p: p, e: e, target: in.Target}
	k.ctx, k.cancel = context.WithCancelCause(ctx)
	k.unlink = context.AfterFunc(p.ctx, func() { k.cancel(upstream.ErrClosed) })
	k.bound(in, streams(in.Target, out.Header))
	k.req = out.WithContext(k.ctx)
	if e.Request.Length != 0 {
		k.body = newSending(k)
		k.halt = context.AfterFunc(k.ctx, k.body.halt)
		k.req.Body, k.req.Trailer = k.body, announced(e.Request.Announces) // filled when the body has ended
	}
	if f := k.try(); f != nil {
		k.end()
		return f
	}
	k.answer()
	return nil
}

// bound starts the clocks.
func (k *call) bound(in *upstream.Call, stream bool) {
	expire := func() { k.cancel(errSilent) }
	k.silence = int64(pick(in.Stream, k.p.cfg.Timeouts.Stream))
	if stream {
		k.watch()
		if k.e.Request.Length != 0 {
			k.await(-1) // the client is waited for as long as the call is not silent
		}
		return
	}
	if d := pick(in.Timeout, k.p.cfg.Timeouts.Total); d > 0 {
		k.total = time.AfterFunc(d, expire)
	}
	if d := k.p.cfg.Timeouts.Head; d > 0 {
		k.head = time.AfterFunc(d, expire)
		if k.e.Request.Length != 0 {
			k.head.Stop() // it begins with the end of the body
		}
	}
}

// await sets how long the client is waited for.
func (k *call) await(d time.Duration) {
	if b, ok := k.e.Request.Body.(exchange.Patient); ok {
		b.Wait(d)
	}
}

func pick(a, b time.Duration) time.Duration {
	if a != 0 {
		return a
	}
	return b
}

// watch ends the call when it has been silent for too long.
func (k *call) watch() {
	if k.silence <= 0 {
		return
	}
	k.move()
	ready := make(chan struct{})
	k.quiet = time.AfterFunc(time.Duration(k.silence), func() {
		<-ready
		k.look()
	})
	close(ready)
}

// look ends the call if nothing has moved for too long, and else looks again when that may be.
func (k *call) look() {
	left := k.silence - (time.Now().UnixNano() - k.moved.Load())
	if left <= 0 {
		k.cancel(errSilent)
		return
	}
	k.quiet.Reset(time.Duration(left))
}

// move notes that something has come.
func (k *call) move() { k.moved.Store(time.Now().UnixNano()) }

// try sends the request, once more on a new connection where nothing has come of it and nothing can.
func (k *call) try() *upstream.Failure {
	for again := false; ; again = true {
		var f *upstream.Failure
		if k.c, k.reused, f = k.p.take(k.ctx, k.target); f != nil {
			return f
		}
		if k.body != nil && !again { // not before there is a connection: another may have to make the call
			if f = k.body.prompt(); f != nil {
				k.c.cc.Release()
				return f
			}
		}
		k.move()
		res, err := k.c.cc.RoundTrip(k.req)
		if err == nil {
			k.res = res
			return nil
		}
		f = k.failed(upstream.Awaiting, err)
		k.spoilt = f.Kind == upstream.Timeout
		k.p.release(k.target, k.c, k.spoilt)
		k.c = nil
		safe := refused(err) || k.reused && f.Kind == upstream.Reset && idempotent(k.req.Method)
		if again || !safe || f.Kind == upstream.Canceled || k.body != nil && !k.body.rewind() {
			return f
		}
	}
}

// idempotent lists the methods of RFC 9110 9.2.2.
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

// answer sets the exchange's response.
func (k *call) answer() {
	k.move()
	if k.body != nil {
		k.body.answered()
	}
	if k.head != nil {
		k.head.Stop()
	}
	rs := &k.e.Response
	rs.Header.Reset()
	rs.Trailer.Reset()
	rs.Status = k.res.StatusCode
	length := k.res.ContentLength
	for _, name := range sorted(k.res.Header) {
		if hop(name) {
			continue
		}
		for _, v := range k.res.Header[name] {
			rs.Header.Add(name, v)
		}
	}
	switch {
	case k.req.Method == "HEAD", !grammar.BodyAllowed(rs.Status):
		k.complete = true
	case length == 0 && k.res.Body == http.NoBody:
		k.complete = true
	}
	if k.quiet == nil && upstream.Events(rs.Header.Get("Content-Type")) {
		if k.total == nil || k.total.Stop() {
			k.watch()
		}
	}
	k.e.SetBody(k, length)
}

// Read reads the response's body.
func (k *call) Read(p []byte) (int, error) {
	n, err := k.res.Body.Read(p)
	if n > 0 {
		k.move()
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF:
		k.trailers()
		k.complete = true
		return n, io.EOF
	}
	return n, k.failed(upstream.Receiving, err)
}

// trailers takes over what came after the body.
func (k *call) trailers() {
	t := &k.e.Response.Trailer
	t.Reset()
	for _, name := range sorted(k.res.Trailer) {
		if !grammar.TrailerAllowed(name) {
			continue
		}
		for _, v := range k.res.Trailer[name] {
			t.Add(name, v)
		}
	}
}

// Settle ends what is still being sent of the request: the response is complete, or will not be read on.
func (k *call) Settle() {
	if k.body != nil {
		k.body.settle(k.complete)
		k.await(0)
	}
}

// Close ends the call. Where the response has not been read to its end the backend is told to stop.
func (k *call) Close() error {
	if k.closed {
		return nil
	}
	k.closed = true
	k.end()
	return nil
}

// end lets go of everything.
func (k *call) end() {
	k.Settle()
	k.cancel(errAborted)
	if k.res != nil {
		_ = k.res.Body.Close() // what is left is not wanted
	}
	for _, t := range [...]*time.Timer{k.total, k.head, k.quiet} {
		if t != nil {
			t.Stop()
		}
	}
	k.unlink()
	if k.halt != nil {
		k.halt() // it has done all that it would, or there is nothing to interrupt
	}
	if k.c != nil {
		k.p.release(k.target, k.c, k.spoilt)
		k.c = nil
	}
	k.p.done.Done()
}

// failed makes a failure of an error: what ended the call says more than how the transport noticed.
func (k *call) failed(phase upstream.Phase, err error) *upstream.Failure {
	f := &upstream.Failure{Phase: phase, Target: k.target, Reused: k.reused, Err: err}
	if k.body != nil {
		if rerr := k.body.failure(); rerr != nil {
			f.Kind, f.Phase, f.Err = upstream.RequestBody, upstream.Sending, rerr
			return f
		}
	}
	cause := context.Cause(k.ctx)
	if cause == nil {
		cause = context.Cause(k.p.ctx) // Close ends connections before every call has been told
	}
	if cause != nil && !errors.Is(cause, errAborted) {
		f.Err = cause
	}
	f.Kind = classify(f.Err, phase)
	return f
}
