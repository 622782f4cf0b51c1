// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Signature is the private CA's, over whom a Document is for, its revision, its
// hash and the time of signing. It makes a copy that another holds as good as
// the original.
type Signature struct {
	Time  time.Time `json:"time"`
	Value []byte    `json:"value"` // ASN.1
}

// Sign returns d with a signature. sign is the private CA's, of a digest.
func Sign(d *Document, now time.Time, sign func(digest []byte) ([]byte, error)) (*Document, error) {
	at := now.UTC().Truncate(time.Second)
	digest := d.signed(at)
	value, err := sign(digest[:])
	if err != nil {
		return nil, fmt.Errorf("configuration: sign: %w", err)
	}
	out := *d
	out.Signature = &Signature{Time: at, Value: value}
	return &out, nil
}

// ErrSignature says that a Document was not signed by the authority that is
// trusted, or was changed since.
var ErrSignature = errors.New("configuration: the document is not signed by the management plane that is trusted")

// Verify checks that d was signed by the authority whose root certificate this
// is. It does not judge how old d is.
func (d *Document) Verify(root *x509.Certificate) error {
	key, ok := root.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("configuration: the root certificate %q has no ECDSA key", root.Subject.CommonName)
	}
	if d.Signature == nil {
		return ErrSignature
	}
	digest := d.signed(d.Signature.Time)
	if !ecdsa.VerifyASN1(key, digest[:], d.Signature.Value) {
		return ErrSignature
	}
	return nil
}

// signed is the digest that is signed. No certificate, which the same key
// signs, begins like this.
func (d *Document) signed(at time.Time) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "postern configuration signature 1\n%q\n%d\n%s\n%d\n", d.For, d.Revision, d.Hash(), at.Unix()))
}
