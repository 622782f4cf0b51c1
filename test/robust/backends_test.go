// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// backends are the servers that generations take turns with: in clear, HTTP/2 in
// clear, and under TLS.
type backends struct {
	at      [sides]netip.AddrPort
	servers [sides]*http.Server
	wait    sync.WaitGroup
	// odd answers what is not to be echoed; nil: nothing is.
	odd http.HandlerFunc
}

// The fields by which an answer tells whose it is.
const (
	fieldRequest    = "X-Caller-Request"
	fieldGeneration = "X-Generation"
	fieldSide       = "X-Side"
	fieldPath       = "X-Path"
	fieldTrailer    = "X-Sum"
)

func newBackends(t testing.TB, odd http.HandlerFunc) *backends {
	t.Helper()
	b := &backends{odd: odd}
	t.Cleanup(func() {
		for i := range b.servers {
			b.stop(t, i)
		}
	})
	for i := range sides {
		b.start(t, i)
	}
	return b
}

// start opens a backend, the second time where it was the first time.
func (b *backends) start(t testing.TB, i int) {
	t.Helper()
	address := "127.0.0.1:0"
	if b.at[i].IsValid() {
		address = b.at[i].String()
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b.at[i] = addrPort(l.Addr())
	s := &http.Server{Handler: b.handler(i), Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	switch protocolOf(i) {
	case "h2c":
		s.Protocols.SetUnencryptedHTTP2(true)
	case "https":
		s.Protocols.SetHTTP1(true)
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*identity(t).certificate}, MinVersion: tls.VersionTLS13})
	default:
		s.Protocols.SetHTTP1(true)
	}
	b.servers[i] = s
	b.wait.Go(func() { _ = s.Serve(l) }) // until it is closed
}

// stop closes a backend with its connections and waits.
func (b *backends) stop(t testing.TB, i int) {
	t.Helper()
	if err := b.servers[i].Close(); err != nil {
		t.Error(err)
	}
}

// handler echoes what it gets, and tells whose answer it is.
func (b *backends) handler(i int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.odd != nil && strings.HasPrefix(r.URL.Path, "/odd/") {
			b.odd(w, r)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxEcho))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set(fieldRequest, r.Header.Get(fieldRequest))
		h.Set(fieldGeneration, r.Header.Get(fieldGeneration))
		h.Set(fieldSide, strconv.Itoa(i))
		h.Set(fieldPath, r.URL.Path)
		if _, err := w.Write(body); err != nil {
			return // whoever asked has gone
		}
		if v := r.Header.Get(fieldTrailer); v != "" {
			h.Set(http.TrailerPrefix+fieldTrailer, v)
		}
	})
}

// maxEcho bounds what is echoed.
const maxEcho = 1 << 20
