// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sibling lets an instance of a self-hosted gateway start from the
// configuration of another instance while the management plane is away, and all
// count together what is limited. They know each other by the token that all
// instances have; it is a key and is not sent. What is answered is sealed for the
// one who asked.
package sibling

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"postern.dev/postern/model"
)

// Path is where an instance is asked, on the port that has the status paths.
const Path = "/internal-configuration-0123456789abcdef"

// Header carries a question: VERSION NONCE MAC, the two in base64.
const Header = "X-Postern-Sibling"

const (
	version   = "1"
	nonceSize = 32
	// ContentType is that of a sealed answer.
	ContentType = "application/vnd.postern.sealed-configuration"
)

// Key is what the instances of one gateway share.
type Key struct{ secret []byte }

// NewKey makes the key of a token.
func NewKey(token model.Secret) (*Key, error) {
	if token.IsZero() {
		return nil, errors.New("sibling: without a token there is nothing that instances know each other by")
	}
	b, err := hkdf.Key(sha256.New, []byte(token.Reveal()), nil, "postern sibling 1", 32)
	if err != nil {
		return nil, fmt.Errorf("sibling: %w", err)
	}
	return &Key{b}, nil
}

// Question is one asking; its answer opens with it alone.
type Question struct {
	k     *Key
	about purpose
	nonce []byte
	more  []byte
}

// purpose is what is asked for: an answer to one is none to another.
type purpose string

const (
	document purpose = "ask\x00"
	limits   purpose = "limits\x00"
)

// info tells the keys of answers apart.
func (p purpose) info() string {
	if p == limits {
		return "postern sibling limits 1"
	}
	return "postern sibling answer 1"
}

// Ask makes a question for the configuration.
func (k *Key) Ask() (*Question, error) { return k.ask(document, nil) }

// ask makes a question. Its MAC covers more, which goes beside it.
func (k *Key) ask(p purpose, more []byte) (*Question, error) {
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("sibling: read random bytes: %w", err)
	}
	return &Question{k, p, nonce, more}, nil
}

// Header is the value of the header that asks.
func (q *Question) Header() string {
	e := base64.StdEncoding
	return version + " " + e.EncodeToString(q.nonce) + " " + e.EncodeToString(q.k.mac(q.about, q.nonce, q.more))
}

func (k *Key) mac(p purpose, nonce, more []byte) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(p))
	h.Write(nonce) // of one length
	h.Write(more)
	return h.Sum(nil)
}

// ErrStranger says that one side does not have the other's token.
var ErrStranger = errors.New("sibling: the other instance has another token")

// Asked is a question of another instance.
type Asked struct {
	k     *Key
	about purpose
	nonce []byte
}

// Read reads the header of a question, and fails unless who asks has the key.
func (k *Key) Read(header string) (*Asked, error) { return k.read(document, header, nil) }

func (k *Key) read(p purpose, header string, more []byte) (*Asked, error) {
	v, rest, _ := strings.Cut(header, " ")
	n, m, _ := strings.Cut(rest, " ")
	nonce, errN := base64.StdEncoding.DecodeString(n)
	mac, errM := base64.StdEncoding.DecodeString(m)
	if v != version || errN != nil || errM != nil || len(nonce) != nonceSize {
		return nil, errors.New("sibling: the question is not of a form that this version knows")
	}
	if !hmac.Equal(mac, k.mac(p, nonce, more)) {
		return nil, ErrStranger
	}
	return &Asked{k, p, nonce}, nil
}

// Answer seals an answer for who asked. A question that is repeated by somebody
// who listened opens nothing for them.
func (q *Asked) Answer(plain []byte) ([]byte, error) {
	own := make([]byte, nonceSize)
	if _, err := rand.Read(own); err != nil {
		return nil, fmt.Errorf("sibling: read random bytes: %w", err)
	}
	aead, err := q.k.aead(q.about, q.nonce, own)
	if err != nil {
		return nil, err
	}
	// The key is used this once, so that the nonce need not differ.
	return aead.Seal(own, make([]byte, aead.NonceSize()), plain, nil), nil
}

// Open reads an answer.
func (q *Question) Open(answer []byte) ([]byte, error) {
	if len(answer) < nonceSize {
		return nil, errors.New("sibling: the answer is cut short")
	}
	aead, err := q.k.aead(q.about, q.nonce, answer[:nonceSize])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), answer[nonceSize:], nil)
	if err != nil {
		return nil, ErrStranger
	}
	return plain, nil
}

// aead seals one answer.
func (k *Key) aead(p purpose, asked, answered []byte) (cipher.AEAD, error) {
	b, err := hkdf.Key(sha256.New, k.secret, append(append([]byte(nil), asked...), answered...), p.info(), 32)
	if err != nil {
		return nil, fmt.Errorf("sibling: %w", err)
	}
	block, err := aes.NewCipher(b)
	if err != nil {
		return nil, fmt.Errorf("sibling: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("sibling: %w", err)
	}
	return aead, nil
}
