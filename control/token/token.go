// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package token makes and checks the bearer tokens of the management API. What
// is kept of a token is its SHA-256 hash: 256 random bits need no slow hash.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/model"
)

// Prefix begins every token, so that scanners of secrets find one that leaked.
const Prefix = "postern_"

const (
	idBytes     = 8
	secretBytes = 32
)

// Token is what is kept of a token; it is not secret.
type Token struct {
	ID      string    `json:"id"`
	Role    Role      `json:"role"`
	Subject string    `json:"subject,omitempty"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	// Key names the key that a selfhosted token is signed with.
	Key string `json:"key,omitempty"`
	// Of is the id of what a selfhosted token is for: another that gets its name
	// later is not meant. Once tells that the token enrols it, and ends with that.
	Of   string `json:"of,omitempty"`
	Once bool   `json:"once,omitempty"`
	// Replaced is until when a certificate that was renewed can be renewed again.
	Replaced time.Time `json:"replaced,omitzero"`
	// Hash is the SHA-256 of the whole token, hexadecimal.
	Hash string `json:"hash"`
}

// Request says what token to make.
type Request struct {
	Role     Role
	Subject  string
	Comment  string
	Lifetime time.Duration // 0: until revoked
}

// New makes a token that is valid from now and returns what to keep and what
// to hand out.
func New(r Request, now time.Time) (Token, model.Secret, error) {
	if err := r.validate(); err != nil {
		return Token{}, model.Secret{}, err
	}
	random := make([]byte, idBytes+secretBytes)
	if _, err := rand.Read(random); err != nil {
		return Token{}, model.Secret{}, fmt.Errorf("token: read random bytes: %w", err)
	}
	id := hex.EncodeToString(random[:idBytes])
	value := Prefix + id + "_" + base64.RawURLEncoding.EncodeToString(random[idBytes:])
	t := Token{
		ID: id, Role: r.Role, Subject: r.Subject, Comment: r.Comment,
		Created: now.UTC().Truncate(time.Second), Hash: hash(value),
	}
	if r.Lifetime > 0 {
		t.Expires = t.Created.Add(r.Lifetime)
	}
	return t, model.NewSecret(value), nil
}

func (r Request) validate() error {
	fail := func(field, msg string) error {
		return &model.Error{Kind: model.Invalid, Op: "create token", Field: field, Msg: msg}
	}
	if !slices.Contains(Roles, r.Role) {
		return fail("role", fmt.Sprintf("%q is no role; use one of %v", r.Role, Roles))
	}
	if r.Lifetime < 0 {
		return fail("lifetime", "it is negative; leave it out for a token that stays valid")
	}
	if len(r.Comment) > 256 {
		return fail("comment", "it has more than 256 bytes")
	}
	kind, name, _ := strings.Cut(r.Subject, "/")
	switch {
	case !r.Role.bound():
		if r.Subject != "" {
			return fail("subject", fmt.Sprintf("a %s token has none", r.Role))
		}
	case r.Role == Host && (kind != "host" && kind != "link" || name == ""):
		return fail("subject", "a host token is for host/NAME or link/NAME")
	case r.Role == SelfHosted && (kind != "selfhosted" || name == ""):
		return fail("subject", "a selfhosted token is for selfhosted/NAME")
	}
	return nil
}

// IDOf returns the part of a token that names it; ok is false if value has not
// the form of a token.
func IDOf(value string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(value, Prefix)
	if !ok {
		return "", false
	}
	id, secret, ok := strings.Cut(rest, "_")
	if !ok || len(id) != 2*idBytes || len(secret) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return "", false
	}
	return id, true
}

// Matches reports whether value is the token and is valid at now. It takes the
// same time wherever value differs.
func (t Token) Matches(value string, now time.Time) bool {
	same := subtle.ConstantTimeCompare([]byte(hash(value)), []byte(t.Hash)) == 1
	return same && t.Valid(now)
}

// Valid reports whether the token has not expired.
func (t Token) Valid(now time.Time) bool { return t.Expires.IsZero() || now.Before(t.Expires) }

// Allows reports whether the token allows the operation on the subject, such as
// host/NAME; most operations have none.
func (t Token) Allows(o Operation, subject string) bool {
	if !t.Role.Allows(o) {
		return false
	}
	return !t.Role.bound() || subject != "" && t.Subject == subject
}

func hash(value string) string {
	h := sha256.Sum256([]byte(value))
	return hex.EncodeToString(h[:])
}
