// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command fasthttp is a reverse proxy of a few lines on fasthttp, which is the
// fastest HTTP library of Go. It is no gateway: it reads bodies whole.
package main

import (
	"crypto/rand"
	"time"

	"github.com/valyala/fasthttp"

	"postern.dev/postern/test/bench/peers/programs/task"
)

func main() {
	t := task.Read()
	known := t.Known()
	proto := "http"
	if t.Certificate != "" {
		proto = "https"
	}
	backend := &fasthttp.HostClient{
		Addr:                          t.Backend,
		MaxConns:                      1024,
		MaxIdleConnDuration:           300 * time.Second,
		NoDefaultUserAgentHeader:      true,
		DisableHeaderNamesNormalizing: true,
		DisablePathNormalizing:        true,
	}
	s := &fasthttp.Server{
		NoDefaultServerHeader:         true,
		DisableHeaderNamesNormalizing: true,
		IdleTimeout:                   300 * time.Second,
		Handler: func(c *fasthttp.RequestCtx) {
			prefix, rest := task.Split(string(c.Path()))
			if !known[prefix] {
				c.SetStatusCode(fasthttp.StatusNotFound)
				return
			}
			q, a := &c.Request, &c.Response
			host := string(q.Host())
			q.SetRequestURI(rest)
			q.SetHost(host)
			q.URI().SetScheme("http")
			id := rand.Text()
			q.Header.Set("X-Request-Id", id)
			q.Header.Set("X-Forwarded-For", c.RemoteIP().String())
			q.Header.Set("X-Forwarded-Proto", proto)
			q.Header.Del("Connection")
			closing := c.Request.ConnectionClose()
			if err := backend.Do(q, a); err != nil {
				c.Error(err.Error(), fasthttp.StatusBadGateway)
				return
			}
			a.Header.Del("Connection")
			a.Header.Set("X-Request-Id", id)
			if closing {
				a.SetConnectionClose()
			}
		},
	}
	if t.Certificate != "" {
		task.End(s.ListenAndServeTLS(t.Listen, t.Certificate, t.Key))
	}
	task.End(s.ListenAndServe(t.Listen))
}
