// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ambiguity sends ambiguous and malformed messages through a Gateway to
// readers that each have a parser of their own, and holds what these understood
// against what the Gateway meant. README.md says how.
package ambiguity

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// must makes a missing reader a failure.
const must = "POSTERN_DIFFERENTIAL"

// missing skips a test for want of a program, loudly.
func missing(t testing.TB, program string) {
	t.Helper()
	if os.Getenv(must) != "" {
		t.Fatalf("%s is not in the PATH", program)
	}
	t.Skipf("SKIPPED: %s is not in the PATH; not proved: that it reads what the Gateway means (install it; %s=1 makes this a failure)", program, must)
}

// name is the Domain that the requests are for.
const name = "amb.example"

// manifests lets everything through to one backend, path and all.
const manifests = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: main}
spec: {region: eu-1, http: serve}
---
apiVersion: postern/v1
kind: Backend
metadata: {name: reader}
spec:
  protocol: http
  targets: [{host: 127.0.0.1, port: %s}]
---
apiVersion: postern/v1
kind: API
metadata: {name: all}
spec:
  gateway: main
  type: regional
  backend: reader
  openapi:
    openapi: 3.0.1
    info: {title: All, version: "1"}
    paths:
      /: {x-amazon-apigateway-any-method: {responses: {default: {description: any}}}}
      /{proxy+}:
        x-amazon-apigateway-any-method:
          parameters: [{name: proxy, in: path, required: true, schema: {type: string}}]
          responses: {default: {description: any}}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: all.live}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: Domain
metadata: {name: amb.example}
spec:
  type: regional
  mappings: [{api: all, stage: live}]
`

// compiled is the snapshot in which every request is for a backend at address.
func compiled(address string) (*snapshot.Snapshot, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	objects, err := manifest.Decode("ambiguity.yaml", fmt.Appendf(nil, manifests, port))
	if err != nil {
		return nil, err
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{IDs: model.NamedIDs(), Base: model.DefaultBase, Deployments: true})
	if err != nil {
		return nil, err
	}
	r := new(compile.Compiler).Compile(set, compile.Options{
		Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet}, AsWritten: true,
		Egress: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	for _, o := range set.Objects() {
		ref := model.Ref{Kind: o.Kind(), Name: o.Base().Metadata.Name}
		if ok, c := r.Ready(ref); !ok {
			return nil, fmt.Errorf("%s is not ready: %s", ref, c.Message)
		}
	}
	return r.Snapshot, nil
}

// opaque is a connection that is not known to be the kernel's TCP, as those of
// TLS and of the networks are not: the engine takes its other wire.
type opaque struct{ net.Conn }

// CloseWrite ends the sending side.
func (o opaque) CloseWrite() error { return o.Conn.(*net.TCPConn).CloseWrite() }

// wire is how the engine meets its connections.
type wire struct {
	name string
	wrap func(net.Conn) net.Conn
}

var wires = []wire{
	{"kernel", func(c net.Conn) net.Conn { return c }},
	{"other", func(c net.Conn) net.Conn { return opaque{c} }},
}

// meaning is a request, and its answer, as the Gateway understood them.
type meaning struct {
	method, target, host string
	length               int64
	fields               []string // in lower case, "name: value"
	body                 bytes.Buffer
	whole                bool // body has all of it
	upgrade              string

	// Of the answer.
	status  int
	sent    int64
	code    string
	record  string // what the reader calls the request
	failure error
	// answered has the answer's fields as those of the request.
	answered []string
}

// tee notes what is read of a request's body.
type tee struct {
	io.Reader
	m *meaning
}

// Read reads the body.
func (b *tee) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.m.body.Write(p[:n])
	if err == io.EOF {
		b.m.whole = true
	}
	return n, err
}

// Buffered and Abort are the body's own.
func (b *tee) Buffered() int {
	if ahead, ok := b.Reader.(exchange.Buffered); ok {
		return ahead.Buffered()
	}
	return 0
}

func (b *tee) Abort() {
	if a, ok := b.Reader.(exchange.Aborter); ok {
		a.Abort()
	}
}

// lab is a Gateway on a real socket, which serves one connection at a time, or
// many for the clients that keep theirs.
type lab struct {
	t       *testing.T
	engine  *gateway.Engine
	at      string
	backend string

	mu    sync.Mutex
	meant []*meaning
	ended chan struct{} // a connection has ended
}

// open makes a lab in front of a backend.
func open(t *testing.T, w wire, backend string) *lab {
	t.Helper()
	s, err := compiled(backend)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, backend: backend, ended: make(chan struct{}, 1024)}
	l.engine = gateway.New(gateway.Options{
		Certificate: func(string) (*tls.Certificate, error) { return nil, errors.New("there is no TLS") },
		Dial: func(ctx context.Context, _, _, host string, port uint16) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
			if err != nil {
				return nil, err
			}
			return w.wrap(c), nil
		},
		Local:  l.note,
		Recent: 16,
		// A connection that keeps quiet ends, so that no case waits for ever. None of
		// these times decides what becomes of a request whose bytes are there.
		Timeouts: h1.Timeouts{Idle: 3 * time.Second},
	})
	l.engine.Swap(s)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.at = ln.Addr().String()
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // it was closed
			}
			o := &snapshot.Origin{
				Local: netip.AddrPortFrom(netip.IPv4Unspecified(), 80), Source: c.RemoteAddr().(*net.TCPAddr).AddrPort(),
				Socket: uint16(ln.Addr().(*net.TCPAddr).Port),
			}
			wait.Go(func() {
				_ = l.engine.ServeConn(context.Background(), w.wrap(c), o) // how requests went is in what was meant
				l.ended <- struct{}{}
			})
		}
	})
	t.Cleanup(func() {
		if err := errors.Join(ln.Close(), l.engine.Close()); err != nil {
			t.Error(err)
		}
		wait.Wait()
	})
	return l
}

// note is asked before anything else becomes of a request. It watches, and lets
// the Gateway go on.
func (l *lab) note(x *exchange.Exchange) bool {
	r := &x.Request
	m := &meaning{method: strings.Clone(r.Method), target: strings.Clone(request.Canonical(r.Path)), host: strings.Clone(r.Host), length: r.Length, whole: r.Length == 0, upgrade: strings.Clone(r.Upgrade)}
	// What a path and a method are is decided before they are judged.
	if m.target = strings.TrimRight(m.target, "/"); m.target == "" {
		m.target = "/"
	}
	if o := r.Header.Get("X-HTTP-Method-Override"); o != "" {
		m.method = strings.Clone(o)
	}
	if r.RawQuery != "" {
		m.target += "?" + r.RawQuery
	}
	for f := range r.Header.All() {
		m.fields = append(m.fields, strings.ToLower(f.Name)+": "+strings.Clone(f.Value))
	}
	if r.Length != 0 {
		r.Body = &tee{r.Body, m}
	}
	x.OnDone(func(x *exchange.Exchange) {
		rec, _ := l.engine.Recent(x.ID())
		m.status, m.sent, m.failure, m.code = x.Response.Status, x.Sent, x.Failure, rec.Code
		m.record = strings.Clone(x.Response.Header.Get(recordField))
		for f := range x.Response.Header.All() {
			m.answered = append(m.answered, strings.ToLower(f.Name)+": "+strings.Clone(f.Value))
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meant = append(l.meant, m)
	return false
}

// take returns what was meant since the last time.
func (l *lab) take() []*meaning {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.meant
	l.meant = nil
	return m
}

// patience is for what comes at once on any machine that is alive.
const patience = time.Minute

// send sends bytes on a connection of their own and returns what came back and
// what the Gateway made of them.
func (l *lab) send(b []byte) (back []byte, meant []*meaning, err error) {
	nc, err := net.Dial("tcp", l.at)
	if err != nil {
		return nil, nil, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	if _, err := nc.Write(b); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil, fmt.Errorf("the Gateway does not read: %w", err)
	} // it may have been refused while it was still being sent
	first, all := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(all)
		buf := make([]byte, 64<<10)
		var n int
		n, err = nc.Read(buf)
		back = append(back, buf[:n]...)
		close(first)
		if err == nil {
			var rest []byte
			rest, err = io.ReadAll(nc)
			back = append(back, rest...)
		}
	}()
	// What has come without its end is not over until the client says so. When that
	// is makes no difference to what is understood: only to how soon it is.
	t := time.NewTimer(10 * time.Millisecond)
	select {
	case <-first:
	case <-t.C:
	}
	t.Stop()
	_ = nc.(*net.TCPConn).CloseWrite() // fails where the Gateway has closed already
	<-all
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return back, nil, fmt.Errorf("the Gateway neither answers nor closes: %w", err)
	}
	nc.Close() // a reset says no more than an end
	select {
	case <-l.ended:
	case <-time.After(patience):
		return back, nil, errors.New("the connection does not end")
	}
	return back, l.take(), nil
}

// statuses are those of the answers in what came back.
func statuses(back []byte) (out []string) {
	for rest := back; ; {
		i := bytes.Index(rest, []byte("HTTP/1.1 "))
		if i < 0 || i+12 > len(rest) {
			return out
		}
		if s := string(rest[i+9 : i+12]); s != "100" {
			out = append(out, s)
		}
		rest = rest[i+12:]
	}
}

// has reports whether a sorted list has a string.
func has(sorted []string, s string) bool {
	_, ok := slices.BinarySearch(sorted, s)
	return ok
}
