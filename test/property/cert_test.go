// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/model"
)

// Certificates are made anew in each run. In documents, text stands for them:
// givenTo + a name is a certificate that a Domain of that name was given,
// clientBundle the authority of the callers.
const (
	givenTo      = "given to "
	clientBundle = "the callers' authority"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	text string
}

var (
	givenCA  = sync.OnceValue(func() *authority { return newAuthority("given") })
	clientCA = sync.OnceValue(func() *authority { return newAuthority("callers") })
	// strangerCA signs certificates that no Domain takes.
	strangerCA = sync.OnceValue(func() *authority { return newAuthority("strangers") })
	selfSigned = sync.OnceValue(func() tls.Certificate { return strangerCA().issue("backend.invalid", x509.ExtKeyUsageServerAuth) })
)

func newAuthority(name string) *authority {
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		panic(err) // nothing drawn is in it
	}
	a.text = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // the system has no randomness
	}
	return key
}

// clientCertificate is that of a caller, by its distinguished name as RFC 2253
// writes it.
func clientCertificate(subject string) tls.Certificate {
	name := pkix.Name{}
	for part := range strings.SplitSeq(subject, ",") {
		switch key, value, _ := strings.Cut(part, "="); key {
		case "CN":
			name.CommonName = value
		case "O":
			name.Organization = append(name.Organization, value)
		}
	}
	return clientCA().sign(name, x509.ExtKeyUsageClientAuth)
}

// issue signs a certificate for a name.
func (a *authority) issue(name string, use x509.ExtKeyUsage) tls.Certificate {
	return a.sign(pkix.Name{CommonName: name}, use)
}

func (a *authority) sign(subject pkix.Name, use x509.ExtKeyUsage) tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	if use == x509.ExtKeyUsageServerAuth {
		template.DNSNames = []string{subject.CommonName}
	}
	key := newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		panic(err) // nothing drawn is in it but the name
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
}

var (
	givenMu sync.Mutex
	given   = map[string][2]string{}
)

// givenPair is the certificate and key that a Domain was given, in PEM.
func givenPair(name string) (cert, key string) {
	givenMu.Lock()
	defer givenMu.Unlock()
	if p, ok := given[name]; ok {
		return p[0], p[1]
	}
	c := givenCA().issue(name, x509.ExtKeyUsageServerAuth)
	for _, der := range c.Certificate {
		cert += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err) // it is of a kind that can be written
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	given[name] = [2]string{cert, key}
	return cert, key
}

// certified puts certificates in place of what stands for them.
func certified(d *model.Domain) *model.Domain {
	c := model.Clone(d)
	if t := c.Spec.TLS; t != nil {
		if name, ok := strings.CutPrefix(t.Certificate, givenTo); ok {
			cert, key := givenPair(name)
			t.Certificate, t.Key = cert, model.NewSecret(key)
		}
	}
	if ca := c.Spec.ClientCA; ca != nil && ca.Bundle == clientBundle {
		ca.Bundle = clientCA().text
	}
	return c
}
