// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"unsafe"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
)

// fold says what becomes of a field on its way.
type fold uint8

const (
	keep fold = iota
	drop
	remap // sent on under another name
)

// towards says what becomes of a field of the request. Fields for one hop never
// get here; framing and Host are the engine's.
func towards(name string) fold {
	switch len(name) {
	case 2, 4, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18:
	default:
		return keep
	}
	for _, n := range [...]string{
		"Host", "Content-Length", "Content-MD5", "Expect", "Max-Forwards", "Proxy-Authenticate", "Server", "TE",
		"Trailer", "Upgrade", "WWW-Authenticate", "x-apigw-api-id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
		"Forwarded",
	} {
		if twins(n, name) {
			return drop
		}
	}
	return keep
}

// back says what becomes of a field of a response.
func back(name string, proxy bool) fold {
	for _, n := range [...]string{"Content-Length", "Date", "Server", "Connection"} {
		if exchange.EqualFold(n, name) {
			return remap
		}
	}
	if proxy {
		if exchange.EqualFold("Via", name) {
			return drop
		}
		return keep
	}
	for _, n := range [...]string{
		"Authorization", "Content-MD5", "Expect", "Host", "Max-Forwards", "Proxy-Authenticate", "Trailer", "Upgrade",
		"User-Agent", "WWW-Authenticate",
	} {
		if exchange.EqualFold(n, name) {
			return remap
		}
	}
	return keep
}

// remapped is the name under which a field travels that is the gateway's own.
func remapped(name string) string {
	switch {
	case exchange.EqualFold(name, "Date"):
		return "x-amzn-Remapped-Date"
	case exchange.EqualFold(name, "Server"):
		return "x-amzn-Remapped-Server"
	case exchange.EqualFold(name, "Content-Length"):
		return "x-amzn-Remapped-Content-Length"
	case exchange.EqualFold(name, "Connection"):
		return "x-amzn-Remapped-Connection"
	}
	return "x-amzn-Remapped-" + name
}

// signed reports whether a value of Authorization is an AWS signature, which is
// for the gateway and not for the backend.
func signed(value string) bool { return strings.HasPrefix(value, "AWS4-") }

// pass copies the request's fields for the backend.
func (j *Job) pass() {
	h := &j.Exchange.Request.Header
	for i := range h.Len() {
		f := h.At(i)
		if towards(f.Name) == drop || exchange.EqualFold(f.Name, "Authorization") && signed(f.Value) {
			continue
		}
		j.header.Add(f.Name, f.Value)
	}
}

// looping tells whether a request has passed too many Gateways to be sent on.
func (j *Job) looping() bool {
	n := 0
	for i := range j.Exchange.Request.Header.Len() {
		if f := j.Exchange.Request.Header.At(i); isLoop(f.Name) {
			n += request.Passes(f.Value)
		}
	}
	return n >= request.MaxPasses
}

func isLoop(name string) bool {
	return len(name) == len(request.FieldLoop) && exchange.EqualFold(name, request.FieldLoop)
}

// pace tells which proxies a request has passed, this one too. Mappings have no
// say in it: a loop would be without end.
func (j *Job) pace() {
	j.header.Del(request.FieldLoop)
	h := &j.Exchange.Request.Header
	for i := range h.Len() {
		if f := h.At(i); isLoop(f.Name) {
			j.header.Add(request.FieldLoop, f.Value)
		}
	}
	j.header.Add(request.FieldLoop, request.NameLoop)
}

// turn rewrites the fields of the backend's response for the caller.
func (j *Job) turn(proxy bool) {
	h := &j.Exchange.Response.Header
	j.header.CopyFrom(h) // the call has been made: its fields are free
	h.Reset()
	for i := range j.header.Len() {
		f := j.header.At(i)
		switch back(f.Name, proxy) {
		case keep:
			h.Add(f.Name, f.Value)
		case remap:
			h.Add(remapped(f.Name), f.Value)
		}
	}
}

// interim passes on what the backend says before its response, such as 103 (Early
// Hints). Where the caller cannot have it, or is gone, nothing is lost: the
// response is yet to come.
func (j *Job) interim(status int, h *exchange.Header) {
	if j.Exchange.Interim == nil {
		return
	}
	j.early.Reset()
	for i := range h.Len() {
		if f := h.At(i); back(f.Name, true) == keep {
			j.early.Add(f.Name, f.Value)
		}
	}
	_ = j.Exchange.Interim(status, &j.early) // a caller that has gone is met with the final answer
	j.early.Reset()
}

// view makes a string of b without copying it; it holds until b is used again.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
