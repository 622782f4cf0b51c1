// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The form of a file, version 1, integers big endian:
//
//	8   magic
//	2   version
//	8   id of the key
//	12  nonce
//	8   length of what follows, without the checksum
//	n   AES-256-GCM of the document, the bytes before it authenticated too
//	32  SHA-256 of everything before it
//
// The checksum tells a file that was cut short or decayed from one that was
// tampered with, or sealed with another key of the same id.
const (
	magic     = "POSTERNB"
	version   = 1
	idSize    = 8
	nonceSize = 12
	headSize  = len(magic) + 2 + idSize + nonceSize + 8
	keySize   = 32
)

// What is wrong with a file.
var (
	ErrForeign  = errors.New("the file is no backup of a configuration")
	ErrVersion  = errors.New("the file was written by a newer version")
	ErrKey      = errors.New("the file was sealed with another key; put back the key that it was sealed with (config.backup.key), or remove the file")
	ErrCut      = errors.New("the file is cut short or has more than it should")
	ErrChecksum = errors.New("the file is damaged: its checksum differs")
	ErrTampered = errors.New("the file was changed by somebody who has not the key")
	// ErrKeyGone says that there is a backup, but not the key beside it.
	ErrKeyGone = errors.New("the key that sealed it is not there; put it back, name it with config.backup.key, or remove " + newest + "* to begin anew")
)

// key seals and opens. It prints as its id.
type key struct {
	aead cipher.AEAD
	id   [idSize]byte
}

// String is the id; the key is nowhere to be seen.
func (k *key) String() string { return hex.EncodeToString(k.id[:]) }

func newKey(secret []byte) (*key, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("backup: key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("backup: key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("postern backup key id\x00"), secret...))
	return &key{aead: aead, id: [idSize]byte(sum[:])}, nil
}

// seal makes a file of a document.
func (k *key) seal(plain []byte) ([]byte, error) {
	out := make([]byte, 0, headSize+len(plain)+k.aead.Overhead()+sha256.Size)
	out = append(out, magic...)
	out = binary.BigEndian.AppendUint16(out, version)
	out = append(out, k.id[:]...)
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	out = append(out, nonce...)
	out = binary.BigEndian.AppendUint64(out, uint64(len(plain)+k.aead.Overhead()))
	out = k.aead.Seal(out, nonce, plain, out[:headSize])
	sum := sha256.Sum256(out)
	return append(out, sum[:]...), nil
}

// open reads a file.
func (k *key) open(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte(magic)) {
		if bytes.HasPrefix([]byte(magic), data) {
			return nil, ErrCut
		}
		return nil, ErrForeign
	}
	if len(data) < headSize+sha256.Size {
		return nil, ErrCut
	}
	head := data[len(magic):headSize]
	if v := binary.BigEndian.Uint16(head); v > version {
		return nil, ErrVersion
	}
	length := binary.BigEndian.Uint64(head[len(head)-8:])
	if length != uint64(len(data)-headSize-sha256.Size) {
		return nil, ErrCut
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, ErrChecksum
	}
	if !bytes.Equal(head[2:2+idSize], k.id[:]) {
		return nil, ErrKey
	}
	nonce := head[2+idSize : 2+idSize+nonceSize]
	plain, err := k.aead.Open(nil, nonce, body[headSize:], body[:headSize])
	if err != nil {
		return nil, ErrTampered
	}
	return plain, nil
}

// loadKey reads a key: 32 bytes in base64 or hexadecimal.
func loadKey(path string) (*key, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; config.backup.key names a file with 32 random bytes in base64", err)
	}
	text := strings.TrimSpace(string(data))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString} {
		if secret, err := decode(text); err == nil && len(secret) == keySize {
			return newKey(secret)
		}
	}
	return nil, fmt.Errorf("backup: %s does not hold 32 bytes in base64 or hexadecimal; make them with: head -c 32 /dev/urandom | base64", path)
}

// loadOrMakeKey makes a key where there is none, nor a backup that one has sealed.
// Of several processes that do so at once one wins, and all take its key.
func loadOrMakeKey(path string) (*key, error) {
	k, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if sealed, err := sealedAt(filepath.Dir(path)); err != nil {
		return nil, err
	} else if sealed != "" {
		// Another process may have made a key, and saved, since it was looked for.
		if k, err := loadKey(path); !errors.Is(err, fs.ErrNotExist) {
			return k, err
		}
		return nil, fmt.Errorf("backup: there is %s, but no %s: %w", sealed, path, ErrKeyGone)
	}
	secret := make([]byte, keySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("backup: key: read random bytes: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), keyFile+".*"+underway) // mode 0600
	if err != nil {
		return nil, fmt.Errorf("backup: key: %w", err)
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(secret) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		// A link does not replace what is there, and what it makes is whole.
		if err = os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
			err = exclusive(path, secret)
		} else {
			err = nil
		}
	}
	if err = errors.Join(err, discard(f.Name())); err != nil {
		return nil, fmt.Errorf("backup: key: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("backup: key: %w", err)
	}
	return loadKey(path)
}

// sealedAt is a backup in a folder, empty if there is none.
func sealedAt(dir string) (string, error) {
	for _, name := range []string{newest, previous} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("backup: %w", err)
		}
	}
	return "", nil
}

// exclusive writes a key where a file system has no links.
func exclusive(path string, secret []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(secret) + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}
