// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Command nethttp is the reverse proxy of the standard library, as most would
// write it.
package main

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"postern.dev/postern/test/bench/peers/programs/task"
)

func main() {
	t := task.Read()
	known := t.Known()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			_, rest := task.Split(r.In.URL.Path)
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path = "http", t.Backend, rest
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConns:        256,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     300 * time.Second,
			DisableCompression:  true,
		},
	}
	s := &http.Server{
		Addr:              t.Listen,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       300 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if prefix, _ := task.Split(r.URL.Path); !known[prefix] {
				http.NotFound(w, r)
				return
			}
			id := rand.Text()
			r.Header.Set("X-Request-Id", id)
			w.Header().Set("X-Request-Id", id)
			proxy.ServeHTTP(w, r)
		}),
	}
	if t.Certificate != "" {
		task.End(s.ListenAndServeTLS(t.Certificate, t.Key))
	}
	task.End(s.ListenAndServe())
}
