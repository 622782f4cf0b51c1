// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted"
	"postern.dev/postern/selfhosted/eventlog"
	"postern.dev/postern/selfhosted/setting"
)

// authority signs documents and certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"corp.configuration.postern.internal", "corp.management.postern.internal"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key, root, filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(t *testing.T, d *configuration.Document) *configuration.Document {
	t.Helper()
	return a.signAt(t, d, time.Now())
}

func (a *authority) signAt(t *testing.T, d *configuration.Document, at time.Time) *configuration.Document {
	t.Helper()
	s, err := configuration.Sign(d, at, func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, a.key, digest) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plane is a management plane that speaks protocol v2.
type plane struct {
	t  *testing.T
	ca *authority
	s  *http.Server
	l  net.Listener

	mu      sync.Mutex
	doc     *configuration.Document
	streams map[net.Conn]bool
	status  int
	acks    chan configuration.Ack
}

func newPlane(t *testing.T, ca *authority, doc *configuration.Document) *plane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, ca: ca, l: l, doc: doc, streams: map[net.Conn]bool{}, acks: make(chan configuration.Ack, 100)}
	p.s = &http.Server{Handler: http.HandlerFunc(p.stream), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	pair := tls.Certificate{Certificate: [][]byte{ca.root.Raw}, PrivateKey: ca.key}
	go func() {
		_ = p.s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}))
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *plane) stream(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	status, doc := p.status, p.doc
	p.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		p.t.Error(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+configuration.Upgrade+"\r\nDate: "+time.Now().UTC().Format(http.TimeFormat)+"\r\n\r\n")
	if err := configuration.WriteFrame(c, &configuration.Frame{Type: configuration.TypeDocument, Document: doc}); err != nil {
		return
	}
	p.mu.Lock()
	p.streams[c] = true
	p.mu.Unlock()
	for {
		f, err := configuration.ReadFrame(rw, configuration.MaxReply)
		if err != nil {
			return
		}
		if f.Type == configuration.TypeAck {
			p.acks <- *f.Ack
		}
	}
}

// publish sends the change to whoever is connected.
func (p *plane) publish(doc *configuration.Document) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := configuration.Diff(p.doc, doc)
	p.doc = doc
	for c := range p.streams {
		if err := configuration.WriteFrame(c, &configuration.Frame{Type: configuration.TypeDelta, Delta: d}); err != nil {
			p.t.Error(err)
		}
	}
}

// replace has the whole sent from now on, and ends what there is.
func (p *plane) replace(doc *configuration.Document) {
	p.mu.Lock()
	p.doc = doc
	p.mu.Unlock()
	p.refuse(0)
}

// refuse answers from now on with a status, and ends what there is.
func (p *plane) refuse(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
	for c := range p.streams {
		_ = c.Close()
	}
	clear(p.streams)
}

func (p *plane) kill() {
	p.refuse(http.StatusServiceUnavailable)
	_ = p.s.Close()
}

func (p *plane) acked() configuration.Ack {
	p.t.Helper()
	select {
	case a := <-p.acks:
		return a
	case <-time.After(30 * time.Second):
		p.t.Fatal("nothing is acknowledged")
		return configuration.Ack{}
	}
}

// node is a self-hosted gateway under test.
type node struct {
	*selfhosted.Gateway
	t             *testing.T
	plain, secure string
	metrics       string // if they are served
	log           *buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const token = "GatewayKey edge&203001010000&c2lnbmF0dXJl"

// start starts a gateway whose management plane is p, or nobody.
func start(t *testing.T, ca *authority, p *plane, settings ...string) *node {
	t.Helper()
	return startAs(t, "", ca, p, settings...)
}

// startAs starts an instance of that name.
func startAs(t *testing.T, instance string, ca *authority, p *plane, settings ...string) *node {
	t.Helper()
	environ := append([]string{
		"config.service.endpoint=corp.configuration.postern.internal", "config.service.auth=" + token, "config.service.ca=" + ca.file,
		"net.server.http.address=127.0.0.1:0", "net.server.https.address=127.0.0.1:0", "config.backup.path=none",
	}, settings...)
	s, notes, err := setting.Read(setting.Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, log: &buffer{}}
	n.Gateway, err = selfhosted.Start(t.Context(), selfhosted.Options{
		Settings: s, Notes: notes, Version: "test", Instance: instance, Log: eventlog.New(n.log, s.Log, false),
		Listen: func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			if err == nil {
				n.metrics = l.Addr().String() // they are the last
			}
			return l, err
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(host, "127.") {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
			if p == nil || address != "corp.configuration.postern.internal:443" {
				return nil, &net.DNSError{Name: host, IsNotFound: true}
			}
			return (&net.Dialer{}).DialContext(ctx, network, p.l.Addr().String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(n.log.String(), "c2lnbmF0dXJl") {
			t.Errorf("the token is in the log:\n%s", n.log)
		}
	})
	a, b := n.Addresses()
	n.plain, n.secure = a.String(), b.String()
	return n
}

// get asks for a path and returns status and body.
func (n *node) get(path string) string { return n.ask("http://"+n.plain+path, "") }

func (n *node) ask(url, host string) string {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Host = host
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", res.StatusCode, bytes.TrimSpace(b))
}

// logs waits until the log holds a text.
func (n *node) logs(text string) {
	n.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		if strings.Contains(n.log.String(), text) {
			return
		}
		if time.Now().After(end) {
			n.t.Fatalf("the log lacks %q:\n%s", text, n.log)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// backend answers with a text.
func backend(t *testing.T, text string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	t.Cleanup(s.Close)
	return s.URL
}

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

// assigned is the document of SelfHostedGateway edge with APIs that lead to URLs.
func assigned(t *testing.T, revision int64, apis map[string]string) *configuration.Document {
	t.Helper()
	return assignedWith(t, revision, apis, func(*model.Stage) {})
}

// assignedWith is assigned, with Stages that are changed.
func assignedWith(t *testing.T, revision int64, apis map[string]string, change func(*model.Stage)) *configuration.Document {
	t.Helper()
	objects := []model.Object{&model.Gateway{Head: named("corp"), Spec: model.GatewaySpec{Region: "eu", HTTP: "redirect"}}}
	var names []string
	for name, uri := range apis {
		names = append(names, name)
		stage := &model.Stage{Head: named(name + ".prod"), Spec: model.StageSpec{Deployment: "1"}}
		change(stage)
		spec := model.APISpec{Gateway: "corp", Type: model.Regional, Path: name, OpenAPI: fmt.Appendf(nil,
			`{"openapi":"3.0.3","info":{"title":"t","version":"1"},"paths":{"/":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":%q}}}}}`, uri)}
		objects = append(objects, &model.API{Head: named(name), Spec: spec},
			&model.Deployment{Head: named(name + ".1"), Spec: model.DeploymentSpec{API: name, Number: 1, Spec: spec}},
			stage)
	}
	objects = append(objects, &model.SelfHostedGateway{Head: named("edge"), Spec: model.SelfHostedGatewaySpec{Gateway: "corp", APIs: names}})
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{IDs: model.NamedIDs(), Deployments: true, Internet: netip.MustParsePrefix("198.18.0.0/15")})
	if err != nil {
		t.Fatal(err)
	}
	d, err := configuration.Assign(set, "edge", configuration.Facts{Revision: revision, Base: model.DefaultBase})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
