// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// signed is a certificate with its key.
type signed struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate from tmpl, by its own key if by is nil.
func sign(t *testing.T, by *signed, tmpl *x509.Certificate) *signed {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.NotAfter, tmpl.BasicConstraintsValid = big.NewInt(1), time.Now().Add(time.Hour), true
	parent, signer := tmpl, k
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signed{c, k}
}

func authority(t *testing.T, by *signed, name string) *signed {
	return sign(t, by, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
}

func (s *signed) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw}))
}

func (s *signed) secret(t *testing.T) model.Secret {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return model.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})))
}

// public is a regional API with a Domain in front of it.
func public(edit func(*model.Domain)) []model.Object {
	d := &model.Domain{Head: named("shop.example"), Spec: model.DomainSpec{
		Type: model.Regional, Mappings: []model.Mapping{{API: "open", Stage: "prod"}},
	}}
	if edit != nil {
		edit(d)
	}
	return []model.Object{
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.API{Head: named("open"), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
		&model.Stage{Head: named("open.prod"), Spec: model.StageSpec{Deployment: model.Latest}}, d,
	}
}

var shop = model.Ref{Kind: model.KindDomain, Name: "shop.example"}

func TestAChainIsInOrderAndBeginsWithTheDomainsOwn(t *testing.T) {
	root := authority(t, nil, "root")
	middle := authority(t, root, "middle")
	names := []string{"shop.example"}
	leaf := sign(t, middle, &x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	client := sign(t, middle, &x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	own := sign(t, nil, &x509.Certificate{DNSNames: names, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	plain := sign(t, nil, &x509.Certificate{DNSNames: names})
	signer := sign(t, root, &x509.Certificate{DNSNames: names, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	for _, x := range []struct {
		name  string
		chain []*signed
		cut   string
		want  string
	}{
		{"with its root", []*signed{leaf, middle, root}, "", ""},
		{"without its root", []*signed{leaf, middle}, "", ""},
		{"alone", []*signed{leaf}, "", ""},
		{"a link left out", []*signed{leaf, root}, "", "certificate 1 (shop.example) is not signed by the next (CN=root)"},
		{"out of order", []*signed{leaf, root, middle}, "", "not signed by the next"},
		{"begins with the root", []*signed{root, middle, leaf}, "", "begin the chain with the certificate for the Domain"},
		{"an authority's", []*signed{signer, root}, "", "is an authority's"},
		{"signed by itself, as an authority's", []*signed{own}, "", "basicConstraints=CA:FALSE"},
		{"signed by itself", []*signed{plain}, "", ""},
		{"a client's", []*signed{client, middle}, "", "is not for servers"},
		{"cut short", []*signed{leaf}, "-----BEGIN CERTIFICATE-----\nMIIB", "1 of 2 blocks are no whole PEM certificate"},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := ""
			for _, c := range x.chain {
				text += c.pem()
			}
			set := admit(t, public(func(d *model.Domain) {
				key := leaf.secret(t)
				if x.chain[0] != root {
					key = x.chain[0].secret(t)
				}
				d.Spec.TLS = &model.DomainTLS{Certificate: text + x.cut, Key: key}
			})...)
			refused(t, set, "spec.tls.certificate", x.want)
		})
	}
}

// refused fails unless Check refuses the shop with what is wanted, at field.
func refused(t *testing.T, set *model.Set, field, want string) {
	t.Helper()
	err := new(compile.Compiler).Check(set, []model.Ref{shop})
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), shop.String())):
		t.Errorf("got %v, want %s: %s", err, field, want)
	}
}

func TestABundleHoldsAuthoritiesAndNothingElse(t *testing.T) {
	root := authority(t, nil, "root")
	leaf := sign(t, root, &x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}})
	idle := sign(t, root, &x509.Certificate{Subject: pkix.Name{CommonName: "idle"}, IsCA: true, KeyUsage: x509.KeyUsageCRLSign})
	for _, x := range []struct{ name, bundle, want string }{
		{"two with remarks", "# ours\n" + root.pem() + "\nand theirs\n" + authority(t, nil, "theirs").pem(), ""},
		{"a leaf", root.pem() + leaf.pem(), "certificate 2 (CN=somebody) is no authority's"},
		{"one that may not sign", idle.pem(), "certificate 1 (CN=idle) may not sign"},
		{"a key", root.pem() + leaf.secret(t).Reveal(), "block 2 is PRIVATE KEY"},
		{"one that does not parse", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "certificate 1 does not parse"},
	} {
		t.Run(x.name, func(t *testing.T) {
			set := admit(t, public(func(d *model.Domain) {
				d.Spec.ClientCA = &model.ClientCA{Bundle: x.bundle, Mode: model.ClientRequired}
			})...)
			refused(t, set, "spec.clientCA.bundle", x.want)
			var c compile.Compiler
			r := c.Compile(set, options)
			if ready, cond := r.Ready(shop); ready != (x.want == "") || !ready && !strings.Contains(cond.Message, x.want) {
				t.Errorf("ready is %t: %s", ready, cond.Message)
			}
			if x.want != "" {
				return
			}
			h := r.Snapshot.Gateways["main"].Hosts["shop.example"]
			if h.Domain.ClientCA == nil || !h.Domain.ClientCA.Required {
				t.Fatalf("%+v", h.Domain)
			}
			opts := x509.VerifyOptions{Roots: h.Domain.ClientCA.Pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
			if _, err := leaf.cert.Verify(opts); err != nil {
				t.Errorf("one that the bundle signs: %v", err)
			}
			if again := c.Compile(set, options).Snapshot.Gateways["main"].Hosts["shop.example"]; again.Domain.ClientCA.Pool != h.Domain.ClientCA.Pool {
				t.Error("the bundle was read again")
			}
		})
	}
}

func TestTheRootsOfAnACMEAuthorityAreRead(t *testing.T) {
	bad := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	set := admit(t, public(func(d *model.Domain) { d.Spec.TLS = &model.DomainTLS{ACME: &model.DomainACME{Roots: bad}} })...)
	refused(t, set, "spec.tls.acme.roots", "certificate 1 does not parse")
}

func TestACMEChallengesThatNothingWouldAnswerAreLeftOut(t *testing.T) {
	const http, alpn = model.ChallengeHTTP01, model.ChallengeTLSALPN01
	for _, x := range []struct {
		name, port80 string
		challenges   []string
		http, alpn   bool
		advice       bool
	}{
		{"both by default, port 80 published", model.HTTPRedirect, nil, true, true, false},
		{"both by default, port 80 off", model.HTTPOff, nil, false, true, false},
		{"http-01 alone", model.HTTPServe, []string{http}, true, false, false},
		{"tls-alpn-01 alone", model.HTTPServe, []string{alpn}, false, true, false},
		{"http-01 alone, port 80 off", model.HTTPOff, []string{http}, true, false, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			objects := public(func(d *model.Domain) {
				d.Spec.TLS = &model.DomainTLS{ACME: &model.DomainACME{Challenges: x.challenges, Email: "ops@shop.example"}}
			})
			objects[0].(*model.Gateway).Spec.HTTP = x.port80
			r := new(compile.Compiler).Compile(admit(t, objects...), options)
			a := r.Snapshot.Gateways["main"].Hosts["shop.example"].Domain.ACME
			if want := (snapshot.ACME{Directory: model.DefaultACME, Email: "ops@shop.example", HTTP01: x.http, TLSALPN01: x.alpn}); a == nil || *a != want {
				t.Errorf("got %+v, want %+v", a, want)
			}
			if got := hasAdvice(r, shop, "ChallengeUnanswered", "Gateway/main"); got != x.advice {
				t.Errorf("advice: %t, want %t; %v", got, x.advice, r.Conditions[shop])
			}
		})
	}
}

func TestNamesThatAnswerWithoutTheClientCertificateAreAdvisedOf(t *testing.T) {
	root := authority(t, nil, "root").pem()
	for _, x := range []struct {
		name, mode, path string
		disabled         bool
		want             string
	}{
		{"required", model.ClientRequired, "", false, "execute-api.eu-1"},
		{"optional", model.ClientOptional, "", false, ""},
		{"execute-api disabled", model.ClientRequired, "", true, ""},
		{"execute-api disabled, with a path", model.ClientRequired, "open", true, "main.postern.internal/open"},
	} {
		t.Run(x.name, func(t *testing.T) {
			objects := public(func(d *model.Domain) { d.Spec.ClientCA = &model.ClientCA{Bundle: root, Mode: x.mode} })
			a := objects[1].(*model.API)
			a.Spec.DisableExecuteAPIEndpoint, a.Spec.Path = x.disabled, x.path
			r := new(compile.Compiler).Compile(admit(t, objects...), options)
			if got := hasAdvice(r, shop, "WithoutClientCertificate", x.want); got != (x.want != "") {
				t.Errorf("%v", r.Conditions[shop])
			}
		})
	}
}

func TestMappingsAreOrderedByTheirNumberOfSegments(t *testing.T) {
	objects := public(func(d *model.Domain) {
		d.Spec.Mappings = nil
		for _, p := range []string{"", "orders/v1/items", "customers", "/orders/v2/items/categories/", "orders/v2/items", "averylongsegmentalone"} {
			d.Spec.Mappings = append(d.Spec.Mappings, model.Mapping{Path: p, API: "open", Stage: "prod"})
		}
	})
	r := new(compile.Compiler).Compile(admit(t, objects...), options)
	var got []string
	for _, m := range r.Snapshot.Gateways["main"].Hosts["shop.example"].Domain.Mappings {
		got = append(got, m.Path)
	}
	const want = "orders/v2/items/categories orders/v1/items orders/v2/items averylongsegmentalone customers "
	if strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// serving asks for a path at a name on the public address and returns which API
// serves it and which path is left below the mapping.
func serving(s *snapshot.Snapshot, host, path string) (api, rest string) {
	g := s.Gateways["main"]
	v := request.Judge(s, &request.Arrival{
		Gateway: g, Origin: &snapshot.Origin{}, Listens: g.PublicPorts[443], TLS: true, SNI: host, Host: host, Method: "GET", Path: path,
	}, true)
	if v.API == nil {
		return "", ""
	}
	return v.API.Name, v.Path
}

// The table of AWS's "Use API mappings to connect API stages to a custom domain
// name for REST APIs", and what surrounds it.
func TestTheLongestMappingServes(t *testing.T) {
	objects := public(nil)[:1]
	api := func(name string) {
		objects = append(objects,
			&model.API{Head: named(name), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}},
			&model.Stage{Head: named(name + ".prod"), Spec: model.StageSpec{Deployment: model.Latest}})
	}
	domain := func(name string, mappings ...string) {
		d := &model.Domain{Head: named(name), Spec: model.DomainSpec{Type: model.Edge}}
		for _, m := range mappings {
			path, to, _ := strings.Cut(m, "=")
			d.Spec.Mappings = append(d.Spec.Mappings, model.Mapping{Path: path, API: to, Stage: "prod"})
		}
		objects = append(objects, d)
	}
	for _, n := range []string{"api1", "api2", "api3", "api4"} {
		api(n)
	}
	domain("shop.example", "=api1", "orders/v1/items=api2", "orders/v2/items=api3", "orders/v2/items/categories=api4")
	domain("bare.example", "orders=api1", "Orders=api2", "$-_.+!*'()=api3")
	domain("*.shop.example", "=api2")
	domain("exact.shop.example", "=api3")
	s := new(compile.Compiler).Compile(admit(t, objects...), options).Snapshot
	for _, x := range []struct{ host, path, api, rest string }{
		{"shop.example", "/orders/v1/items", "api2", "/"},
		{"shop.example", "/orders/v1/items/123", "api2", "/123"},
		{"shop.example", "/orders/v2/items/categories/5", "api4", "/5"},
		{"shop.example", "/customers", "api1", "/customers"},

		{"shop.example", "/orders/v2/items", "api3", "/"},
		{"shop.example", "/orders/v2/items/", "api3", "/"},
		{"shop.example", "/orders/v2/itemsandmore", "api1", "/orders/v2/itemsandmore"},
		{"shop.example", "/orders/v2", "api1", "/orders/v2"},
		{"shop.example", "/ping", "api1", "/ping"},
		{"bare.example", "/orders/1", "api1", "/1"},
		{"bare.example", "/Orders/1", "api2", "/1"},
		{"bare.example", "/$-_.+!*'()/1", "api3", "/1"},
		{"bare.example", "/customers", "", ""},
		{"bare.example", "/", "", ""},
		{"any.shop.example", "/pets", "api2", "/pets"},
		{"exact.shop.example", "/pets", "api3", "/pets"},
		{"two.labels.shop.example", "/pets", "", ""},
	} {
		if api, rest := serving(s, x.host, x.path); api != x.api || rest != x.rest {
			t.Errorf("%s%s: %q serves %q, want %q and %q", x.host, x.path, api, rest, x.api, x.rest)
		}
	}
}

func TestADomainStaysWhenTheExecuteAPINameIsDisabled(t *testing.T) {
	objects := public(nil)
	objects[1].(*model.API).Spec.DisableExecuteAPIEndpoint = true
	s := new(compile.Compiler).Compile(admit(t, objects...), options).Snapshot
	g := s.Gateways["main"]
	for host, allowed := range map[string]bool{"shop.example": true, s.APIs["open"].Host: false} {
		path := "/pets"
		if !allowed {
			path = "/prod/pets"
		}
		v := request.Judge(s, &request.Arrival{
			Gateway: g, Origin: &snapshot.Origin{}, Listens: g.PublicPorts[443], TLS: true, SNI: host, Host: host, Method: "GET", Path: path,
		}, true)
		if v.Allowed != allowed {
			t.Errorf("%s: allowed is %t", host, v.Allowed)
		}
	}
}

func TestWhatCollidesIsRefusedAndNothingChanged(t *testing.T) {
	before := admit(t, public(nil)...)
	twin := &model.Domain{Head: named("shop.example"), Spec: model.DomainSpec{Type: model.Edge, Mappings: []model.Mapping{{API: "open", Stage: "prod"}}}}
	private := &model.Domain{Head: named("inside.example"), Spec: model.DomainSpec{Type: model.Private, Mappings: []model.Mapping{{API: "open", Stage: "prod"}}}}
	mapped := &model.Domain{Head: named("more.example"), Spec: model.DomainSpec{Type: model.Edge, Mappings: []model.Mapping{
		{Path: "a/b", API: "open", Stage: "prod"}, {Path: "/a/b/", API: "open", Stage: "prod"},
	}}}
	upper := &model.Domain{Head: named("Shop.example"), Spec: twin.Spec}
	for _, x := range []struct {
		name string
		puts []model.Object
		want []string
	}{
		{"one Domain twice", []model.Object{twin, model.Clone(twin)}, []string{"Domain/shop.example", "twice"}},
		{"a Domain in capitals", []model.Object{upper}, []string{"Shop.example", "metadata.name"}},
		{"one mapping twice", []model.Object{mapped}, []string{"Domain/more.example", "spec.mappings[1].path", "mapped at [0] already"}},
		{"a private Domain without an Endpoint", []model.Object{private}, []string{"Domain/inside.example", "spec.endpoints", "is missing"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			set, _, err := model.Admit(before, model.Change{Puts: x.puts}, model.Options{})
			if err == nil {
				t.Fatalf("admitted: %v", set.Names(model.KindDomain))
			}
			for _, w := range x.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if n := before.Names(model.KindDomain); len(n) != 1 {
				t.Errorf("the set was changed: %v", n)
			}
		})
	}
}
