// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	number "math/big"
	"net"
	"testing"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certify makes a certificate, signed by a or by itself.
func (a *authority) certify(t *testing.T, name string, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: number.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(c)
	parent, signer := c, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}
}

func ca(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
}

func client(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

// TestVouchAgreesWithAHandshake: what is said of a certificate beforehand is what
// a TLS server makes of it that takes one if it is given, or requires one.
func TestVouchAgreesWithAHandshake(t *testing.T) {
	var none *authority
	root, other := none.certify(t, "root", ca), none.certify(t, "other", ca)
	middle := root.certify(t, "middle", ca)
	leaf := middle.certify(t, "leaf", client)
	server := none.certify(t, "server", func(*x509.Certificate) {})
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	for _, x := range []struct {
		name  string
		shown []*authority
		good  bool
	}{
		{"its own", []*authority{root.certify(t, "partner", client)}, true},
		{"by way of another", []*authority{leaf, middle}, true},
		{"the way is missing", []*authority{leaf}, false},
		{"of another authority", []*authority{other.certify(t, "partner", client)}, false},
		{"self-signed", []*authority{none.certify(t, "root", client)}, false},
		{"over", []*authority{root.certify(t, "partner", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, false},
		{"for servers", []*authority{root.certify(t, "partner", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			shown := tls.Certificate{PrivateKey: x.shown[0].key}
			var chain []*x509.Certificate
			for _, a := range x.shown {
				shown.Certificate = append(shown.Certificate, a.cert.Raw)
				chain = append(chain, a.cert)
			}
			if err := request.Vouch(pool, chain, time.Now()); (err == nil) != x.good {
				t.Errorf("%v", err)
			}
			for _, mode := range []tls.ClientAuthType{tls.VerifyClientCertIfGiven, tls.RequireAndVerifyClientCert} {
				here, there := net.Pipe()
				done := make(chan error, 1)
				go func() {
					c := tls.Client(there, &tls.Config{
						InsecureSkipVerify:   true,
						GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil },
					})
					err := c.Handshake()
					if err == nil {
						_, err = c.Read(make([]byte, 1)) // until the server closes
					}
					done <- err
				}()
				s := tls.Server(here, &tls.Config{
					Certificates: []tls.Certificate{{Certificate: [][]byte{server.cert.Raw}, PrivateKey: server.key}}, ClientCAs: pool, ClientAuth: mode,
				})
				if err := s.Handshake(); (err == nil) != x.good {
					t.Errorf("%v: %v", mode, err)
				}
				_ = here.Close()
				<-done
			}
		})
	}
}

func TestAShownCertificateThatIsNotVouchedForEndsTheHandshake(t *testing.T) {
	w := newWorld(t)
	var none *authority
	root, other := none.certify(t, "root", ca), none.certify(t, "other", ca)
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	good, bad := root.certify(t, "partner", client).cert, other.certify(t, "partner", client).cert
	for _, required := range []bool{true, false} {
		w.shop.ClientCA = &snapshot.ClientCA{Required: required, Pool: pool}
		for _, x := range []struct {
			name, sni string
			shown     *x509.Certificate
			code      string
			subject   string
		}{
			{"good", "a.shop.example", good, "", "CN=partner"},
			{"bad", "a.shop.example", bad, "tls/client-cert", ""},
			{"bad, where none is asked for", w.pub.Host, bad, "", ""},
		} {
			a := w.at(nil, "GET", x.sni, "/pets")
			a.Asked, a.Now = true, time.Now()
			a.Present([]*x509.Certificate{x.shown})
			v := request.Judge(w.Snapshot, a, true)
			if (a.ClientCert != nil) != (x.subject != "") || a.ClientCert != nil && a.ClientCert.Subject != x.subject {
				t.Errorf("%s: %+v", x.name, a.ClientCert)
			}
			if stopped := v.Symptom == request.Handshake; stopped != (x.code != "") || stopped && v.Code() != x.code {
				t.Errorf("%s, required %v: %s %v", x.name, required, codes(&v), v.Symptom)
			}
		}
	}
}
