// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wgkey holds Curve25519 keys in the form that WireGuard uses. A secret
// key never prints itself.
package wgkey

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Size is the length of every key in bytes.
const Size = 32

// redacted stands for a secret wherever one would be printed.
const redacted = "[redacted]"

// errFormat deliberately does not quote the input, which may be most of a secret.
var errFormat = errors.New("wgkey: not a key: want 32 bytes in base64, such as `wg genkey` prints")

// Public is a public key. It is comparable.
type Public [Size]byte

// ParsePublic reads a public key in base64.
func ParsePublic(s string) (Public, error) {
	b, err := parse(s)
	return Public(b), err
}

// ParsePublicHex reads a public key in the form of WireGuard's configuration
// protocol.
func ParsePublicHex(s string) (Public, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != Size {
		return Public{}, errors.New("wgkey: not a key: want 32 bytes in hexadecimal")
	}
	return Public(b), nil
}

// IsZero reports whether no key is set.
func (k Public) IsZero() bool { return k == Public{} }

// String returns the key in base64.
func (k Public) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex returns the key in the form of WireGuard's configuration protocol.
func (k Public) Hex() string { return hex.EncodeToString(k[:]) }

// MarshalText returns the key in base64.
func (k Public) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a key in base64.
func (k *Public) UnmarshalText(b []byte) error {
	v, err := ParsePublic(string(b))
	if err != nil {
		return err
	}
	*k = v
	return nil
}

// secret holds secret bytes behind every way to print a value. They sit in a
// closure because fmt, which calls no method on an unexported field, prints arrays
// and follows pointers. It also forbids a comparison by ==.
type secret struct{ get func() *[Size]byte }

func keep(b [Size]byte) secret { return secret{func() *[Size]byte { return &b }} }

// IsZero reports whether no key is set.
func (s secret) IsZero() bool { return s.get == nil }

func (s secret) bytes() []byte {
	if s.get == nil {
		return make([]byte, Size)
	}
	return s.get()[:]
}

// Reveal returns the secret in base64. It is the only way to print it.
func (s secret) Reveal() string { return base64.StdEncoding.EncodeToString(s.bytes()) }

// RevealHex returns the secret in the form of WireGuard's configuration protocol.
func (s secret) RevealHex() string { return hex.EncodeToString(s.bytes()) }

// String returns a placeholder.
func (s secret) String() string { return redacted }

// GoString returns a placeholder.
func (s secret) GoString() string { return redacted }

// Format prints a placeholder for every verb.
func (s secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns a placeholder.
func (s secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder.
func (s secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns a placeholder.
func (s secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Private is a private key. Every printer shows a placeholder; Reveal is explicit.
type Private struct{ secret }

// Shared is a pre-shared key. It redacts itself as Private does.
type Shared struct{ secret }

// Generate makes a private key.
func Generate() (Private, error) {
	var b [Size]byte
	if _, err := rand.Read(b[:]); err != nil {
		return Private{}, fmt.Errorf("wgkey: read random bytes: %w", err)
	}
	// Clamp as `wg genkey` does, so that both tools show the same key.
	b[0] &= 248
	b[31] = b[31]&127 | 64
	return Private{keep(b)}, nil
}

// GenerateShared makes a pre-shared key.
func GenerateShared() (Shared, error) {
	var b [Size]byte
	if _, err := rand.Read(b[:]); err != nil {
		return Shared{}, fmt.Errorf("wgkey: read random bytes: %w", err)
	}
	return Shared{keep(b)}, nil
}

// ParsePrivate reads a private key in base64.
func ParsePrivate(s string) (Private, error) {
	b, err := parse(s)
	if err != nil {
		return Private{}, err
	}
	return Private{keep(b)}, nil
}

// ParseShared reads a pre-shared key in base64.
func ParseShared(s string) (Shared, error) {
	b, err := parse(s)
	if err != nil {
		return Shared{}, err
	}
	return Shared{keep(b)}, nil
}

// Public returns the public key that belongs to k.
func (k Private) Public() (Public, error) {
	p, err := ecdh.X25519().NewPrivateKey(k.bytes())
	if err != nil {
		return Public{}, fmt.Errorf("wgkey: %w", err)
	}
	return Public(p.PublicKey().Bytes()), nil
}

// Equal compares two private keys in constant time.
func (k Private) Equal(o Private) bool { return subtle.ConstantTimeCompare(k.bytes(), o.bytes()) == 1 }

// Equal compares two pre-shared keys in constant time.
func (k Shared) Equal(o Shared) bool { return subtle.ConstantTimeCompare(k.bytes(), o.bytes()) == 1 }

func parse(s string) ([Size]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != Size {
		return [Size]byte{}, errFormat
	}
	return [Size]byte(b), nil
}
