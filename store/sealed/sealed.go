// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sealed encrypts what a store writes, with a key that is kept outside
// the store.
package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

const keySize = 32

// Key seals with AES-256-GCM and a random nonce for each record. Its bytes
// never show in text or logs.
type Key struct {
	id   string
	aead cipher.AEAD
}

// NewKey returns the key with the given 32 secret bytes.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != keySize {
		return nil, fmt.Errorf("sealed: a key has %d bytes, not %d", keySize, len(secret))
	}
	// Two independent derivations: what identifies the key in the store says
	// nothing about what encrypts.
	id, err := hkdf.Key(sha256.New, secret, nil, "postern store key id v1", 8)
	if err != nil {
		return nil, fmt.Errorf("sealed: derive key id: %w", err)
	}
	enc, err := hkdf.Key(sha256.New, secret, nil, "postern store encryption v1", keySize)
	if err != nil {
		return nil, fmt.Errorf("sealed: derive encryption key: %w", err)
	}
	block, err := aes.NewCipher(enc)
	if err != nil {
		return nil, fmt.Errorf("sealed: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealed: %w", err)
	}
	return &Key{id: "aes-256-gcm:" + hex.EncodeToString(id), aead: aead}, nil
}

// ID names the algorithm and the key without revealing the key.
func (k *Key) ID() string { return k.id }

// Seal encrypts plain, bound to context: only Open with the same context
// returns it.
func (k *Key) Seal(context, plain []byte) []byte {
	return k.aead.Seal(nil, nil, plain, context)
}

// Open decrypts what Seal returned.
func (k *Key) Open(context, sealed []byte) ([]byte, error) {
	plain, err := k.aead.Open(nil, nil, sealed, context)
	if err != nil {
		return nil, errors.New("sealed: a record does not open: wrong key, moved or altered")
	}
	return plain, nil
}

// String hides the key.
func (k *Key) String() string { return "[key " + k.id + "]" }

// GoString hides the key.
func (k *Key) GoString() string { return k.String() }

// LogValue hides the key.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// LoadOrCreateKey reads the key file, or creates it with a new random key and
// mode 0600 when it does not exist. A file that others may read or write is
// refused.
func LoadOrCreateKey(path string) (*Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	secret := make([]byte, keySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("sealed: make a key: %w", err)
	}
	if err := writeNew(path, []byte(hex.EncodeToString(secret)+"\n")); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("sealed: create key file: %w", err)
	}
	// Read it back: another process may have been first, and a key that cannot
	// be read again must not seal anything.
	return LoadKey(path)
}

// LoadKey reads an existing key file: 64 hexadecimal digits and a line end.
func LoadKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("sealed: open key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("sealed: stat key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("sealed: key file %s is not a regular file", path)
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("sealed: key file %s has mode %04o, others may use it; run chmod 600 on it", path, m)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, fmt.Errorf("sealed: read key file: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != keySize {
		// The text of err would quote the file's content.
		return nil, fmt.Errorf("sealed: key file %s must hold %d hexadecimal digits", path, 2*keySize)
	}
	return NewKey(secret)
}

// writeNew makes the file appear whole or not at all, and never over another.
func writeNew(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
