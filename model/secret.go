// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"crypto/subtle"
	"log/slog"
)

// redacted is what a Secret shows to anything that prints it.
const redacted = "[redacted]"

// Secret is text that no print, log or JSON encoding shows. Reveal is the one
// way to its content. An encoding meant for the store reveals it explicitly.
type Secret struct{ text string }

// NewSecret returns a Secret that holds text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the content.
func (s Secret) Reveal() string { return s.text }

// Redacted reports whether s holds what a Secret is printed as: it was read
// back from such a print.
func (s Secret) Redacted() bool { return s.text == redacted }

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.text), []byte(o.text)) == 1
}

// IsZero reports whether nothing is held.
func (s Secret) IsZero() bool { return s.text == "" }

// String hides the content.
func (s Secret) String() string { return redacted }

// GoString hides the content from %#v.
func (s Secret) GoString() string { return redacted }

// LogValue hides the content from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the content from every text and JSON encoding.
func (s Secret) MarshalText() ([]byte, error) {
	if s.text == "" {
		return nil, nil
	}
	return []byte(redacted), nil
}

// UnmarshalText takes the content.
func (s *Secret) UnmarshalText(b []byte) error {
	s.text = string(b)
	return nil
}
