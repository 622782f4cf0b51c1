// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSubjectOfTakesTheFirstCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "till", Organization: []string{"Shop"}}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no matter")}, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	if got, err := subjectOf(good); err != nil || got != "CN=till,O=Shop" {
		t.Errorf("%q, %v", got, err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "none.pem"):                                      "none.pem",
		write("key.pem", &pem.Block{Type: "PRIVATE KEY"}):                   "no certificate",
		write("bad.pem", &pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}): "does not parse",
	} {
		if _, err := subjectOf(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
