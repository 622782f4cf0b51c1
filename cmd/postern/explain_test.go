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

func TestCertificatesOfTakesEveryCertificateAndNoKey(t *testing.T) {
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
	shown := &pem.Block{Type: "CERTIFICATE", Bytes: der}
	good := write("good.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no matter")}, shown, shown)
	want := strings.Repeat(string(pem.EncodeToMemory(shown)), 2)
	if got, err := certificatesOf(good); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "none.pem"):                                      "none.pem",
		write("key.pem", &pem.Block{Type: "PRIVATE KEY"}):                   "no certificate",
		write("bad.pem", &pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}): "does not parse",
	} {
		if _, err := certificatesOf(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
