// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/x509"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/integration"
	"postern.dev/postern/engine/gateway/observe/access"
	"postern.dev/postern/engine/gateway/observe/metric"
	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// watch is what is noted of a request until it is over: for metrics, the access
// log and traces.
type watch struct {
	// done is made once for a connection, lane is its place in the access log.
	done func(*exchange.Exchange)
	lane uint32
	// begun says that done will be called, judged that the verdict is this
	// request's.
	begun, judged bool
	snapshot      *snapshot.Snapshot
	gateway       *snapshot.Gateway
	// code is that of the step that decided, refused says that it refused.
	code    string
	refused bool
	// message and kind are of the answer that the gateway made.
	message, kind string

	entry access.Entry
	cert  *access.Certificate
	place place
}

// watch begins to watch a request.
func (e *Engine) watch(x *exchange.Exchange, st *state, s *snapshot.Snapshot) {
	w := &st.watch
	if st.work == nil {
		st.work = works.Get().(*work)
		st.arrival = request.Arrival{} // what it was last is nobody's business
	}
	if w.done == nil {
		w.done = func(x *exchange.Exchange) { e.over(x, st) }
		if e.o.AccessLog != nil {
			w.lane = e.o.AccessLog.Lane()
		}
	}
	w.begun, w.judged, w.refused = true, false, false
	w.snapshot, w.gateway = s, nil
	w.code, w.message, w.kind = "", "", ""
	st.job.Called = integration.Called{}
	st.trace = st.trace[:0]
	e.locate(x, st)
	x.OnDone(w.done)
}

// remember notes with which code a request ended. refused says that the gateway
// did not do what was asked.
func (e *Engine) remember(x *exchange.Exchange, st *state, a *request.Arrival, code string, refused bool) {
	st.watch.code, st.watch.refused = code, refused && code != integration.CodeOK
	st.slot = e.recent.add(st.watch.snapshot, x, a, code)
	if st.watch.judged {
		e.shown.add(x.ID(), &st.verdict)
	}
}

// over counts a request that is over, and writes its line.
func (e *Engine) over(x *exchange.Exchange, st *state) {
	w := &st.watch
	w.begun = false
	took := x.Took()
	var stage *snapshot.Stage
	var op *operation.Operation
	if w.judged {
		stage, op = st.verdict.Stage, st.verdict.Operation()
	}
	if w.refused {
		e.meter.Gateway(w.gateway).Refuse(w.code)
	}
	c := &st.job.Called
	if c.Made {
		e.meter.Upstream(stage, op, c.Backend != nil, c.Pick).Add(c.Status, string(c.Failure), c.Took)
	}
	if e.o.AccessLog != nil {
		e.log(x, st, stage, took)
	}
	if w.place.recorded {
		e.record(x, st, took)
	}
	// Last: who sees the request counted finds the rest of it too.
	e.meter.Route(w.gateway, stage, op).Add(x.Response.Status, took)
	w.snapshot, w.gateway, w.entry = nil, nil, access.Entry{} // the connection may be idle for long
	works.Put(st.work)
	st.work = nil
}

// log writes the line of a request, unless its Stage or Gateway has none.
func (e *Engine) log(x *exchange.Exchange, st *state, stage *snapshot.Stage, took time.Duration) {
	w := &st.watch
	var how snapshot.AccessLog
	switch {
	case stage != nil:
		how = stage.AccessLog
	case w.gateway != nil:
		how = w.gateway.AccessLog
	}
	if how.Off {
		return
	}
	n := &w.entry
	*n = access.Entry{
		Lane: w.lane, Exchange: x, Gateway: w.gateway, Took: took, Code: w.code, Message: w.message, Type: w.kind,
		Extended: view(st.extended[:]), Trace: view(st.trace), TraceID: w.place.id(),
	}
	if w.snapshot != nil {
		n.Revision = w.snapshot.Revision
	}
	if w.judged {
		n.Arrival, n.Verdict = &st.arrival, &st.verdict
		if k := st.verdict.Key; k != nil {
			n.KeyID = k.ID
		}
	}
	if st.job.Called.Made {
		n.Called = &st.job.Called
	}
	if len(st.chain) > 0 {
		if w.cert == nil {
			w.cert = shown(st.chain[0])
		}
		n.Cert = w.cert
	}
	e.o.AccessLog.Add(how.Format, n)
}

// shown is a caller's certificate as the access log tells it.
func shown(c *x509.Certificate) *access.Certificate {
	const form = "Jan _2 15:04:05 2006 MST"
	return &access.Certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: c.SerialNumber.String(),
		NotBefore: c.NotBefore.UTC().Format(form), NotAfter: c.NotAfter.UTC().Format(form),
	}
}

// broken are the codes of requests that break the grammar, by the status that
// they are answered with.
var broken = map[int]string{
	400: "http/bad-request", 408: "http/timeout", 413: "http/too-large", 414: "http/uri-too-long", 417: "http/expectation",
	431: "http/header-too-large", 501: "http/not-implemented", 505: "http/version",
}

// faulty notes a request that the engine answered by itself.
func (e *Engine) faulty(x *exchange.Exchange, st *state) {
	w := &st.watch
	if !w.begun {
		e.watch(x, st, e.snapshot.Load())
	}
	w.message, w.refused = grammar.Reason(x.Response.Status), true
	if w.code = broken[x.Response.Status]; w.code == "" {
		w.code = "http/fault"
	}
	if x.Response.Status == request.TooLarge.Status {
		w.kind = string(request.RequestTooLarge)
	}
}

// Metrics writes what there is to tell Prometheus.
func (e *Engine) Metrics(t *exposition.Text) {
	e.meter.Write(t)
	e.runner.Metrics(t)
	e.tracing(t)
	if l := e.o.AccessLog; l != nil {
		t.Family("postern_access_log_lines_total", exposition.Counter, "Lines of the access log that were written.")
		t.Sample(float64(l.Lines()))
		t.Family("postern_access_log_dropped_total", exposition.Counter, "Lines of the access log that were dropped, for want of room or because they could not be written.")
		t.Sample(float64(l.Dropped()))
	}
}

// Applied is when the snapshot was put in place that is served.
func (e *Engine) Applied() time.Time { return time.Unix(0, e.applied.Load()) }

// connected counts a connection, until what it returns is closed.
func (e *Engine) connected(o *snapshot.Origin, p metric.Protocol) *metric.Connections {
	c := e.meter.Connections(metric.ListenerOf(o), p)
	c.Open()
	return c
}
