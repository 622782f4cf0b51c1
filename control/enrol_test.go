// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/store"
)

// identity is a key and, once it is enrolled, its certificate.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *tls.Certificate
}

func newIdentity(t testing.TB) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{key: key}
}

// client is an HTTP client that shows the certificate, if there is one.
func (b *branch) clientOf(id *identity) *http.Client {
	cfg := &tls.Config{RootCAs: b.authority.Pool(), ServerName: management, Time: b.now}
	if id.cert != nil {
		cfg.Certificates = []tls.Certificate{*id.cert}
	}
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, b.addr)
	}}
	b.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// enrolAs asks for a certificate and keeps it.
func (b *branch) enrolAs(id *identity, authorization string) (int, configuration.Enrolled) {
	b.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"www.example.com"}}, id.key)
	if err != nil {
		b.t.Fatal(err)
	}
	body, err := json.Marshal(configuration.Enrol{Request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "https://"+management+configuration.EnrolPath, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := b.clientOf(id).Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var out configuration.Enrolled
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, out
	}
	if err := json.Unmarshal(data, &out); err != nil {
		b.t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(out.Certificate))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(leaf.DNSNames) > 0 || leaf.IsCA {
		b.t.Errorf("the certificate is for more than was meant: %v", leaf.DNSNames)
	}
	id.cert = &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: id.key, Leaf: leaf}
	return res.StatusCode, out
}

// fetch asks for the configuration by protocol v1 with nothing but the
// certificate.
func (b *branch) fetch(id *identity) int {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "https://"+management+configuration.ConfigurationPath(configuration.ResourcePath("s", "g", "gw"), ""), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := b.clientOf(id).Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK {
		if d, err := configuration.DecodeDocument(data); err != nil || d.For != "shop" {
			b.t.Errorf("%+v %v", d, err)
		}
	}
	return res.StatusCode
}

func TestAGatewayIsEnrolledOnceAndRenewsByItself(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
	with := configuration.EnrolScheme + " " + made.Value
	if !made.Once || made.Settings == nil || !made.Settings.Enrol {
		t.Errorf("made %+v", made)
	}
	for what, authorization := range map[string]string{"as a bearer token": "Bearer " + made.Value, "another": with[:len(with)-1] + "_", "nothing": ""} {
		if code, _ := b.enrolAs(newIdentity(t), authorization); code != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, code)
		}
	}
	id := newIdentity(t)
	if code := b.fetch(id); code != http.StatusUnauthorized {
		t.Errorf("without a certificate: %d", code)
	}
	code, got := b.enrolAs(id, with)
	if code != http.StatusOK || got.Name != "shop" || !got.Renew.Before(got.Expires) {
		t.Fatalf("%d %+v", code, got)
	}
	if code, _ := b.enrolAs(newIdentity(t), with); code != http.StatusUnauthorized {
		t.Errorf("the enrolment was used again: %d", code)
	}
	if code := b.fetch(id); code != http.StatusOK {
		t.Errorf("with the certificate: %d", code)
	}
	// After its end it opens nothing, but is renewed.
	b.later.Store(int64(40 * 24 * time.Hour))
	if code := b.fetch(id); code != http.StatusUnauthorized {
		t.Errorf("a certificate that has ended: %d", code)
	}
	first := *id
	if code, got := b.enrolAs(id, ""); code != http.StatusOK || !got.Expires.After(first.cert.Leaf.NotAfter) {
		t.Errorf("renewed: %d %+v", code, got)
	}
	if code := b.fetch(id); code != http.StatusOK {
		t.Errorf("with the new one: %d", code)
	}
	b.later.Store(int64(130 * 24 * time.Hour))
	if code, _ := b.enrolAs(&first, ""); code != http.StatusUnauthorized {
		t.Errorf("one that ended long ago is renewed: %d", code)
	}
}

func TestACertificateThatIsRevokedOpensNothing(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
	id := newIdentity(t)
	if code, _ := b.enrolAs(id, configuration.EnrolScheme+" "+made.Value); code != http.StatusOK {
		t.Fatal(code)
	}
	// A server's certificate of the same authority is no gateway's.
	server, err := b.authority.Issue(time.Now(), []string{"shop"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if code := b.fetch(&identity{cert: server}); code != http.StatusUnauthorized {
		t.Errorf("a server's certificate: %d", code)
	}
	if rec := b.call("POST", "/v1/selfhostedgateways/shop/rotate", b.admin, `{"key":"primary"}`); rec.Code != http.StatusOK {
		t.Fatal(rec.Code)
	}
	if code := b.fetch(id); code != http.StatusOK {
		t.Errorf("it depends on a key: %d", code)
	}
	var list wire.Tokens
	if err := json.Unmarshal(b.call("GET", "/v1/tokens", b.admin, "").Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	for _, x := range list.Items {
		if x.Key == "certificate" {
			if rec := b.call("DELETE", "/v1/tokens/"+x.ID, b.admin, ""); rec.Code != http.StatusNoContent {
				t.Fatal(rec.Code)
			}
		}
	}
	if code := b.fetch(id); code != http.StatusUnauthorized {
		t.Errorf("revoked: %d", code)
	}
	if code, _ := b.enrolAs(id, ""); code != http.StatusUnauthorized {
		t.Errorf("revoked, and renewed: %d", code)
	}
}

// TestCertificatesOfAGatewayAreBounded has a gateway renew at once, as with a
// clock that is far ahead, and then all that may be.
func TestCertificatesOfAGatewayAreBounded(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	with := func() string {
		return configuration.EnrolScheme + " " + b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true}).Value
	}
	id := newIdentity(t)
	if code, _ := b.enrolAs(id, with()); code != http.StatusOK {
		t.Fatal(code)
	}
	for n := 2; n <= maxEarly; n++ {
		if code, _ := b.enrolAs(id, ""); code != http.StatusOK {
			t.Errorf("certificate %d: %d", n, code)
		}
	}
	if code, _ := b.enrolAs(id, ""); code != http.StatusTooManyRequests {
		t.Errorf("one that was just issued is renewed again and again: %d", code)
	}
	b.later.Store(int64(21 * 24 * time.Hour))
	if code, _ := b.enrolAs(id, ""); code != http.StatusOK {
		t.Errorf("one that is due is not renewed: %d", code)
	}
	for begin := 0; begin < maxCertificates; begin += 64 {
		if _, err := b.opts.Registry.Update(t.Context(), false, func(*registry.Head) (*registry.Edit, error) {
			edit := &registry.Edit{}
			for n := range 64 {
				c := token.NewCertificate("selfhosted/shop", "x", fmt.Appendf(nil, "%d", begin+n), b.now(), b.now().Add(time.Hour))
				data, err := json.Marshal(c)
				if err != nil {
					return nil, err
				}
				edit.Puts = append(edit.Puts, store.Put{Key: tokenKey(c.ID), IfRevision: store.Absent, Data: data})
			}
			return edit, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if code, _ := b.enrolAs(newIdentity(t), with()); code != http.StatusTooManyRequests {
		t.Errorf("one more than there may be: %d", code)
	}
	b.later.Store(int64(130 * 24 * time.Hour))
	if code, _ := b.enrolAs(newIdentity(t), with()); code != http.StatusOK {
		t.Errorf("after those have ended long ago: %d", code)
	}
}

func TestAWeakRequestIsRefused(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
	for _, body := range []string{"", "{", `{"request":"x"}`, fmt.Sprintf(`{"request":%q}`, string(b.authority.RootPEM()))} {
		rec := b.call("POST", configuration.EnrolPath, b.admin, body, "Authorization", configuration.EnrolScheme+" "+made.Value)
		if rec.Code != http.StatusBadRequest && rec.Code != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d", body, rec.Code)
		}
	}
}

func TestCertificatesOpenTheConfigurationHostName(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
	id := newIdentity(t)
	if code, _ := b.enrolAs(id, configuration.EnrolScheme+" "+made.Value); code != http.StatusOK {
		t.Fatal(code)
	}
	const host = "gw.configuration." + base
	f := func(id *identity, want int) {
		t.Helper()
		// As the gateway engine hands a connection over, TLS and all.
		here, there := net.Pipe()
		cert, err := b.opts.Certificate(host)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		served := make(chan struct{})
		go func() {
			defer close(served)
			b.ServeConfiguration(ctx, tls.Server(there, &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequestClientCert}))
		}()
		cfg := &tls.Config{RootCAs: b.authority.Pool(), ServerName: host}
		if id.cert != nil {
			cfg.Certificates = []tls.Certificate{*id.cert}
		}
		c := tls.Client(here, cfg)
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", configuration.Path, host, configuration.Upgrade); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReaderSize(oneByte{c}, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("%s, want %d", res.Status, want)
		}
		if want == http.StatusSwitchingProtocols {
			s := &stream{Conn: c, t: t}
			s.take(configuration.TypeDocument)
			// Its place among all callers is free again.
			for n := range eachComponent {
				if !b.configuration.open.Enter(netip.Addr{}, eachComponent) {
					t.Errorf("a gateway holds a place of all callers' after %d", n)
					break
				}
				defer b.configuration.open.Leave(netip.Addr{})
			}
		}
		_ = here.Close() // without the manners of TLS: nobody reads any more
		<-served
	}
	f(newIdentity(t), http.StatusUnauthorized)
	f(id, http.StatusSwitchingProtocols)
}

func TestACertificateThatWasRenewedEndsAfterTheOverlap(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
	id := newIdentity(t)
	if code, _ := b.enrolAs(id, configuration.EnrolScheme+" "+made.Value); code != http.StatusOK {
		t.Fatal(code)
	}
	first := *id
	open := b.connectAs(&first, "")
	open.take(configuration.TypeDocument)
	open.ack()
	b.eventually("what it has is known", func() bool { is, _ := b.instances("shop"); return len(is) == 1 && is[0].Current })
	if code, _ := b.enrolAs(id, ""); code != http.StatusOK {
		t.Fatal(code)
	}
	if code := b.fetch(&first); code != http.StatusOK {
		t.Errorf("at once: %d", code)
	}
	b.later.Store(int64(overlap - time.Hour))
	again := first // its answer was lost
	if code, _ := b.enrolAs(&again, ""); code != http.StatusOK {
		t.Errorf("within the overlap it is not renewed: %d", code)
	}
	b.later.Store(int64(overlap + time.Second))
	if code := b.fetch(&first); code != http.StatusUnauthorized {
		t.Errorf("after the overlap: %d", code)
	}
	if code, _ := b.enrolAs(&first, ""); code != http.StatusUnauthorized {
		t.Errorf("after the overlap it is renewed: %d", code)
	}
	for what, id := range map[string]*identity{"newer": id, "newest": &again} {
		if code := b.fetch(id); code != http.StatusOK {
			t.Errorf("the %s: %d", what, code)
		}
	}
	// An open stream comes again with the newer one.
	if r := open.refusal(); r.Code != configuration.RefuseClosing || r.RetryAfter < 1 {
		t.Errorf("the stream ends with %+v", r)
	}
}

func TestAllThatAGatewayHasIsRevoked(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	token := func(in wire.NewToken) wire.CreatedToken {
		in.Subject = "selfhosted/shop"
		return b.gatewayToken(in)
	}
	primary, secondary := token(wire.NewToken{}), token(wire.NewToken{Key: "secondary"})
	id := newIdentity(t)
	if code, _ := b.enrolAs(id, configuration.EnrolScheme+" "+token(wire.NewToken{Enrol: true}).Value); code != http.StatusOK {
		t.Fatal(code)
	}
	enrolment := token(wire.NewToken{Enrol: true})
	other := b.gatewayToken(wire.NewToken{Subject: "selfhosted/bank"})
	if _, err := b.opts.Registry.Update(t.Context(), false, func(*registry.Head) (*registry.Edit, error) {
		return &registry.Edit{Puts: []store.Put{{Key: tokenKey("garbled"), IfRevision: store.Absent, Data: []byte(`{"subject":"selfhosted/shop"`)}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	streams := []*stream{b.connect(primary.Value), b.connect(secondary.Value), b.connectAs(id, "")}
	for _, s := range streams {
		s.take(configuration.TypeDocument)
		s.ack()
	}
	stays := b.connect(other.Value)
	stays.take(configuration.TypeDocument)
	rec := b.call("POST", "/v1/selfhostedgateways/shop/revoke", b.admin, "")
	var got wire.RevokedAccess
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || got != (wire.RevokedAccess{Name: "shop", Tokens: 3, Certificates: 1, Enrolments: 1}) {
		t.Fatalf("%d %s %v", rec.Code, rec.Body, err)
	}
	for i, s := range streams {
		if r := s.refusal(); r.Code != configuration.RefuseToken {
			t.Errorf("stream %d ends with %+v", i, r)
		}
	}
	for _, value := range []string{primary.Value, secondary.Value} {
		if s, res, err := b.dial(management, value); s != nil || err != nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token: %v %v", res, err)
		}
	}
	if code := b.fetch(id); code != http.StatusUnauthorized {
		t.Errorf("the certificate: %d", code)
	}
	if code, _ := b.enrolAs(id, ""); code != http.StatusUnauthorized {
		t.Errorf("the certificate is renewed: %d", code)
	}
	if code, _ := b.enrolAs(newIdentity(t), configuration.EnrolScheme+" "+enrolment.Value); code != http.StatusUnauthorized {
		t.Errorf("the enrolment: %d", code)
	}
	stays.ack()
	b.apply("apiVersion: postern/v1\nkind: API\nmetadata: {name: payments}\nspec: {gateway: gw, type: regional, path: pay, openapi: {openapi: 3.0.3, info: {title: payments, version: \"1\"}, paths: {}}}\n")
	stays.take(configuration.TypeDelta)
	b.connect(token(wire.NewToken{}).Value).take(configuration.TypeDocument)
	if rec := b.call("POST", "/v1/selfhostedgateways/absent/revoke", b.admin, ""); rec.Code != http.StatusNotFound {
		t.Errorf("of one that is not there: %d", rec.Code)
	}
}
