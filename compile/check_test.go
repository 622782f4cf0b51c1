// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// pair makes a certificate for names and its key.
func pair(t *testing.T, names ...string) (cert string, key model.Secret) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	in := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return in("CERTIFICATE", der), model.NewSecret(in("PRIVATE KEY", b))
}

func TestAGivenCertificateHasToBeOneThatCallersTake(t *testing.T) {
	own, key := pair(t, "shop.example")
	wild, wildKey := pair(t, "*.shop.example")
	_, otherKey := pair(t, "shop.example")
	for _, x := range []struct {
		name, domain, cert string
		key                model.Secret
		want               string
	}{
		{"its own", "shop.example", own, key, ""},
		{"a wildcard's", "*.shop.example", wild, wildKey, ""},
		{"below a wildcard", "a.shop.example", wild, wildKey, ""},
		{"another name's", "books.example", own, key, "callers will refuse it"},
		{"a wildcard's that covers one name", "*.shop.example", own, key, "callers will refuse it"},
		{"another key", "shop.example", own, otherKey, "give the key with which that was requested"},
		{"an encrypted key", "shop.example", own, model.NewSecret("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"), "openssl pkey"},
		{"no certificate", "shop.example", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", key, "copy both again"},
	} {
		t.Run(x.name, func(t *testing.T) {
			objects := append(corp(), &model.Domain{Head: named(x.domain), Spec: model.DomainSpec{
				Type: model.Regional, Mappings: []model.Mapping{{API: "open", Stage: "prod"}}, TLS: &model.DomainTLS{Certificate: x.cert, Key: x.key},
			}}, &model.API{Head: named("open"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
				&model.Stage{Head: named("open.prod")})
			err := new(compile.Compiler).Check(admit(t, objects...), []model.Ref{{Kind: model.KindDomain, Name: x.domain}})
			switch {
			case x.want == "" && err != nil:
				t.Error(err)
			case x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "spec.tls.certificate")):
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAnAPIIsServedWithoutTheNameThatAnEndpointCannotGive(t *testing.T) {
	objects := append(corp(),
		// The second one cannot be compiled: its address has been taken away.
		&model.Subnet{Head: named("more"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.2.0/24"}},
		&model.Endpoint{Head: named("second"), Spec: model.EndpointSpec{Gateway: "main", Subnets: []string{"more"}, PrivateDNS: new(bool)}},
	)
	objects[6].(*model.API).Spec.Endpoints = []string{"corp", "second"}
	set := admit(t, objects...)
	e, _ := model.Get[*model.Endpoint](set, "second")
	e = model.Clone(e)
	e.Status.Addresses = nil
	set = set.Clone()
	set.Put(e)
	r := new(compile.Compiler).Compile(set, options)
	api := model.Ref{Kind: model.KindAPI, Name: "pets"}
	if ready, c := r.Ready(api); !ready {
		t.Fatalf("the API is not served for want of a name: %s", c.Message)
	}
	if !hasAdvice(r, api, "EndpointNotReady", "Endpoint/second") {
		t.Errorf("%v", r.Conditions[api])
	}
	kinds := map[snapshot.HostKind]int{}
	for _, h := range r.Snapshot.Gateways["main"].Hosts {
		if h.API != nil {
			kinds[h.Kind]++
		}
	}
	if kinds[snapshot.HostExecuteAPI] != 1 || kinds[snapshot.HostAssociated] != 1 {
		t.Errorf("host names of the API by kind: %v", kinds)
	}
}
