// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package acme obtains certificates from Pebble, Let's Encrypt's ACME authority
// for tests, which validates for real against a Postern on high ports of the
// loopback. README.md says how to run it.
package acme

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/instance"
	"postern.dev/postern/model"
)

// pebble is a running authority.
type pebble struct{ Directory, Roots, Issuer string }

// startPebble starts the authority, which validates at the ports and issues for
// 20 seconds.
func startPebble(t *testing.T, web, secure int) pebble {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pebble")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "pebble", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-http", fmt.Sprint(web), "-tls", fmt.Sprint(secure), "-validity", "20")
	log, err := os.Create(filepath.Join(t.TempDir(), "pebble.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends then
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the authority's log:\n%s", text)
		}
		_ = log.Close() // it was written by another process
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var p pebble
	if err := json.Unmarshal(line, &p); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return p
}

// freePorts finds ports that nothing listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	out := make([]int, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at once, so that they differ
		out[i] = l.Addr().(*net.TCPAddr).Port
	}
	return out
}

// world is a Postern beside an authority.
type world struct {
	*instance.Instance
	client *client.Client
	pebble pebble
	secure int // the port of https
}

// start starts both, or skips.
func start(t *testing.T) *world {
	t.Helper()
	if os.Getenv("POSTERN_ACME") == "" {
		t.Skip("SKIPPED: Pebble is downloaded for this test; set POSTERN_ACME=1. Not proved: certificates from a real ACME authority")
	}
	ports := freePorts(t, 3)
	web, secure, management := ports[0], ports[1], ports[2]
	w := &world{pebble: startPebble(t, web, secure), secure: secure}
	var err error
	w.Instance, err = instance.Start(t.Context(), instance.Options{
		Data: t.TempDir(), Management: "127.0.0.1:0", Public: netip.MustParseAddr("127.0.0.1"),
		PublicPorts: map[uint16]uint16{80: uint16(web), 443: uint16(secure), 3443: uint16(management)}, //nolint:gosec // ports
		// The authority stands on this machine.
		AllowEgress: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	set := w.Settings()
	if w.client, err = client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	head := func(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }
	w.apply(t,
		&model.Gateway{Head: head("main"), Spec: model.GatewaySpec{Region: "eu-1", HTTP: model.HTTPRedirect}},
		&model.API{Head: head("pets"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
		&model.Stage{Head: head("pets.prod"), Spec: model.StageSpec{AutoDeploy: true}},
	)
	return w
}

func (w *world) apply(t *testing.T, objects ...model.Object) {
	t.Helper()
	if _, err := w.client.Apply(t.Context(), objects, false); err != nil {
		t.Fatal(err)
	}
}

// ask declares a Domain with a certificate from a directory.
func (w *world) ask(t *testing.T, name, directory string, challenges ...string) {
	t.Helper()
	w.apply(t, &model.Domain{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: model.DomainSpec{
		Type: model.Regional, Mappings: []model.Mapping{{API: "pets", Stage: "prod"}},
		TLS: &model.DomainTLS{ACME: &model.DomainACME{Directory: directory, Roots: w.pebble.Roots, Email: "ops@" + name, Challenges: challenges}},
	}})
}

// await waits until the condition of a Domain's certificate is as wanted.
func (w *world) await(t *testing.T, name string, want func(model.Condition) bool) model.Condition {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last model.Condition
	for {
		r, err := w.client.Get(ctx, model.Ref{Kind: model.KindDomain, Name: name})
		if err != nil {
			t.Fatalf("%v; the certificate is said to be %+v", err, last)
		}
		for _, c := range r.Status.Conditions {
			if c.Type == "CertificateValid" {
				if last = c; want(c) {
					return c
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the certificate is said to be %+v", last)
		}
	}
}

func valid(c model.Condition) bool { return c.Status && c.Reason == "Obtained" }

func pool(t *testing.T, pem string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(pem)) {
		t.Fatal("no certificate to trust")
	}
	return p
}

// dial opens a verified TLS connection to a name.
func (w *world) dial(t *testing.T, name string, roots *x509.CertPool) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.secure), &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func serial(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }

// get makes a request on a connection that stays.
func get(t *testing.T, c *tls.Conn, in *bufio.Reader, host string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/pets", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(c); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(in, r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Close || !strings.Contains(string(body), "dog") {
		t.Fatalf("%d %s %v", resp.StatusCode, body, err)
	}
}

func TestACertificateIsObtainedByEachChallenge(t *testing.T) {
	w := start(t)
	for _, challenge := range []string{model.ChallengeHTTP01, model.ChallengeTLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			name := challenge + ".example"
			w.ask(t, name, w.pebble.Directory, challenge)
			c := w.await(t, name, valid)
			if !strings.Contains(c.Message, w.pebble.Directory) {
				t.Errorf("%+v", c)
			}
			conn := w.dial(t, name, pool(t, w.pebble.Issuer))
			get(t, conn, bufio.NewReader(conn), name)
		})
	}
}

func TestARenewalLeavesConnectionsAlone(t *testing.T) {
	w := start(t)
	const name = "shop.example"
	w.ask(t, name, w.pebble.Directory)
	w.await(t, name, valid)
	roots := pool(t, w.pebble.Issuer)
	old := w.dial(t, name, roots)
	in := bufio.NewReader(old)
	first := serial(old)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		get(t, old, in, name)
		fresh := w.dial(t, name, roots)
		now := serial(fresh)
		if err := fresh.Close(); err != nil {
			t.Fatal(err)
		}
		if now != first {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the certificate was not renewed")
		}
	}
	for range 10 {
		get(t, old, in, name)
	}
	if serial(old) != first {
		t.Error("the connection has changed its certificate")
	}
	w.await(t, name, valid)
}

func TestAnAuthorityThatRefusesLeavesACondition(t *testing.T) {
	w := start(t)
	nobody := freePorts(t, 1)[0]
	for _, x := range []struct{ name, directory, want string }{
		{"blocked.example", w.pebble.Directory, "policy"},
		{"unreachable.example", fmt.Sprintf("https://127.0.0.1:%d/dir", nobody), "connection refused"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.ask(t, x.name, x.directory)
			c := w.await(t, x.name, func(c model.Condition) bool { return c.Reason == "NotObtained" })
			if c.Status || !strings.Contains(c.Message, x.want) || !strings.Contains(c.Message, "tried again at") {
				t.Errorf("%+v", c)
			}
			conn := w.dial(t, x.name, pool(t, string(w.RootPEM())))
			get(t, conn, bufio.NewReader(conn), x.name)
		})
	}
}
