// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/manifest"
)

// issued is a certificate of a client in PEM, and the authority that issued it.
func issued(t *testing.T, name string) (leaf, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of " + name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	encode := func(c *x509.Certificate) string {
		der, err := x509.CreateCertificate(rand.Reader, c, root, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return encode(own), encode(root)
}

// TestShownCertificateIsVerified: required or not, a certificate that the
// Domain's authorities do not vouch for ends the handshake, as it does for real.
func TestShownCertificateIsVerified(t *testing.T) {
	good, authority := issued(t, "partner")
	bad, _ := issued(t, "stranger")
	for _, mode := range []string{"required", "optional"} {
		objects, err := manifest.Load(nil, "testdata/worlds/back.yaml")
		if err != nil {
			t.Fatal(err)
		}
		more, err := manifest.Decode("more.yaml", []byte(`
apiVersion: postern/v1
kind: Domain
metadata: {name: orders.example}
spec:
  type: regional
  mappings: [{path: "", api: shown, stage: dev}]
  clientCA: {mode: `+mode+`, bundle: `+strconv.Quote(authority)+`}
---
apiVersion: postern/v1
kind: API
metadata: {name: shown}
spec: {gateway: main, type: regional, openapi: "example:petstore"}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: shown.dev}
spec: {deployment: latest}
`))
		if err != nil {
			t.Fatal(err)
		}
		w, err := explain.Manifests(append(objects, more...), "", now)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct{ name, url, cert, code string }{
			{"good", "https://orders.example/pets", good, "backend/ok"},
			{"bad", "https://orders.example/pets", bad, "tls/client-cert"},
			{"bad, where none is asked for", "https://${API/shown.host}/dev/pets", bad, "backend/ok"},
			{"over", "https://orders.example/pets", good, "tls/client-cert"},
		} {
			w.Now = now
			if x.name == "over" {
				w.Now = now.Add(2 * time.Hour)
			}
			a := ask(t, w, answer.Question{From: "internet", URL: x.url, ClientCert: x.cert, ClientCertSubject: "CN=nobody", Insecure: true})
			if a.Code != x.code || a.Verdict == answer.Deny && a.Symptom.Kind != answer.TLS {
				t.Errorf("%s, %s: %s %s, %+v", mode, x.name, a.Verdict, a.Code, a.Symptom)
			}
			if x.name == "bad" && !strings.Contains(a.Hops[a.DecidedBy].Reason, "do not vouch for that of CN=stranger") {
				t.Errorf("%s: %s", mode, a.Hops[a.DecidedBy].Reason)
			}
			for _, s := range a.Assumptions {
				if strings.Contains(s, "vouch") {
					t.Errorf("%s, %s: it is assumed that %s", mode, x.name, s)
				}
			}
		}
	}
}

func TestQuestionWithoutAReadableCertificateIsNone(t *testing.T) {
	w := world(t, "../examples/private-api")
	for _, text := range []string{"CN=x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		_, err := explain.Explain(t.Context(), w, answer.Question{From: "internet", URL: "https://x/", ClientCert: text})
		if err == nil || !strings.Contains(err.Error(), "clientCert") || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
