// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package key_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"postern.dev/postern/snapshot/key"
)

func secret(t testing.TB) (*key.Secret, []byte) {
	t.Helper()
	s, text, err := key.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return s, raw
}

func TestAHashIsHMAC(t *testing.T) {
	s, raw := secret(t)
	for n := range key.MaxLength + 1 {
		value := strings.Repeat("k", n)
		h := hmac.New(sha256.New, raw)
		h.Write([]byte(value))
		got, ok := s.Hash(value)
		if !ok || hex.EncodeToString(h.Sum(nil)) != got.String() {
			t.Fatalf("%d bytes: %s, %v", n, got, ok)
		}
		back, err := key.ParseSum(got.String())
		if err != nil || !back.Equal(got) {
			t.Fatalf("%v, %v", back, err)
		}
	}
	if _, ok := s.Hash(strings.Repeat("k", key.MaxLength+1)); ok {
		t.Error("what is longer than a key was hashed")
	}
}

func TestAHashCostsNoAllocation(t *testing.T) {
	s, _ := secret(t)
	value := strings.Repeat("k", 40)
	if n := testing.AllocsPerRun(100, func() { s.Hash(value) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeysDifferAndAreKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		k, err := key.New()
		if err != nil || key.Check(k) != nil || len(k) != 40 || seen[k] {
			t.Fatalf("%q: %v, %v", k, err, key.Check(k))
		}
		seen[k] = true
	}
}

func TestWhatIsNoKeyIsTold(t *testing.T) {
	for value, want := range map[string]string{
		strings.Repeat("a", 19):       "20 to 128",
		strings.Repeat("a", 129):      "20 to 128",
		strings.Repeat("a", 20) + "-": "letters and digits",
		strings.Repeat("ä", 12):       "letters and digits",
	} {
		if err := key.Check(value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", value, err)
		}
	}
	for _, text := range []string{"", "zz", strings.Repeat("0", 62), strings.Repeat("0", 66)} {
		if _, err := key.ParseSecret(text); err == nil {
			t.Errorf("%q is a secret", text)
		}
		if _, err := key.ParseSum(text); err == nil {
			t.Errorf("%q is a hash", text)
		}
	}
}

func TestASecretIsNotPrinted(t *testing.T) {
	s, raw := secret(t)
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(f, s)
		if strings.Contains(text, hex.EncodeToString(raw[:4])) {
			t.Errorf("%s shows %s", f, text)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	s, _ := secret(b)
	value := strings.Repeat("k", 40)
	b.ReportAllocs()
	for b.Loop() {
		s.Hash(value)
	}
}
