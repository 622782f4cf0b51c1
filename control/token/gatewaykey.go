// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/model"
)

// Scheme begins what a self-hosted gateway shows:
// GatewayKey NAME&yyyyMMddHHmm&SIGNATURE.
const Scheme = "GatewayKey"

// The two keys of a SelfHostedGateway. One stays good while the other is made
// anew.
const (
	Primary   = "primary"
	Secondary = "secondary"
)

// KeyNames lists them.
var KeyNames = []string{Primary, Secondary}

const (
	// MaxLifetime is the longest that a gateway's token is good, and how long it
	// is unless it is said otherwise.
	MaxLifetime = 30 * 24 * time.Hour
	minLifetime = time.Minute
	expiryForm  = "200601021504"
	keyBytes    = 64
	saltBytes   = 16
)

// Keys are the two keys of a SelfHostedGateway, in the form in which they are
// stored, for a store that encrypts.
type Keys struct {
	Primary   []byte `json:"primary"`
	Secondary []byte `json:"secondary"`
}

// String shows nothing of the keys.
func (Keys) String() string { return "[redacted]" }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// Whole reports whether both keys are there, as they were made.
func (k Keys) Whole() bool { return len(k.Primary) == keyBytes && len(k.Secondary) == keyBytes }

// NewKeys makes two keys.
func NewKeys() (Keys, error) {
	var k Keys
	for _, name := range KeyNames {
		var err error
		if k, err = k.Rotate(name); err != nil {
			return Keys{}, err
		}
	}
	return k, nil
}

// Rotate returns k with one key made anew: what was signed with it is no longer
// good.
func (k Keys) Rotate(name string) (Keys, error) {
	made := make([]byte, keyBytes)
	if _, err := rand.Read(made); err != nil {
		return Keys{}, fmt.Errorf("token: read random bytes: %w", err)
	}
	switch name {
	case Primary:
		k.Primary = made
	case Secondary:
		k.Secondary = made
	default:
		return Keys{}, &model.Error{Kind: model.Invalid, Field: "key", Msg: fmt.Sprintf("%q is no key; use primary or secondary", name)}
	}
	return k, nil
}

func (k Keys) get(name string) []byte {
	if name == Primary {
		return k.Primary
	}
	return k.Secondary
}

// Sum tells two keys apart without showing them.
func (k Keys) Sum(name string) [sha256.Size]byte {
	return sha256.Sum256(append([]byte("postern gateway key\n"), k.get(name)...))
}

// sign makes the signature of a token, as long as that of the original: salt, and
// as much of the HMAC as there is room for. Without the salt two tokens of one
// minute would be one, and a token made anew would bring back the one revoked.
func sign(key []byte, gateway, expiry string, salt []byte) string {
	h := hmac.New(sha512.New, key)
	h.Write([]byte(gateway + "\n" + expiry + "\n"))
	h.Write(salt)
	return base64.StdEncoding.EncodeToString(h.Sum(slices.Clone(salt))[:sha512.Size])
}

// NewGateway makes a token for a self-hosted gateway, signed with one of its
// keys. Its time ends with a minute.
func NewGateway(r Request, keys Keys, key string, now time.Time) (Token, model.Secret, error) {
	if err := r.validate(); err != nil {
		return Token{}, model.Secret{}, err
	}
	fail := func(field, msg string) (Token, model.Secret, error) {
		return Token{}, model.Secret{}, &model.Error{Kind: model.Invalid, Op: "create token", Field: field, Msg: msg}
	}
	if !slices.Contains(KeyNames, key) {
		return fail("key", fmt.Sprintf("%q is no key; use primary or secondary", key))
	}
	lifetime := r.Lifetime
	if lifetime == 0 {
		lifetime = MaxLifetime
	}
	if lifetime > MaxLifetime || lifetime < minLifetime {
		return fail("lifetime", "a gateway's token is good for 1m to 720h")
	}
	_, name, _ := strings.Cut(r.Subject, "/")
	expires := now.UTC().Add(lifetime).Truncate(time.Minute)
	if !expires.After(now) {
		expires = expires.Add(time.Minute)
	}
	expiry := expires.Format(expiryForm)
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return Token{}, model.Secret{}, fmt.Errorf("token: read random bytes: %w", err)
	}
	value := name + "&" + expiry + "&" + sign(keys.get(key), name, expiry, salt)
	t := Token{
		ID: idOf(value), Role: r.Role, Subject: r.Subject, Comment: r.Comment, Key: key,
		Created: now.UTC().Truncate(time.Second), Expires: expires, Hash: hash(value),
	}
	return t, model.NewSecret(Scheme + " " + value), nil
}

// Certificate is the Key of a record of a client certificate.
const Certificate = "certificate"

const enrolLifetime = 24 * time.Hour

// NewEnrolment makes a token that lets a gateway with an id get its first
// certificate, once.
func NewEnrolment(r Request, id string, now time.Time) (Token, model.Secret, error) {
	if r.Lifetime == 0 {
		r.Lifetime = enrolLifetime
	}
	if r.Lifetime > MaxLifetime {
		return Token{}, model.Secret{}, &model.Error{Kind: model.Invalid, Op: "create token", Field: "lifetime", Msg: "an enrolment is good for 720h at most"}
	}
	t, value, err := New(r, now)
	t.Of, t.Once = id, true
	return t, value, err
}

// NewCertificate makes the record of a client certificate, by which it is found
// and revoked.
func NewCertificate(subject, id string, der []byte, now, expires time.Time) Token {
	sum := hash(string(der))
	return Token{
		ID: sum[:2*idBytes], Role: SelfHosted, Subject: subject, Key: Certificate, Of: id,
		Created: now.UTC().Truncate(time.Second), Expires: expires.UTC(), Hash: sum,
	}
}

// CertificateID is the id of a certificate's record.
func CertificateID(der []byte) string { return hash(string(der))[:2*idBytes] }

// RecordsCertificate reports whether t is the record of a certificate.
func (t Token) RecordsCertificate(der []byte) bool {
	return t.Role == SelfHosted && t.Key == Certificate && hmac.Equal([]byte(hash(string(der))), []byte(t.Hash))
}

// idOf is the id of a gateway's token.
func idOf(value string) string { return hash(value)[:2*idBytes] }

// Shown is what a gateway has shown, taken apart. Nothing of it is proven.
type Shown struct {
	// ID is that of the token's record.
	ID      string
	Gateway string
	Expires time.Time
	value   string
	expiry  string
	proof   string
}

var errForm = errors.New("the token is not of the form GatewayKey NAME&yyyyMMddHHmm&SIGNATURE; take it as postern token create printed it")

// ParseGateway takes a value of the header Authorization apart.
func ParseGateway(header string) (Shown, error) {
	scheme, value, _ := strings.Cut(strings.TrimSpace(header), " ")
	value = strings.TrimSpace(value)
	name, rest, ok1 := strings.Cut(value, "&")
	expiry, proof, ok2 := strings.Cut(rest, "&")
	at, err := time.Parse(expiryForm, expiry)
	if !strings.EqualFold(scheme, Scheme) || !ok1 || !ok2 || name == "" || err != nil {
		return Shown{}, errForm
	}
	return Shown{ID: idOf(value), Gateway: name, Expires: at, value: value, expiry: expiry, proof: proof}, nil
}

// SignedWith returns the name of the key that s was signed with; empty if it
// was neither.
func (k Keys) SignedWith(s Shown) string {
	// What is no base64 is not of the length, or unlike what is signed.
	salt, _ := base64.StdEncoding.DecodeString(s.proof)
	if len(salt) != sha512.Size {
		return ""
	}
	salt = salt[:saltBytes]
	for _, name := range KeyNames {
		if key := k.get(name); len(key) == keyBytes && hmac.Equal([]byte(sign(key, s.Gateway, s.expiry, salt)), []byte(s.proof)) {
			return name
		}
	}
	return ""
}

// Records reports whether t is the record of s.
func (t Token) Records(s Shown) bool {
	return t.Role == SelfHosted && t.Subject == "selfhosted/"+s.Gateway && hmac.Equal([]byte(hash(s.value)), []byte(t.Hash))
}
