// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/model"
)

const (
	// ConditionCertificate tells whether the certificate of a Domain is valid at
	// this moment. The server adds it when conditions are read.
	ConditionCertificate = "CertificateValid"
	// ReasonExpires is the reason of advice that a given certificate ends soon.
	ReasonExpires = "CertificateExpires"
)

// certificates reads a bundle of PEM certificates. What stands between them is
// passed over, as OpenSSL writes it there, but another kind of block is not.
func certificates(bundle string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	rest := []byte(bundle)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("block %d is %s; remove it, only certificates belong here", len(out)+1, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d does not parse: %w; copy it again, whole", len(out)+1, err)
		}
		out = append(out, c)
	}
	// A block that is cut short is no block to the decoder.
	if n := strings.Count(bundle, "-----BEGIN "); n != len(out) {
		return nil, fmt.Errorf("%d of %d blocks are no whole PEM certificate; copy it again", n-len(out), n)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no PEM certificate in it; copy one, whole, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----")
	}
	return out, nil
}

// authorities reads a bundle of certificates that sign others.
func authorities(bundle string) (*x509.CertPool, error) {
	list, err := certificates(bundle)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for i, c := range list {
		switch {
		case !c.BasicConstraintsValid || !c.IsCA:
			return nil, fmt.Errorf("certificate %d (%s) is no authority's; give the certificates of those who sign", i+1, subject(c))
		case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
			return nil, fmt.Errorf("certificate %d (%s) may not sign certificates", i+1, subject(c))
		}
		pool.AddCert(c)
	}
	return pool, nil
}

func subject(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	return strings.Join(c.DNSNames, ", ")
}

// certificate holds a given certificate to what callers will hold it to, but
// for its time, which passes by itself.
func (k *check) certificate(d *model.Domain) {
	t := d.Spec.TLS
	if t == nil || t.Certificate == "" {
		return
	}
	const field = "spec.tls.certificate"
	c, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key.Reveal()))
	if err != nil {
		k.add(d, field, unusable(err, t.Key))
		return
	}
	chain, err := certificates(t.Certificate)
	if err != nil {
		k.add(d, field, err)
		return
	}
	name := strings.ToLower(d.Metadata.Name)
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		name = "any." + rest // a certificate for every name of one label more
	}
	if err := c.Leaf.VerifyHostname(name); err != nil {
		k.add(d, field, fmt.Errorf("callers will refuse it: %w", err))
	}
	k.add(d, field, checkChain(chain))
}

// unusable tells what to do about a certificate and a key that make no pair.
func unusable(err error, key model.Secret) error {
	switch {
	case strings.Contains(err.Error(), "does not match public key"):
		return errors.New("the key is not that of the first certificate; give the key with which that was requested, and begin the chain with the certificate for the Domain")
	case strings.Contains(key.Reveal(), "ENCRYPTED"):
		return errors.New("the key is encrypted and cannot be used; decrypt it: openssl pkey -in key.pem")
	}
	return fmt.Errorf("the certificate and key cannot be used: %w; copy both again, whole, from -----BEGIN to -----END", err)
}

// checkChain judges the order of a chain, and whether its first may serve.
func checkChain(chain []*x509.Certificate) error {
	leaf := chain[0]
	switch {
	case leaf.IsCA && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil:
		return fmt.Errorf("the certificate (%s) is signed by itself and marked as an authority's, which many callers take from no server; make it with -addext basicConstraints=CA:FALSE", subject(leaf))
	case leaf.IsCA:
		return fmt.Errorf("the first certificate (%s) is an authority's; begin with the one for the Domain", subject(leaf))
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.ContainsFunc(leaf.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny }) {
		return fmt.Errorf("the first certificate (%s) is not for servers; callers will refuse it", subject(leaf))
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return fmt.Errorf("certificate %d (%s) is not signed by the next (%s): %w; each is followed by the one that signed it", i+1, subject(c), subject(chain[i+1]), err)
		}
	}
	return nil
}

// bundles judges what a Domain names of authorities: those of its callers, and
// those that an ACME directory is verified with.
func (k *check) bundles(d *model.Domain) {
	if ca := d.Spec.ClientCA; ca != nil {
		_, err := k.c.pool(ca.Bundle)
		k.add(d, "spec.clientCA.bundle", err)
	}
	if t := d.Spec.TLS; t != nil && t.ACME != nil && t.ACME.Roots != "" {
		// A server's own certificate may stand here too, to be trusted alone.
		_, err := certificates(t.ACME.Roots)
		k.add(d, "spec.tls.acme.roots", err)
	}
}
