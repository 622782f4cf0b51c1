// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/hex"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/internal/exposition"
)

// place is where a request is in a trace.
type place struct {
	// known says that it is in one, recorded that the gateway adds spans to it.
	known, recorded bool
	// at is the request's own span, parent the caller's and call that of the call
	// to the backend.
	at     trace.Context
	parent [8]byte
	call   [8]byte
	state  string
	header []byte // for the backend
	hex    [32]byte
}

// id is that of the trace; empty without one.
func (p *place) id() string {
	if !p.known {
		return ""
	}
	hex.Encode(p.hex[:], p.at.Trace[:])
	return view(p.hex[:])
}

// locate finds where a request is in a trace, and decides whether it is recorded:
// as its caller has decided, if it has. A gateway that does not trace passes on
// what it got.
func (e *Engine) locate(x *exchange.Exchange, st *state) {
	p := &st.watch.place
	p.known, p.recorded = false, false
	st.job.Parent, st.job.State = "", ""
	if e.o.Trace == nil && e.o.AccessLog == nil {
		return
	}
	var ok bool
	p.at, p.state, ok = trace.Read(&x.Request.Header)
	p.known = ok
	if e.o.Trace == nil {
		return
	}
	p.parent = p.at.Span
	if !ok {
		p.at, p.known = e.o.Trace.Begin(), true
	} else if !p.at.Sampled {
		return // the caller's own fields say all that there is to say
	}
	on := p.at
	p.call = trace.NewSpan()
	on.Span = p.call
	if p.at.Sampled {
		p.recorded = true
		p.at.Span = trace.NewSpan()
	}
	p.header = on.Append(p.header[:0])
	st.job.Parent, st.job.State = view(p.header), p.state
}

// record hands on the spans of a request that is over.
func (e *Engine) record(x *exchange.Exchange, st *state, took time.Duration) {
	w := &st.watch
	p := &w.place
	r := e.o.Trace.Record()
	q := &x.Request
	r.Context, r.Parent, r.Start, r.Took = p.at, p.parent, x.Start, took
	r.Status, r.TLS, r.Proto, r.Size = x.Response.Status, x.TLS != nil, q.Proto, [2]int64{x.Received, x.Sent}
	if x.Origin != nil {
		r.Source, r.Port = x.Origin.Source, x.Origin.Local.Port()
	}
	r.Set(trace.State, p.state)
	r.Set(trace.Method, q.Method)
	r.Set(trace.Path, q.Path)
	r.Set(trace.Host, q.Host)
	r.Set(trace.RequestID, x.ID())
	r.Set(trace.Code, w.code)
	r.Set(trace.UserAgent, q.Header.Get("User-Agent"))
	if w.gateway != nil {
		r.Set(trace.Gateway, w.gateway.Name)
	}
	if w.judged {
		r.Client = st.arrival.Source()
		v := &st.verdict
		if v.API != nil {
			r.Set(trace.API, v.API.Name)
		}
		if v.Stage != nil {
			r.Set(trace.Stage, v.Stage.Name)
		}
		if op := v.Operation(); op != nil {
			r.Set(trace.Route, op.Path)
		}
	}
	if c := &st.job.Called; c.Made {
		r.Called, r.Call, r.CallStart, r.CallTook, r.CallStatus, r.CallPort = true, p.call, c.Start, c.Took, c.Status, c.Target.Port
		r.Set(trace.CallMethod, c.Method)
		r.Set(trace.CallScheme, c.Target.Scheme)
		r.Set(trace.CallHost, c.Target.Host)
		r.Set(trace.CallFailure, string(c.Failure))
	}
	e.o.Trace.Add(r)
}

// tracing writes what is told of traces.
func (e *Engine) tracing(t *exposition.Text) {
	if e.o.Trace == nil {
		return
	}
	t.Family("postern_trace_spans_total", exposition.Counter, "Spans that were sent.")
	t.Sample(float64(e.o.Trace.Sent()))
	t.Family("postern_trace_spans_dropped_total", exposition.Counter, "Spans that were dropped, for want of room or because they could not be sent.")
	t.Sample(float64(e.o.Trace.Dropped()))
}
