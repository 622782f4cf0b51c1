// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/model"
)

var start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func newTestIssuer(t *testing.T, now *time.Time, keep int) (*Authority, *Issuer) {
	t.Helper()
	a, err := NewAuthority(start)
	if err != nil {
		t.Fatal(err)
	}
	return a, NewIssuer(a, Options{
		Serves: func(name string) bool { return strings.HasSuffix(name, ".served") },
		Now:    func() time.Time { return *now },
		Keep:   keep,
	})
}

func TestIssuedCertificateVerifiesForItsNameOnly(t *testing.T) {
	now := start
	a, i := newTestIssuer(t, &now, 0)
	c, err := i.Certificate("API.served.")
	if err != nil {
		t.Fatal(err)
	}
	verify := func(name string) error {
		_, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool(), CurrentTime: now})
		return err
	}
	if err := verify("api.served"); err != nil {
		t.Errorf("its own name: %v", err)
	}
	if verify("other.served") == nil {
		t.Error("it verifies for another name")
	}
	if c.Leaf.IsCA {
		t.Error("a leaf may sign")
	}
	if k, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok || k.Curve.Params().Name != "P-256" {
		t.Errorf("key is %T, want ECDSA P-256", c.PrivateKey)
	}
}

func TestNameThatIsNotServedGetsNoCertificate(t *testing.T) {
	now := start
	_, i := newTestIssuer(t, &now, 0)
	_, err := i.Certificate("www.example.com")
	var unknown *UnknownNameError
	if !errors.As(err, &unknown) || unknown.Name != "www.example.com" {
		t.Fatalf("got %v, want an UnknownNameError", err)
	}
	if len(i.byName) != 0 {
		t.Error("a refused name is held")
	}
}

func TestCertificateIsReusedThenRenewedBeforeItEnds(t *testing.T) {
	now := start
	_, i := newTestIssuer(t, &now, 0)
	first, err := i.Certificate("a.served")
	if err != nil {
		t.Fatal(err)
	}
	now = start.Add(50 * 24 * time.Hour)
	if again, _ := i.Certificate("a.served"); again != first {
		t.Error("a certificate with half its time left was issued again")
	}
	now = start.Add(70 * 24 * time.Hour)
	renewed, err := i.Certificate("a.served")
	if err != nil {
		t.Fatal(err)
	}
	if renewed == first || !renewed.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("a certificate near its end was not renewed")
	}
}

func TestCertificatesHeldAreBounded(t *testing.T) {
	now := start
	_, i := newTestIssuer(t, &now, 3)
	for n := range 10 {
		if _, err := i.Certificate(fmt.Sprintf("n%d.served", n)); err != nil {
			t.Fatal(err)
		}
	}
	if len(i.byName) != 3 || i.recent.Len() != 3 {
		t.Errorf("%d names and %d entries held, want 3", len(i.byName), i.recent.Len())
	}
}

func TestManyCallersShareOneIssue(t *testing.T) {
	now := start
	_, i := newTestIssuer(t, &now, 0)
	var wg sync.WaitGroup
	got := make([]any, 16)
	for n := range got {
		wg.Go(func() {
			c, err := i.Certificate("a.served")
			if err != nil {
				t.Error(err)
			}
			got[n] = c
		})
	}
	wg.Wait()
	for _, c := range got {
		if c != got[0] {
			t.Fatal("callers got different certificates")
		}
	}
}

func TestLoopbackCertificateIsForAddressAndName(t *testing.T) {
	now := start
	a, i := newTestIssuer(t, &now, 0)
	c, err := i.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "localhost", "::1"} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool(), CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoopbackCertificateIsForTheListenersAddressesToo(t *testing.T) {
	now := start
	a, _ := newTestIssuer(t, &now, 0)
	i := NewIssuer(a, Options{
		Serves: func(string) bool { return false }, Now: func() time.Time { return now },
		Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("2001:db8::1")},
	})
	c, err := i.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"203.0.113.1": true, "2001:db8::1": true, "127.0.0.1": true, "127.0.0.9": true, "203.0.113.2": false, "127.0.0.8": false} {
		_, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool(), CurrentTime: now})
		if (err == nil) != want {
			t.Errorf("%s: %v, want valid: %t", name, err, want)
		}
	}
}

func TestGivenCertificateIsServedAndReplaced(t *testing.T) {
	now := start
	a, _ := newTestIssuer(t, &now, 0)
	giveNew := func() (string, model.Secret) {
		c, err := a.Issue(start, []string{"shop.example.com"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
		return string(cert), model.NewSecret(string(key))
	}
	cert, key := giveNew()
	i := NewIssuer(a, Options{
		Serves: func(string) bool { return true },
		Given:  func(string) (string, model.Secret, bool) { return cert, key, true },
		Now:    func() time.Time { return now },
	})
	first, err := i.Certificate("shop.example.com")
	if err != nil {
		t.Fatal(err)
	}
	cert, key = giveNew()
	second, err := i.Certificate("shop.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if first.Leaf.SerialNumber.Cmp(second.Leaf.SerialNumber) == 0 {
		t.Error("the certificate that was replaced is still served")
	}
	cert = "not PEM"
	if _, err := i.Certificate("shop.example.com"); err == nil {
		t.Error("a certificate that does not parse is no error")
	} else if strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("the error shows the key: %v", err)
	}
}

func TestObtainedCertificateIsServedFromWhenItIsThere(t *testing.T) {
	now := start
	a, _ := newTestIssuer(t, &now, 0)
	other, err := NewAuthority(start)
	if err != nil {
		t.Fatal(err)
	}
	want, err := other.Issue(start, []string{"shop.example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	there := false
	i := NewIssuer(a, Options{
		Serves:   func(name string) bool { return name == "shop.example.com" },
		Obtained: func(name string) (*tls.Certificate, bool) { return want, there },
		Now:      func() time.Time { return now },
	})
	if c, err := i.Certificate("shop.example.com"); err != nil || c == want {
		t.Errorf("%v; want one of the private CA's until the other is there", err)
	}
	there = true
	if c, err := i.Certificate("Shop.example.com."); err != nil || c != want {
		t.Errorf("%v; want the one that was obtained", err)
	}
	if _, err := i.Certificate("other.example.com"); err == nil {
		t.Error("a certificate was handed out for a name that is not served")
	}
}

func TestAuthoritySurvivesEncoding(t *testing.T) {
	a, err := NewAuthority(start)
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseAuthority(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Issue(start, []string{"x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: "x", Roots: a.Pool(), CurrentTime: start}); err != nil {
		t.Error(err)
	}
	if _, err := ParseAuthority(model.NewSecret(string(a.RootPEM()))); err == nil {
		t.Error("an authority without its key was taken")
	}
	secret, err := a.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(a), fmt.Sprintf("%#v", a), fmt.Sprintf("%+v", a), fmt.Sprint(text)} {
		if strings.Contains(shown, "PRIVATE") || strings.Contains(shown, hex.EncodeToString(secret)) || strings.Contains(shown, new(big.Int).SetBytes(secret).String()) {
			t.Errorf("the key shows in %q", shown)
		}
	}
}
