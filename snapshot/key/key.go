// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package key holds the keyed hash under which API keys are kept and found.
package key

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

const (
	// Size is the length of a hash and of a secret in bytes.
	Size = sha256.Size
	// MinLength and MaxLength bound a key, as AWS has it.
	MinLength, MaxLength = 20, 128

	block    = sha256.BlockSize
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	length   = 40
)

// Sum is the hash of a key: HMAC-SHA-256.
type Sum [Size]byte

// Equal compares in constant time.
func (s Sum) Equal(o Sum) bool { return subtle.ConstantTimeCompare(s[:], o[:]) == 1 }

// String is hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// ParseSum reads what String wrote.
func ParseSum(text string) (s Sum, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != Size {
		return s, fmt.Errorf("the hash of a key is %d hexadecimal bytes", Size)
	}
	return Sum(b), nil
}

// Secret makes hashes. It keeps the two blocks that HMAC begins its hashes with.
// It prints as redacted.
type Secret struct{ inner, outer [block]byte }

// NewSecret makes a Secret of random bytes and returns it with its text.
func NewSecret() (*Secret, string, error) {
	var b [Size]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, "", fmt.Errorf("key: read random bytes: %w", err)
	}
	text := hex.EncodeToString(b[:])
	s, err := ParseSecret(text)
	return s, text, err
}

// ParseSecret reads a Secret from its text.
func ParseSecret(text string) (*Secret, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != Size {
		return nil, fmt.Errorf("the secret of keys is %d hexadecimal bytes", Size)
	}
	s := &Secret{}
	copy(s.inner[:], b)
	copy(s.outer[:], b)
	for i := range s.inner {
		s.inner[i] ^= 0x36
		s.outer[i] ^= 0x5c
	}
	return s, nil
}

// String shows nothing.
func (*Secret) String() string { return "[redacted]" }

// GoString is String.
func (s *Secret) GoString() string { return s.String() }

// Hash returns the HMAC-SHA-256 of a key; false for what is longer than any key
// is. It allocates nothing, which crypto/hmac cannot do without a pool.
func (s *Secret) Hash(value string) (Sum, bool) {
	if len(value) > MaxLength {
		return Sum{}, false
	}
	var b [block + MaxLength]byte
	copy(b[:], s.inner[:])
	n := copy(b[block:], value)
	in := sha256.Sum256(b[:block+n])
	copy(b[:], s.outer[:])
	copy(b[block:], in[:])
	return sha256.Sum256(b[:block+Size]), true
}

// New makes a key: 40 letters and digits, 238 random bits.
func New() (string, error) {
	out := make([]byte, 0, length)
	var b [2 * length]byte
	for len(out) < length {
		if _, err := rand.Read(b[:]); err != nil {
			return "", fmt.Errorf("key: read random bytes: %w", err)
		}
		for _, c := range b {
			// What would make some characters likelier is thrown away.
			if int(c) < 256-256%len(alphabet) && len(out) < length {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out), nil
}

// Check says what is wrong with a key that was made elsewhere.
func Check(value string) error {
	if len(value) < MinLength || len(value) > MaxLength {
		return fmt.Errorf("a key has %d to %d characters, not %d", MinLength, MaxLength, len(value))
	}
	for i := range len(value) {
		switch c := value[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		default:
			return fmt.Errorf("a key has letters and digits alone")
		}
	}
	return nil
}
