// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSealedRecordsOpenOnlyInPlace(t *testing.T) {
	k, err := NewKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewKey(bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if k.ID() == other.ID() {
		t.Error("two keys have one id")
	}
	a := k.Seal([]byte("here"), []byte("text"))
	if plain, err := k.Open([]byte("here"), a); err != nil || string(plain) != "text" {
		t.Fatalf("Open = %q, %v", plain, err)
	}
	if bytes.Equal(a, k.Seal([]byte("here"), []byte("text"))) {
		t.Error("the same text was sealed twice to the same bytes")
	}
	altered := bytes.Clone(a)
	altered[len(altered)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another place": func() ([]byte, error) { return k.Open([]byte("there"), a) },
		"another key":   func() ([]byte, error) { return other.Open([]byte("here"), a) },
		"altered":       func() ([]byte, error) { return k.Open([]byte("here"), altered) },
		"cut":           func() ([]byte, error) { return k.Open([]byte("here"), a[:5]) },
		"empty":         func() ([]byte, error) { return k.Open([]byte("here"), nil) },
	} {
		if plain, err := open(); err == nil {
			t.Errorf("%s: opened to %q", name, plain)
		}
	}
}

func TestTheKeyFileIsCreatedOnceAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	again, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != k.ID() {
		t.Error("the second call has another key")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(left) != 1 {
		t.Errorf("files left: %q, %v", left, err)
	}
}

func TestKeyFilesOthersMayUseAreRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666} {
		path := filepath.Join(t.TempDir(), "key")
		text := strings.Repeat("ab", 32) + "\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: error %v", mode, err)
		}
	}
}

func TestBadKeyFilesAreRefusedWithoutQuotingThem(t *testing.T) {
	for _, text := range []string{"", "topsecret", strings.Repeat("ab", 31), strings.Repeat("ab", 33), strings.Repeat("zz", 32), strings.Repeat("ab", 5000)} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrCreateKey(path)
		if err == nil {
			t.Errorf("%.20q was taken for a key", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the file: %v", err)
		}
		after, err := os.ReadFile(path)
		if err != nil || string(after) != text {
			t.Error("the file was changed")
		}
	}
}

func TestTheKeyNeverShows(t *testing.T) {
	secret := bytes.Repeat([]byte{0xc7}, 32)
	k, err := NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	text := fmt.Sprintf("%v %+v %#v %s %q %x", k, k, k, k, k, k.String()) + log.String()
	for _, shown := range []string{hex.EncodeToString(secret), "199 199", "0xc7, 0xc7", string(secret[:4])} {
		if strings.Contains(text, shown) {
			t.Errorf("the key shows in %s", text)
		}
	}
}
