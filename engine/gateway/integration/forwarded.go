// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

// twins reports whether two names are the same to a backend that knows fields as
// variables, where "-" is "_" and case is lost.
func twins(ours, name string) bool {
	if len(ours) != len(name) {
		return false
	}
	for i := range len(ours) {
		x, y := ours[i], name[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') && (x != '-' || y != '_') {
			return false
		}
	}
	return true
}

// announce adds what tells the backend where a request came from. What the
// caller said of itself in these fields has been dropped; what a trusted proxy
// says of the caller is said again, as far as it is believed.
func (j *Job) announce() {
	j.pace()
	j.via()
	a, h := j.Arrival, &j.header
	proto, port, host := "http", "80", j.Exchange.Request.Authority
	if a.TLS {
		proto, port = "https", "443"
	}
	if a.Trusted() {
		was := &j.Exchange.Request.Header
		if v := was.Get("X-Forwarded-Proto"); v == "http" || v == "https" {
			proto, port = v, usual(v)
		}
		if v := was.Get("X-Forwarded-Port"); len(v) > 0 && len(v) <= 5 && strings.Trim(v, "0123456789") == "" {
			port = v
		}
		if v := was.Get("X-Forwarded-Host"); grammar.ValidAuthority(v) {
			host = v
		}
	}
	j.hops = a.Hops(j.hops[:0])
	source := len(j.hops) - 1
	b := j.forwarded[:0]
	for i := source; i >= 0; i-- {
		if i < source {
			b = append(b, ", "...)
		}
		b = j.hops[i].AppendTo(b)
	}
	h.Set(request.FieldForwardedFor, view(b))
	from := len(b)
	for i := source; i >= 0; i-- {
		if i < source {
			b = append(b, ", "...)
		}
		b = append(b, "for="...)
		if ip := j.hops[i]; ip.Is6() {
			b = append(ip.AppendTo(append(b, `"[`...)), `]"`...)
		} else {
			b = ip.AppendTo(b)
		}
		if i == source {
			b = named(b, host)
			b = append(append(b, ";proto="...), proto...)
		}
	}
	h.Set("Forwarded", view(b[from:]))
	j.forwarded = b
	if host != "" {
		h.Set("X-Forwarded-Host", host)
	}
	h.Set("X-Forwarded-Port", port)
	h.Set("X-Forwarded-Proto", proto)
	h.Set("x-amzn-apigateway-api-id", j.Verdict.API.ID)
	h.Set("x-amzn-RequestId", j.Exchange.ID())
}

// named appends the host that was asked for, if one was.
func named(b []byte, host string) []byte {
	switch {
	case host == "":
		return b
	case strings.IndexByte(host, ':') >= 0:
		return append(append(append(b, `;host="`...), host...), '"')
	}
	return append(append(b, ";host="...), host...)
}

func usual(proto string) string {
	if proto == "https" {
		return "443"
	}
	return "80"
}

// via adds this hop to those that the request names (RFC 9110 7.6.3).
func (j *Job) via() {
	v := "1.1 " + request.NameLoop
	switch j.Exchange.Request.Proto {
	case exchange.HTTP10:
		v = "1.0 " + request.NameLoop
	case exchange.HTTP2:
		v = "2.0 " + request.NameLoop
	case exchange.HTTP3:
		v = "3.0 " + request.NameLoop
	}
	j.header.Add("Via", v)
}
