// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/selfhosted/setting"
	"postern.dev/postern/snapshot"
)

func TestBackendsMayBeAnywhereButLinkLocal(t *testing.T) {
	in := &snapshot.Internet{Egress: anywhere, Own: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	f := func(want bool, addrs ...string) {
		t.Helper()
		for _, a := range addrs {
			if got := flow.Egress(in, netip.MustParseAddr(a)); got != want {
				t.Errorf("%s may be dialled: %v, want %v", a, got, want)
			}
		}
	}
	f(true, "127.0.0.1", "10.0.0.1", "192.168.1.1", "198.18.0.10", "8.8.8.8", "169.253.255.255", "169.255.0.0", "::1", "fd00::1", "fe7f::1", "fec0::1", "2600::1", "64:ff9b::10.0.0.1")
	f(false, "169.254.0.0", "169.254.169.254", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1")
}

// dnsServer answers every question for an address with 127.0.0.9, and tells
// which names were asked.
func dnsServer(t *testing.T) (addr string, asked chan string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	asked = make(chan string, 16)
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			q := b[:n]
			var labels []string
			at := 12
			for at < n && q[at] != 0 {
				labels = append(labels, string(q[at+1:at+1+int(q[at])]))
				at += 1 + int(q[at])
			}
			end := at + 5
			r := append([]byte(nil), q[:end]...)
			binary.BigEndian.PutUint16(r[2:], 0x8180)
			for i := 6; i < 12; i++ {
				r[i] = 0
			}
			if binary.BigEndian.Uint16(q[at+1:]) == 1 { // A
				r[7] = 1
				r = append(r, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 9)
			}
			select {
			case asked <- strings.Join(labels, "."):
			default:
			}
			_, _ = c.WriteTo(r, from)
		}
	}()
	return c.LocalAddr().String(), asked
}

func TestNamesBelowTheBaseDomainAreAskedOfTheirServer(t *testing.T) {
	addr, asked := dnsServer(t)
	s := &setting.Settings{Resolver: addr, Endpoint: setting.Endpoint{Host: "corp.configuration.postern.internal"}}
	n := newNames(s, nil)
	list, err := n.lookup(t.Context(), "corp.management.postern.internal")
	if err != nil || len(list) != 1 || list[0] != netip.MustParseAddr("127.0.0.9") {
		t.Errorf("it resolves to %v, %v", list, err)
	}
	if name := <-asked; name != "corp.management.postern.internal" {
		t.Errorf("asked for %s", name)
	}
	for host, want := range map[string]bool{"corp.postern.internal": true, "a.b.Postern.Internal.": true, "postern.internal": false, "notpostern.internal": false, "backend.example": false} {
		if got := n.below(host); got != want {
			t.Errorf("%s is its server's: %v", host, got)
		}
	}
	own := newNames(&setting.Settings{Endpoint: setting.Endpoint{Host: "gateways.example.com"}}, nil)
	if !own.below("gateways.example.com") {
		t.Error("with an endpoint of one's own the server is not asked before the base domain is known")
	}
	own.setBase("postern.internal")
	if own.below("gateways.example.com") {
		t.Error("the base domain is not taken from the configuration")
	}
}

// pair writes a certificate for a name and returns it as PEM.
func pair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

func TestWhichCertificateIsShown(t *testing.T) {
	shopCert, shopKey := pair(t, "shop.example")
	shop := &snapshot.Domain{Name: "*.shop.example", Certificate: shopCert, Key: model.NewSecret(shopKey)}
	bare := &snapshot.Domain{Name: "bare.example"}
	snap := &snapshot.Snapshot{Gateways: map[string]*snapshot.Gateway{"corp": {Hosts: map[string]*snapshot.Host{
		"*.shop.example": {Kind: snapshot.HostDomain, Name: "*.shop.example", Domain: shop},
		"bare.example":   {Kind: snapshot.HostDomain, Name: "bare.example", Domain: bare},
	}}}}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := &setting.Settings{Name: "edge"}
	c, err := newCertificates(s, func() *snapshot.Snapshot { return snap }, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	f := func(name, want string) *tls.Certificate {
		t.Helper()
		got, err := c.get(name)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Subject.CommonName != want {
			t.Errorf("%s shows the certificate of %s, want %s", name, leaf.Subject.CommonName, want)
		}
		return got
	}
	f("*.shop.example", "shop.example")
	f("bare.example", "edge")
	one := f("", "edge")
	if f("", "edge") != one {
		t.Error("one is made for every handshake")
	}
	now = now.Add(selfSigned * 3 / 4)
	if f("", "edge") == one {
		t.Error("it is not renewed")
	}

	dir := t.TempDir()
	s.Certificate, s.Key = filepath.Join(dir, "c"), filepath.Join(dir, "k")
	put := func(name string, at time.Time) {
		t.Helper()
		cert, key := pair(t, name)
		for file, text := range map[string]string{s.Certificate: cert, s.Key: key} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.general = nil
	put("first", now)
	f("bare.example", "first")
	put("second", now.Add(time.Second))
	f("", "first")
	now = now.Add(lookEvery)
	f("", "second")
	if err := os.WriteFile(s.Certificate, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(lookEvery)
	f("", "second")
	f("*.shop.example", "shop.example")
}

func TestSiblingsAreAnsweredAtAPace(t *testing.T) {
	now := time.Now()
	p := newPace(2, func() time.Time { return now })
	first, second, third := p.step(), p.step(), p.step()
	if !first || !second || third {
		t.Error("not two in a minute")
	}
	now = now.Add(time.Minute)
	if !p.step() {
		t.Error("none in the next")
	}
}
