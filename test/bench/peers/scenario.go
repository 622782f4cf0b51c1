// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"

	"postern.dev/postern/test/bench/peers/gateway"
	"postern.dev/postern/test/bench/peers/load"
)

// scenario is one kind of traffic.
type scenario struct {
	name, title string
	apis, keys  int
	answer      int // bytes
	body        int // bytes, by POST
	tls, http2  bool
	fresh       bool    // a connection for each request
	share       float64 // of nginx's maximum in the scenario of; 0 is as fast as it goes
	of          string
	idle        int // connections that do nothing
}

const kib = 1 << 10

var scenarios = []scenario{
	{name: "a", title: "plain 1 KiB GET", apis: 1, answer: kib},
	{name: "a60", title: "plain 1 KiB GET, at 60 % of nginx's maximum", apis: 1, answer: kib, share: 0.6, of: "a"},
	{name: "b", title: "gateway: 1,000 APIs, 1,000 keys, limit for each, JSON access log, metrics", apis: 1000, keys: 1000, answer: kib},
	{name: "b60", title: "gateway, at 60 % of nginx's maximum", apis: 1000, keys: 1000, answer: kib, share: 0.6, of: "b"},
	{name: "c", title: "100 KiB answers", apis: 1, answer: 100 * kib},
	{name: "d", title: "10 KiB POST", apis: 1, answer: kib, body: 10 * kib},
	{name: "e", title: "TLS 1.3", apis: 1, answer: kib, tls: true},
	{name: "f", title: "HTTP/2 clients", apis: 1, answer: kib, tls: true, http2: true},
	{name: "g", title: "a new connection for each request", apis: 1, answer: kib, fresh: true},
	{name: "idle", title: "memory of idle keep-alive connections", apis: 1, answer: kib, idle: 10000},
}

// streams is how many requests an HTTP/2 client has under way at once.
const streams = 8

func names() []string {
	var out []string
	for _, s := range scenarios {
		out = append(out, s.name)
	}
	return out
}

func find(name string) scenario {
	for _, s := range scenarios {
		if s.name == name {
			return s
		}
	}
	panic("no scenario " + name) // choose has looked
}

// same says whether two scenarios can share the gateways that run.
func (s *scenario) same(o *scenario) bool {
	return s.apis == o.apis && s.keys == o.keys && s.answer == o.answer && s.tls == o.tls && s.http2 == o.http2
}

// plan is what is sent to a gateway.
func (s *scenario) plan(r *gateway.Running, o *options) *load.Plan {
	p := &load.Plan{
		Addr: r.Addr, HTTP2: s.http2, Fresh: s.fresh, Conns: o.conns, Streams: streams,
		Length: s.answer, Warmup: o.warmup, Duration: o.duration,
	}
	if s.http2 {
		p.Conns = max(1, o.conns/streams)
	}
	if s.tls {
		p.TLS = clientTLS(s.http2)
	}
	for i := range max(s.apis, s.keys) {
		key := ""
		if i < s.keys && len(r.Keys) > i {
			key = r.Keys[i]
		}
		p.Requests = append(p.Requests, s.request(i%s.apis, key))
	}
	return p
}

func clientTLS(http2 bool) *tls.Config {
	c := &tls.Config{
		ServerName: gateway.Host, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		// Each gateway has a certificate of its own; who it is, is not in question.
		InsecureSkipVerify: true,
		CurvePreferences:   []tls.CurveID{tls.X25519},
	}
	if http2 {
		c.NextProtos = []string{"h2"}
	}
	return c
}

// request is one as it goes over the wire, as small as clients' are.
func (s *scenario) request(api int, key string) []byte {
	path := gateway.Prefix(api) + "/items"
	if s.http2 {
		return load.HeaderBlock(gateway.Host, path, [2]string{"user-agent", "bench/1"}, [2]string{"accept", "*/*"})
	}
	method := "GET"
	if s.body > 0 {
		method = "POST"
	}
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1\r\nAccept: */*\r\n", method, path, gateway.Host)
	if key != "" {
		b = fmt.Appendf(b, "X-API-Key: %s\r\n", key)
	}
	if s.fresh {
		b = append(b, "Connection: close\r\n"...)
	}
	if s.body > 0 {
		b = fmt.Appendf(b, "Content-Type: text/plain\r\nContent-Length: %d\r\n", s.body)
	}
	b = append(b, "\r\n"...)
	return append(b, bytes.Repeat([]byte("x"), s.body)...)
}
