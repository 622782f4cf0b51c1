// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/acme"
	"postern.dev/postern/model"
)

// signed is a certificate with its key.
type signed struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate from tmpl, by its own key if by is nil.
func sign(t *testing.T, by *signed, tmpl *x509.Certificate) *signed {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.BasicConstraintsValid = big.NewInt(1), true
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := tmpl, k
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signed{c, k}
}

func (s *signed) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw}))
}

func (s *signed) secret(t *testing.T) model.Secret {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return model.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})))
}

func (s *signed) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{s.cert.Raw}, PrivateKey: s.key}
}

// shop is a server with a regional API, published on the loopback.
type shop struct {
	*Instance
	client  *client.Client
	address string // of port 443
	// skew moves the server's clock.
	skew atomic.Int64
}

func openShop(t *testing.T) *shop {
	t.Helper()
	var ports []uint16
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // both at once, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	s := &shop{address: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	var err error
	s.Instance, err = Start(t.Context(), Options{
		Data: t.TempDir(), Management: "127.0.0.1:0", Public: netip.MustParseAddr("127.0.0.1"),
		PublicPorts: map[uint16]uint16{443: ports[0], 3443: ports[1]},
		Now:         func() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	set := s.Settings()
	if s.client, err = client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	s.apply(t,
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.API{Head: named("open"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
		&model.Stage{Head: named("open.prod"), Spec: model.StageSpec{AutoDeploy: true}},
	)
	return s
}

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

func (s *shop) apply(t *testing.T, objects ...model.Object) wire.Applied {
	t.Helper()
	a, err := s.client.Apply(t.Context(), objects, false)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func domain(name string, edit func(*model.DomainSpec)) *model.Domain {
	d := &model.Domain{Head: named(name), Spec: model.DomainSpec{Type: model.Regional, Mappings: []model.Mapping{{API: "open", Stage: "prod"}}}}
	edit(&d.Spec)
	return d
}

// conditions are what is said of a Domain, by type.
func (s *shop) conditionsOf(t *testing.T, name string) map[string]model.Condition {
	t.Helper()
	r, err := s.client.Get(t.Context(), model.Ref{Kind: model.KindDomain, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]model.Condition{}
	for _, c := range r.Status.Conditions {
		out[c.Type] = c
	}
	return out
}

func TestAGivenCertificateIsWarnedOfAheadAndAfterItsEnd(t *testing.T) {
	s := openShop(t)
	const name, day = "shop.example", 24 * time.Hour
	leaf := sign(t, nil, &x509.Certificate{
		DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(40 * day),
	})
	given := domain(name, func(d *model.DomainSpec) { d.TLS = &model.DomainTLS{Certificate: leaf.pem(), Key: leaf.secret(t)} })
	if a := s.apply(t, given); len(a.Warnings) != 0 {
		t.Errorf("%q", a.Warnings)
	}
	for _, x := range []struct {
		after         time.Duration
		valid, advice bool
		reason, words string
	}{
		{0, true, false, "Given", ""},
		{11 * day, true, true, "Given", "ends in 28 days"},
		{40*day - time.Hour, true, true, "Given", "ends in less than a day"},
		{41 * day, false, true, "Ended", "has ended"},
		{-2 * day, false, false, "NotYet", ""},
	} {
		s.skew.Store(int64(x.after))
		got := s.conditionsOf(t, name)
		c, advice := got["CertificateValid"], got["Advice"]
		if c.Status != x.valid || c.Reason != x.reason || (advice.Reason == "CertificateExpires") != x.advice || !strings.Contains(advice.Message, x.words) {
			t.Errorf("after %s: %+v", x.after, got)
		}
		if !got["Ready"].Status {
			t.Errorf("after %s the Domain is not served: %+v", x.after, got)
		}
	}
	// What would be said of it is said when it is applied, tried or not.
	s.skew.Store(int64(11 * day))
	given = model.Clone(given)
	given.Spec.Mappings[0].Path = "shop"
	for _, dry := range []bool{true, false} {
		a, err := s.client.Apply(t.Context(), []model.Object{given}, dry)
		if err != nil || !strings.Contains(strings.Join(a.Warnings, "\n"), "CertificateExpires") {
			t.Errorf("dry %t: %q, %v", dry, a.Warnings, err)
		}
	}
}

func TestTheStateOfACertificateByACMEIsToldInWords(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotAfter: now.Add(time.Hour)}
	const directory = "https://acme.test/dir"
	failed, next := errors.New("rate limited"), now.Add(time.Minute)
	for _, x := range []struct {
		state  acme.State
		valid  bool
		reason string
		words  string
	}{
		{acme.State{}, false, "Pending", "is being obtained from " + directory + "; until then the private CA's is served"},
		{acme.State{Err: failed, Next: next}, false, "NotObtained", "rate limited; it is tried again at 2026-11-22T08:01:00Z"},
		{acme.State{Leaf: leaf, Next: next}, true, "Obtained", "valid until 2026-11-22T09:00:00Z, from " + directory},
		{acme.State{Leaf: leaf, Err: failed, Next: next}, true, "NotRenewed", "valid until 2026-11-22T09:00:00Z, but"},
		{acme.State{Leaf: &x509.Certificate{NotAfter: now}, Err: failed, Next: next}, false, "Ended", "has ended at 2026-11-22T08:00:00Z"},
	} {
		x.state.Directory = directory
		c := obtainedCertificate(x.state, now)
		if c.Type != "CertificateValid" || c.Status != x.valid || c.Reason != x.reason || !strings.Contains(c.Message, x.words) {
			t.Errorf("%+v, want %t %s: %s", c, x.valid, x.reason, x.words)
		}
	}
}

func TestADirectoryOnThisMachineIsNotDialledForAPublisher(t *testing.T) {
	s := openShop(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // at the end, whatever came of it
	dialled := make(chan struct{})
	go func() {
		if c, err := l.Accept(); err == nil {
			close(dialled)
			_ = c.Close() // it was not to come
		}
	}()
	s.apply(t, domain("shop.example", func(d *model.DomainSpec) {
		d.TLS = &model.DomainTLS{ACME: &model.DomainACME{Directory: "https://" + l.Addr().String() + "/dir"}}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c := s.conditionsOf(t, "shop.example")["CertificateValid"]
		if c.Reason == "NotObtained" {
			if c.Status || !strings.Contains(c.Message, "--allow-egress") || !strings.Contains(c.Message, "the private CA's certificate is served") {
				t.Errorf("%+v", c)
			}
			break
		}
		if c.Reason != "Pending" {
			t.Fatalf("%+v", c)
		}
		select {
		case <-tick.C:
		case <-dialled:
			t.Fatal("the server dialled its own machine")
		case <-ctx.Done():
			t.Fatal("no condition says that it failed")
		}
	}
	// Meanwhile the name is served.
	status, _, err := s.call(t, "shop.example", "shop.example", nil)
	if err != nil || status != http.StatusOK {
		t.Errorf("%d, %v", status, err)
	}
}

// call asks for the pets over TLS, as a stock client.
func (s *shop) call(t *testing.T, sni, host string, cert *tls.Certificate) (status int, body string, err error) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.RootPEM()) {
		t.Fatal("the private CA has no certificate")
	}
	cfg := &tls.Config{ServerName: sni, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.address, cfg)
	if err != nil {
		return 0, "", err
	}
	defer c.Close() // what it held was read
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, "", err
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/pets", nil)
	if err != nil {
		return 0, "", err
	}
	if err := r.Write(c); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestCallersShowTheCertificatesThatADomainAsksFor(t *testing.T) {
	s := openShop(t)
	ca := sign(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "callers"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	client := func(by *signed, name string, edit func(*x509.Certificate)) *tls.Certificate {
		tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if edit != nil {
			edit(tmpl)
		}
		return new(sign(t, by, tmpl).pair())
	}
	other := sign(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "callers"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	alice, bob := client(ca, "alice", nil), client(ca, "bob", nil)
	stranger := client(other, "alice", nil)
	ended := client(ca, "alice", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	// The API is for alice alone, whichever way she comes.
	policy := []byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*"},
		{"Effect":"Deny","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*",
		 "Condition":{"StringNotEquals":{"postern:ClientCertSubject":"CN=alice,O=Example"}}}]}`)
	ask := func(name, mode string) *model.Domain {
		return domain(name, func(d *model.DomainSpec) { d.ClientCA = &model.ClientCA{Bundle: ca.pem(), Mode: mode} })
	}
	free := ask("free.example", model.ClientOptional)
	free.Spec.Mappings[0].API = "free"
	s.apply(t,
		&model.API{Head: named("open"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`), Policy: policy}},
		ask("required.example", model.ClientRequired), ask("optional.example", model.ClientOptional),
		domain("plain.example", func(*model.DomainSpec) {}),
		&model.API{Head: named("free"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
		&model.Stage{Head: named("free.prod"), Spec: model.StageSpec{AutoDeploy: true}}, free,
	)
	const refusedHandshake = 0
	for _, x := range []struct {
		name      string
		sni, host string
		cert      *tls.Certificate
		want      int
	}{
		{"required, alice's", "required.example", "required.example", alice, 200},
		{"required, bob's: the policy refuses him", "required.example", "required.example", bob, 403},
		{"required, none", "required.example", "required.example", nil, refusedHandshake},
		{"required, another authority's", "required.example", "required.example", stranger, refusedHandshake},
		{"required, one that has ended", "required.example", "required.example", ended, refusedHandshake},
		{"required, over another name's connection", "plain.example", "required.example", alice, 403},
		{"optional, alice's", "optional.example", "optional.example", alice, 200},
		{"optional, bob's", "optional.example", "optional.example", bob, 403},
		{"optional, none: the policy wants alice", "optional.example", "optional.example", nil, 403},
		{"optional, none, without a policy", "free.example", "free.example", nil, 200},
		{"optional, another authority's", "optional.example", "optional.example", stranger, refusedHandshake},
		{"plain, where none is asked for: the policy sees none", "plain.example", "plain.example", alice, 403},
	} {
		t.Run(x.name, func(t *testing.T) {
			status, body, err := s.call(t, x.sni, x.host, x.cert)
			if (err == nil) != (x.want != refusedHandshake) || status != x.want {
				t.Errorf("%d %s %v, want %d", status, body, err, x.want)
			}
		})
	}
	c := s.conditionsOf(t, "required.example")["Advice"]
	if c.Reason != "WithoutClientCertificate" || !strings.Contains(c.Message, ".execute-api.eu-1.") {
		t.Errorf("%+v", c)
	}
}
