// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/internal/otlp"
)

// Record is what there is to tell of a traced request. It is used again and again;
// text is copied into it.
type Record struct {
	// Of the span of the request.
	Context Context
	Parent  [8]byte // zero if the trace begins here
	Start   time.Time
	Took    time.Duration
	Status  int
	TLS     bool
	Proto   exchange.Proto
	Source  netip.AddrPort
	Client  netip.Addr // the caller, where Source is a proxy that asks for it
	Port    uint16     // that was called
	Size    [2]int64
	// Called says that there is a span of the call to a backend, too.
	Called     bool
	Call       [8]byte
	CallStart  time.Time
	CallTook   time.Duration
	CallStatus int
	CallPort   uint16

	text [texts]span
	mem  []byte
}

// Text names a text of a Record.
type Text uint8

// The texts.
const (
	State Text = iota
	Method
	Route
	Path
	Host
	UserAgent
	RequestID
	Gateway
	API
	Stage
	Code
	CallMethod
	CallScheme
	CallHost
	CallFailure
	texts
)

// span is where a text is in mem.
type span struct{ from, to int }

// maxText bounds one text.
const maxText = 2048

func (r *Record) reset() {
	mem := r.mem[:0]
	if cap(mem) > 16<<10 {
		mem = nil
	}
	*r = Record{mem: mem}
}

// Set copies a text.
func (r *Record) Set(t Text, s string) {
	from := len(r.mem)
	r.mem = append(r.mem, s[:min(len(s), maxText)]...)
	r.text[t] = span{from, len(r.mem)}
}

func (r *Record) get(t Text) string { return string(r.mem[r.text[t].from:r.text[t].to]) }

func (r *Record) spans() int {
	if r.Called {
		return 2
	}
	return 1
}

// attributes gathers attributes; what is empty is left out.
type attributes []otlp.Attribute

func (a *attributes) text(key, s string) {
	if s != "" {
		*a = append(*a, otlp.Attribute{Key: key, Text: s})
	}
}

func (a *attributes) number(key string, n int64) {
	if n != 0 {
		*a = append(*a, otlp.Attribute{Key: key, Number: &n})
	}
}

// methods are those that have a name of their own in attributes.
var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}

// method writes a method, and returns how it stands in a name.
func (a *attributes) method(m string) string {
	if slices.Contains(methods, m) {
		a.text("http.request.method", m)
		return m
	}
	a.text("http.request.method", "_OTHER")
	a.text("http.request.method_original", m)
	return "HTTP"
}

// appendSpans appends the spans of the request, with the attributes of
// OpenTelemetry's semantic conventions for HTTP.
func (r *Record) appendSpans(to []otlp.Span) []otlp.Span {
	var a attributes
	name := a.method(r.get(Method))
	if route := r.get(Route); route != "" {
		a.text("http.route", route)
		name += " " + route
	}
	scheme := "http"
	if r.TLS {
		scheme = "https"
	}
	a.text("url.scheme", scheme)
	a.text("url.path", r.get(Path))
	a.text("server.address", r.get(Host))
	a.number("server.port", int64(r.Port))
	client := r.Source.Addr()
	if r.Client.IsValid() {
		client = r.Client
	}
	a.text("client.address", client.Unmap().String())
	a.text("network.peer.address", r.Source.Addr().Unmap().String())
	a.number("network.peer.port", int64(r.Source.Port()))
	a.text("network.protocol.version", version(r.Proto))
	a.text("user_agent.original", r.get(UserAgent))
	a.number("http.response.status_code", int64(r.Status))
	a.number("http.request.body.size", r.Size[0])
	a.number("http.response.body.size", r.Size[1])
	a.text("postern.request_id", r.get(RequestID))
	a.text("postern.gateway", r.get(Gateway))
	a.text("postern.api", r.get(API))
	a.text("postern.stage", r.get(Stage))
	a.text("postern.code", r.get(Code))
	failed := r.Status >= 500
	if failed {
		a.text("error.type", strconv.Itoa(r.Status))
	}
	to = append(to, otlp.Span{
		Trace: r.Context.Trace, ID: r.Context.Span, Parent: r.Parent, Remote: true, State: r.get(State), Name: name,
		Start: r.Start, End: r.Start.Add(r.Took), Attributes: a, Failed: failed,
	})
	if !r.Called {
		return to
	}
	return append(to, r.call())
}

// call is the span of the call to the backend.
func (r *Record) call() otlp.Span {
	var a attributes
	name := a.method(r.get(CallMethod))
	host := r.get(CallHost)
	a.text("server.address", host)
	a.number("server.port", int64(r.CallPort))
	// Path and query are left out: they may hold what is a secret.
	authority := host
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		authority = "[" + host + "]"
	}
	a.text("url.full", r.get(CallScheme)+"://"+authority+":"+strconv.Itoa(int(r.CallPort))+"/")
	a.number("http.response.status_code", int64(r.CallStatus))
	failure := r.get(CallFailure)
	failed := failure != "" || r.CallStatus >= 400
	switch {
	case failure != "":
		a.text("error.type", failure)
	case failed:
		a.text("error.type", strconv.Itoa(r.CallStatus))
	}
	return otlp.Span{
		Trace: r.Context.Trace, ID: r.Call, Parent: r.Context.Span, State: r.get(State), Name: name, Client: true,
		Start: r.CallStart, End: r.CallStart.Add(r.CallTook), Attributes: a, Failed: failed, Message: failure,
	}
}

func version(p exchange.Proto) string {
	switch p {
	case exchange.HTTP10:
		return "1.0"
	case exchange.HTTP2:
		return "2"
	case exchange.HTTP3:
		return "3"
	}
	return "1.1"
}
