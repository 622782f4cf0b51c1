// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/setting"
)

// plane is a management plane without a network: connections are pipes.
type plane struct {
	t    *testing.T
	pool *x509.CertPool
	cert tls.Certificate
	// reach says what is at an address: a nil handler refuses.
	reach map[string]http.Handler
	// fails says what dialling an address gives instead.
	fails map[string]error

	mu     sync.Mutex
	dialed []string
	log    strings.Builder
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plane"}, IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"corp.configuration.x", "corp.management.x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, pool: x509.NewCertPool(), cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, reach: map[string]http.Handler{}, fails: map[string]error{}}
	p.pool.AddCert(root)
	return p
}

func (p *plane) dial(ctx context.Context, _, address string) (net.Conn, error) {
	p.mu.Lock()
	p.dialed = append(p.dialed, address)
	p.mu.Unlock()
	if err := p.fails[address]; err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, err
	}
	h := p.reach[address]
	if h == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	l := &one{c: tls.Server(buffer(far), &tls.Config{Certificates: []tls.Certificate{p.cert}, NextProtos: []string{"http/1.1"}}), done: make(chan struct{})}
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = s.Serve(l) }()
	return near, nil
}

// buffered is a pipe whose one end does not wait for the other to read, as
// sockets do not: both may write at once.
type buffered struct {
	net.Conn
	out  chan []byte
	gone chan struct{} // closed when no more is written
	once sync.Once
}

func buffer(c net.Conn) *buffered {
	b := &buffered{Conn: c, out: make(chan []byte, 1000), gone: make(chan struct{})}
	go func() {
		defer c.Close()
		for {
			select {
			case p := <-b.out:
				if _, err := c.Write(p); err != nil {
					_ = b.Close()
					return
				}
			case <-b.gone:
				return
			}
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	select {
	case <-b.gone:
		return 0, net.ErrClosed
	case b.out <- append([]byte(nil), p...):
		return len(p), nil
	}
}

func (b *buffered) Close() error {
	b.once.Do(func() {
		for len(b.out) > 0 {
			if _, err := b.Conn.Write(<-b.out); err != nil {
				break
			}
		}
		close(b.gone)
	})
	return nil
}

// one is a listener of one connection.
type one struct {
	c    net.Conn
	once sync.Once
	done chan struct{}
}

func (l *one) Accept() (c net.Conn, err error) {
	err = net.ErrClosed
	l.once.Do(func() { c, err = l.c, nil; close(l.done) })
	return c, err
}
func (l *one) Close() error   { return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

// gateway is a Link with something to keep what it takes.
type gateway struct {
	*Link
	mu   sync.Mutex
	doc  *configuration.Document
	took []int64
	bad  error
}

func (g *gateway) have() *configuration.Document {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.doc
}

func (g *gateway) take(d *configuration.Document) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bad != nil {
		return g.bad
	}
	g.doc, g.took = d, append(g.took, d.Revision)
	return nil
}

const token = "GatewayKey edge-1&203001010000&c2ln"

func (p *plane) gateway(endpoint string, change ...func(*Options)) *gateway {
	p.t.Helper()
	e, err := setting.ParseEndpoint(endpoint)
	if err != nil {
		p.t.Fatal(err)
	}
	g := &gateway{}
	o := Options{
		Endpoint: e, Name: "edge-1", Token: model.NewSecret(token), TLS: &tls.Config{RootCAs: p.pool}, Dial: p.dial, Instance: "host-8080",
		Have: g.have, Take: g.take, Log: slog.New(slog.NewTextHandler(locked{p}, nil)),
		Heartbeat: func() configuration.Heartbeat {
			h := configuration.Heartbeat{Version: "test"}
			if d := g.have(); d != nil {
				h.Revision, h.Hash = d.Revision, d.Hash()
			}
			return h
		},
	}
	for _, c := range change {
		c(&o)
	}
	g.Link = New(o)
	return g
}

type locked struct{ p *plane }

func (l locked) Write(b []byte) (int, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return l.p.log.Write(b)
}

func (p *plane) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *plane) dials() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.dialed...)
}

// peer is the other end of a stream.
type peer struct {
	t   *testing.T
	req *http.Request
	c   net.Conn
	r   *bufio.Reader
	// passed were read on the way to others.
	passed []*configuration.Frame
}

// streams takes streams of protocol v2.
func (p *plane) streams(serve func(*peer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != configuration.Path || r.Header.Get("Upgrade") != configuration.Upgrade || r.Header.Get("Authorization") != token {
			p.t.Errorf("the request is %s %v", r.URL, r.Header)
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			p.t.Error(err)
			return
		}
		defer c.Close()
		date := "Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n"
		if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+configuration.Upgrade+"\r\n"+date+"\r\n"); err != nil {
			p.t.Error(err)
			return
		}
		serve(&peer{t: p.t, req: r, c: c, r: rw.Reader})
	})
}

func (p *peer) send(f *configuration.Frame) {
	if err := configuration.WriteFrame(p.c, f); err != nil {
		p.t.Errorf("send %s: %v", f.Type, err)
	}
}

// want reads frames up to one of a type; a heartbeat may come before what it
// follows.
func (p *peer) want(kind configuration.Type) *configuration.Frame {
	for i, f := range p.passed {
		if f.Type == kind {
			p.passed = append(p.passed[:i:i], p.passed[i+1:]...)
			return f
		}
	}
	for {
		f, err := configuration.ReadFrame(p.r, configuration.MaxReply)
		if err != nil {
			p.t.Errorf("waiting for %s: %v", kind, err)
			return &configuration.Frame{Ack: &configuration.Ack{}}
		}
		if f.Type == kind {
			return f
		}
		p.passed = append(p.passed, f)
	}
}

// beat reads up to a heartbeat that is as it should be.
func (p *peer) beat(good func(*configuration.Heartbeat) bool) {
	for {
		switch h := p.want(configuration.TypeHeartbeat).Heartbeat; {
		case h == nil:
			return
		case good(h):
			return
		}
	}
}

// drain reads until the other side ends, so that it is not held up.
func (p *peer) drain() { _, _ = io.Copy(io.Discard, p.r) }

func document(revision int64, names ...string) *configuration.Document {
	d := &configuration.Document{Revision: revision, For: "edge-1", Gateway: "corp", Base: "x"}
	for _, n := range names {
		d.Resources = append(d.Resources, configuration.Resource{Kind: "API", Name: n, Data: json.RawMessage(`{}`)})
	}
	return d
}
