// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki is the private certificate authority: one ECDSA P-256 root made
// on first start, and leaf certificates issued for the names that are served
// and for no others.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"postern.dev/postern/model"
)

const (
	rootLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
	// skew is how far in the past certificates begin, for clients whose clock
	// is behind.
	skew = 5 * time.Minute
)

// Authority is a root certificate and its key. The key never prints.
type Authority struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a root that is valid from now.
func NewAuthority(now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Postern private CA " + serial.Text(16)[:8]},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign the root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: read the root back: %w", err)
	}
	return &Authority{root, key}, nil
}

// ParseAuthority reads what Encode wrote.
func ParseAuthority(text model.Secret) (*Authority, error) {
	a := &Authority{}
	for rest := []byte(text.Reveal()); ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		var err error
		switch block.Type {
		case "CERTIFICATE":
			a.root, err = x509.ParseCertificate(block.Bytes)
		case "EC PRIVATE KEY":
			a.key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("pki: the authority's %s does not parse: %w", block.Type, err)
		}
	}
	if a.root == nil || a.key == nil || !a.key.PublicKey.Equal(a.root.PublicKey) {
		return nil, errors.New("pki: the stored authority is not a certificate with its key; restore a backup")
	}
	return a, nil
}

// Encode returns certificate and key in PEM, for a place that keeps secrets.
func (a *Authority) Encode() (model.Secret, error) {
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return model.Secret{}, fmt.Errorf("pki: encode the key: %w", err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return model.NewSecret(string(a.RootPEM()) + string(key)), nil
}

// IssueClient signs a client certificate for a key of another's. It tells who
// may show it in a URI; a name that a server would have it does not get.
func (a *Authority) IssueClient(now time.Time, name string, who *url.URL, key any, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	until := now.Add(lifetime)
	if until.After(a.root.NotAfter) {
		until = a.root.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{who},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.root, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign a client certificate for %s: %w", name, err)
	}
	return x509.ParseCertificate(der)
}

// Sign signs a digest (ECDSA, ASN.1) that is no certificate's: what the
// management plane vouches for beside names.
func (a *Authority) Sign(digest []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, a.key, digest)
}

// RootPEM is the root certificate, for clients to trust.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Root is the root certificate.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Pool holds the root alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.root)
	return p
}

// String hides the key.
func (a *Authority) String() string { return "[" + a.root.Subject.CommonName + "]" }

// GoString hides the key.
func (a *Authority) GoString() string { return a.String() }

// Issue signs a new server certificate for names and addresses.
func (a *Authority) Issue(now time.Time, names []string, addrs []net.IP) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	until := now.Add(leafLifetime)
	if until.After(a.root.NotAfter) {
		until = a.root.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-skew),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names,
		IPAddresses:           addrs,
	}
	// A common name holds 64 characters at most; clients read the subject
	// alternative names.
	if len(names) > 0 && len(names[0]) <= 64 {
		t.Subject.CommonName = names[0]
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.root, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign a certificate for %v: %w", names, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: read a certificate back: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func newSerial() (*big.Int, error) {
	// RFC 5280 4.1.2.2: positive, at most 20 octets.
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("pki: make a serial number: %w", err)
	}
	return n.SetBit(n, 126, 1), nil
}
