// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/x509"
	"sync"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/integration"
	"postern.dev/postern/snapshot"
)

// state is the memory of one connection.
type state struct {
	// work is that of the request under way, from watch to over: most connections
	// are idle, and it is large.
	*work

	extended [16]byte
	trace    []byte
	// slot is where the last request was remembered.
	slot *slot
	// component is what the connection is for, and admitted the Gateway that it may
	// be for if it came to a real socket.
	component snapshot.Component
	admitted  string
	// components share the port of the Gateway listening.
	listening  *snapshot.Gateway
	components snapshot.Components
	// cert is the certificate that the caller showed, with its chain, which bundle
	// verified; it showed none if there is no chain.
	cert   request.ClientCert
	chain  []*x509.Certificate
	bundle string
	watch  watch
	// lookup reads a field of the request; it is made once.
	lookup func(name string) (string, bool)
}

// work is the memory of one request.
type work struct {
	arrival request.Arrival
	verdict request.Verdict
	job     integration.Job
}

var works = sync.Pool{New: func() any { return new(work) }}

// handle answers one request.
func (e *Engine) handle(x *exchange.Exchange) {
	if e.challenge(x) || e.o.Local != nil && e.o.Local(x) {
		return
	}
	st := e.state(x)
	st.extend(x)
	s, meters := e.configured()
	e.watch(x, st, s)
	name := x.Request.Host
	if x.TLS != nil {
		name = x.TLS.ServerName
	}
	g, endpoint, shared := gateway(s, x.Origin, name)
	st.watch.gateway = g
	if g != nil && shared && !st.admit(s, g, x.Origin) {
		e.answer(x, st, &request.Forbidden) // nobody gets to read it
		x.Response.Reset = true
		return
	}
	if g != nil && st.component != snapshot.ComponentGateway {
		e.page(x, st, g)
		e.remember(x, st, nil, request.CodeAccepted, false)
		return
	}
	if g == nil {
		// What the connection was made to is gone, or no one serves the name.
		e.answer(x, st, &request.Forbidden)
		x.Response.Close = true
		e.remember(x, st, nil, request.CodeHostUnknown, true)
		return
	}
	a := &st.arrival
	e.arrive(a, x)
	a.Gateway, a.Endpoint = g, endpoint
	a.Listens, a.ClientCert = st.listens(s, g, x.Origin), st.certificate(g)
	a.Meters = meters
	forwarded(a, x)
	a.RequestID, a.ExtendedID, a.Header = x.ID(), view(st.extended[:]), st.lookup
	v := &st.verdict
	v.Judge(s, a, false)
	st.watch.judged = true
	if !v.Allowed || v.Redirect || v.Status {
		e.answer(x, st, &v.Response)
		e.remember(x, st, a, v.Code(), !v.Allowed)
		return
	}
	j := &st.job
	j.Begin(s, x)
	j.Arrival, j.Verdict = a, v
	if e.system {
		j.Now = a.Now
	}
	code, refused := e.runner.Run(j)
	if refused != nil {
		own := v.Customised(a, *refused)
		e.answer(x, st, &own)
	} else {
		st.stamp(x)
	}
	j.End()
	e.remember(x, st, a, code, refused != nil)
}

// arrive fills an arrival from an exchange.
func (e *Engine) arrive(a *request.Arrival, x *exchange.Exchange) {
	r := &x.Request
	*a = request.Arrival{
		ForwardedFor: a.ForwardedFor[:0], Origin: x.Origin, TLS: x.TLS != nil, Host: r.Host, Port: r.Port, Method: r.Method,
		Path: r.Path, Query: r.RawQuery, Now: e.o.Now(),
	}
	if x.TLS != nil {
		a.SNI = x.TLS.ServerName
	}
	for i := range r.Header.Len() {
		f := r.Header.At(i)
		switch len(f.Name) {
		case len("Accept"):
			if exchange.EqualFold(f.Name, "Accept") {
				a.Accept = f.Value
			}
		case len("Referer"):
			if exchange.EqualFold(f.Name, "Referer") {
				a.Referer = f.Value
			}
		case len("x-api-key"):
			if exchange.EqualFold(f.Name, "x-api-key") {
				a.ShowKey(f.Value)
			}
		case len("User-Agent"):
			if exchange.EqualFold(f.Name, "User-Agent") {
				a.UserAgent = f.Value
			}
		case len("x-apigw-api-id"):
			if exchange.EqualFold(f.Name, "x-apigw-api-id") {
				a.APIID, a.HasAPIID = f.Value, true
			}
		case len("X-HTTP-Method-Override"):
			if exchange.EqualFold(f.Name, "X-HTTP-Method-Override") {
				a.Override = f.Value
			}
		}
	}
}

// forwarded notes for whom a trusted proxy asks. What anybody else says of itself
// is not even looked at.
func forwarded(a *request.Arrival, x *exchange.Exchange) {
	if !a.Trusted() {
		return
	}
	for v := range x.Request.Header.Values(request.FieldForwardedFor) {
		if v != "" { // says nothing, and is not remembered
			a.ForwardedFor = append(a.ForwardedFor, v)
		}
	}
}

// answer replies what the gateway itself has to say.
func (e *Engine) answer(x *exchange.Exchange, st *state, r *request.Response) {
	fields := [4]exchange.Field{}
	n := 0
	add := func(name, value string) {
		if value != "" {
			fields[n] = exchange.Field{Name: name, Value: value}
			n++
		}
	}
	add("Content-Type", r.ContentType)
	add("x-amzn-ErrorType", r.ErrorType)
	add("Location", r.Location)
	x.Reply(r.Status, fields[:n], []byte(r.Body))
	for _, f := range r.Fields {
		x.Response.Header.Set(f.Name, f.Value)
	}
	st.identify(x)
	st.watch.message, st.watch.kind = r.Message, string(r.Type)
}

// stamp completes the response of an operation.
func (st *state) stamp(x *exchange.Exchange) {
	h := &x.Response.Header
	if !h.Has("Content-Type") && x.Response.Status != 101 {
		h.Add("Content-Type", "application/json")
	}
	st.identify(x)
	st.trace = append(st.trace[:0], "Root=1-"...)
	id := x.ID()
	st.trace = append(append(st.trace, id[:8]...), '-')
	for _, part := range [...]string{id[9:13], id[14:18], id[19:23], id[24:36]} {
		st.trace = append(st.trace, part...)
	}
	h.Set("X-Amzn-Trace-Id", view(st.trace))
}

// identify writes the request's ids.
func (st *state) identify(x *exchange.Exchange) {
	h := &x.Response.Header
	h.Set("x-amzn-RequestId", x.ID())
	h.Set("x-amz-apigw-id", view(st.extended[:]))
	h.Set("x-postern-request-id", x.ID())
	if x.Origin.AltSvc != "" && x.TLS != nil {
		h.Set("Alt-Svc", x.Origin.AltSvc)
	}
}

// extend makes the extended request id from the plain one: 15 characters of 6
// bits of its digest, and one that fills up.
func (st *state) extend(x *exchange.Exchange) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	id := x.ID()
	at := uint64(14695981039346656037)
	for i := 0; i+4 <= len(id); i += 4 {
		at = (at ^ uint64(id[i]) ^ uint64(id[i+1])<<8 ^ uint64(id[i+2])<<16 ^ uint64(id[i+3])<<24) * 0x9e3779b97f4a7c15
		at ^= at >> 29
	}
	for i := range len(st.extended) - 1 {
		if i == 8 {
			at = (at ^ at>>32) * 0xbf58476d1ce4e5b9 // 8 of them are most of its bits
		}
		st.extended[i] = digits[at>>(58-6*(i&7))&63]
	}
	st.extended[len(st.extended)-1] = '='
}

// refused completes an answer that the engine gives by itself: to a request that
// breaks the grammar, or in place of an answer that did not come about.
func (e *Engine) refused(x *exchange.Exchange, why *grammar.Error) {
	st := e.state(x)
	st.extend(x)
	st.identify(x)
	kind := "BadRequestException"
	switch x.Response.Status {
	case 413:
		kind = request.TooLarge.ErrorType
	case 500, 502:
		kind = request.ConfigurationError.ErrorType
	}
	x.Response.Header.Set("x-amzn-ErrorType", kind)
	e.faulty(x, st)
	if st.slot.answered(x.ID(), x.Response.Status) {
		return // it had been judged
	}
	var a *request.Arrival
	if why == grammar.ErrHandler {
		a = &st.arrival
	}
	st.slot = e.recent.add(e.snapshot.Load(), x, a, request.CodeAccepted)
}
