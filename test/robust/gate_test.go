// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/snapshot"
)

// host is the name of the Gateway.
const host = "main.postern.internal"

// everybodys is what connections to real sockets are said to have called, as on a
// server: the name tells which Gateway it is for.
var everybodys = netip.IPv4Unspecified()

// gate is an engine on real sockets: in clear, under TLS and over QUIC.
type gate struct {
	*gateway.Engine
	clear, secure, quic string
	roots               *x509.CertPool
	cancel              context.CancelFunc
	wait                sync.WaitGroup
	listeners           []net.Listener
}

// open makes an engine that serves s. It is closed with the test.
func open(t testing.TB, s *snapshot.Snapshot, o gateway.Options) *gate {
	t.Helper()
	id := identity(t)
	o.Certificate = func(string) (*tls.Certificate, error) { return id.certificate, nil }
	o.Roots = id.roots
	g := &gate{Engine: gateway.New(o), roots: id.roots}
	g.Swap(s)
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() {
		if err := g.close(); err != nil {
			t.Error(err)
		}
	})
	g.clear = g.listen(t, ctx, 80)
	g.secure = g.listen(t, ctx, 443)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.quic = pc.LocalAddr().String()
	g.wait.Go(func() {
		err := g.ServeSocket(ctx, pc, func(from netip.AddrPort) (*snapshot.Origin, func(), bool) {
			return &snapshot.Origin{Source: from, Local: netip.AddrPortFrom(everybodys, 443), QUIC: true}, func() {}, true
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	return g
}

// listen serves a socket as if it were a port of the Gateway.
func (g *gate) listen(t testing.TB, ctx context.Context, port uint16) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.listeners = append(g.listeners, l)
	g.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			o := &snapshot.Origin{Source: c.RemoteAddr().(*net.TCPAddr).AddrPort(), Local: netip.AddrPortFrom(everybodys, port)}
			g.wait.Go(func() { _ = g.ServeConn(ctx, c, o) }) // callers tell how it went
		}
	})
	return l.Addr().String()
}

func (g *gate) close() error {
	var errs []error
	for _, l := range g.listeners {
		errs = append(errs, l.Close())
	}
	g.cancel()
	errs = append(errs, g.Close())
	g.wait.Wait()
	return errors.Join(errs...)
}

// known is the certificate of everybody here, and who trusts it.
type known struct {
	certificate *tls.Certificate
	roots       *x509.CertPool
}

// identity makes a certificate for the Gateway's name and for the loopback, once.
func identity(t testing.TB) known {
	t.Helper()
	id, err := makeIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var makeIdentity = sync.OnceValues(func() (known, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return known{}, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: []string{host}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return known{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return known{}, err
	}
	id := known{certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots: x509.NewCertPool()}
	id.roots.AddCert(leaf)
	return id, nil
})
