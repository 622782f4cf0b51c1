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
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/selfhosted/setting"
	"postern.dev/postern/snapshot"
)

// certificates are what the HTTPS port shows: a Domain's own where it was given
// with the configuration, else the one in the settings, else one that signs
// itself, which its callers have to be told of.
type certificates struct {
	s        *setting.Settings
	snapshot func() *snapshot.Snapshot
	now      func() time.Time

	mu      sync.Mutex // guards what follows
	given   map[string]*domainCertificate
	general *tls.Certificate
	changed time.Time // of the file of general
	looked  time.Time
}

type domainCertificate struct {
	pem  string
	cert *tls.Certificate
	err  error
}

const (
	// selfSigned is how long a certificate of one's own is good.
	selfSigned = 365 * 24 * time.Hour
	// lookEvery is how often the files are looked at: Kubernetes changes them.
	lookEvery = 10 * time.Second
)

func newCertificates(s *setting.Settings, snap func() *snapshot.Snapshot, now func() time.Time) (*certificates, error) {
	c := &certificates{s: s, snapshot: snap, now: now, given: map[string]*domainCertificate{}}
	_, err := c.get("")
	return c, err
}

// get returns the certificate for a name.
func (c *certificates) get(name string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.domain(name); d != nil && d.Certificate != "" {
		return c.ofDomain(d)
	}
	if c.s.Certificate != "" {
		return c.file()
	}
	if c.general == nil || c.now().After(c.general.Leaf.NotAfter.Add(-selfSigned/3)) {
		made, err := signItself(c.s.Name, c.now())
		if err != nil {
			return nil, fmt.Errorf("selfhosted: make a certificate: %w", err)
		}
		c.general = made
	}
	return c.general, nil
}

func (c *certificates) domain(name string) *snapshot.Domain {
	s := c.snapshot()
	if s == nil || name == "" {
		return nil
	}
	for _, g := range s.Gateways {
		if h := g.Hosts[name]; h != nil {
			return h.Domain
		}
		if h := request.Find(g, name); h != nil {
			return h.Domain
		}
	}
	return nil
}

// ofDomain keeps what was read of each Domain.
func (c *certificates) ofDomain(d *snapshot.Domain) (*tls.Certificate, error) {
	if k := c.given[d.Name]; k != nil && k.pem == d.Certificate {
		return k.cert, k.err
	}
	pair, err := tls.X509KeyPair([]byte(d.Certificate), []byte(d.Key.Reveal()))
	k := &domainCertificate{pem: d.Certificate, cert: &pair}
	if err != nil {
		k.cert, k.err = nil, fmt.Errorf("selfhosted: the certificate of Domain/%s: %w", d.Name, err)
	}
	if s := c.snapshot(); len(c.given) > 2*len(s.Gateways)+4096 {
		clear(c.given) // of Domains that are gone
	}
	c.given[d.Name] = k
	return k.cert, k.err
}

// file reads the certificate in the settings, again when it was replaced. One
// that cannot be read leaves the one before.
func (c *certificates) file() (*tls.Certificate, error) {
	if c.general != nil && c.now().Sub(c.looked) < lookEvery {
		return c.general, nil
	}
	c.looked = c.now()
	info, err := os.Stat(c.s.Certificate)
	if err == nil && c.general != nil && info.ModTime().Equal(c.changed) {
		return c.general, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.s.Certificate, c.s.Key)
	}
	if err != nil {
		if c.general != nil {
			return c.general, nil
		}
		return nil, fmt.Errorf("net.server.tls.certificate: %w", err)
	}
	c.general, c.changed = &pair, info.ModTime()
	return c.general, nil
}

// signItself makes a certificate for the names and addresses of this machine.
func signItself(name string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSigned),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	host, errHost := os.Hostname()
	if errHost == nil {
		t.DNSNames = append(t.DNSNames, host)
	}
	list, errAddrs := net.InterfaceAddrs()
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			t.IPAddresses = append(t.IPAddresses, n.IP)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, errors.Join(err, errHost, errAddrs)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
