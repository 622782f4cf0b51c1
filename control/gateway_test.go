// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/configuration"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

const sites = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: gw}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: API
metadata: {name: orders}
spec: {gateway: gw, type: regional, path: orders, backend: stock, openapi: {openapi: 3.0.3, info: {title: orders, version: "1"}, paths: {}}}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: orders.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: Backend
metadata: {name: stock}
spec: {targets: [{host: stock-1.internal, port: 8080}]}
---
apiVersion: postern/v1
kind: API
metadata: {name: payments}
spec: {gateway: gw, type: regional, path: payments, openapi: {openapi: 3.0.3, info: {title: payments, version: "1"}, paths: {}, servers: [{url: "http://vault.internal"}]}}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: payments.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: shop}
spec: {gateway: gw, apis: [orders]}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: bank}
spec: {gateway: gw, apis: [payments]}
`

// stock is the Backend with another target.
func stock(n int) string {
	return fmt.Sprintf("apiVersion: postern/v1\nkind: Backend\nmetadata: {name: stock}\nspec: {targets: [{host: stock-%d.internal, port: 8080}]}\n", n)
}

// branch is a plane that serves self-hosted gateways at an address.
type branch struct {
	*plane
	addr string
	stop func()
}

// serveGateways serves a plane that holds manifests. stop ends it and waits.
func serveGateways(t testing.TB, p *plane, manifests string) *branch {
	t.Helper()
	if manifests != "" {
		p.apply(manifests)
	}
	return serveGatewaysAt(t, p, "127.0.0.1:0")
}

func serveGatewaysAt(t testing.TB, p *plane, addr string) *branch {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- p.Serve(ctx, l) }()
	go func() { done <- p.ServeComponents(ctx) }()
	b := &branch{plane: p, addr: l.Addr().String()}
	ended := false
	b.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(b.stop)
	return b
}

// apply applies manifests through the API.
func (p *plane) apply(text string) {
	p.t.Helper()
	rec := p.call("POST", "/v1/apply", p.admin, string(toJSON(p.t, text)))
	if rec.Code != http.StatusOK {
		p.t.Fatalf("apply: %d %s", rec.Code, rec.Body)
	}
}

func toJSON(t testing.TB, text string) []byte {
	t.Helper()
	var m wire.Manifests
	os, err := manifest.Decode("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range os {
		data, err := model.EncodeStored(o)
		if err != nil {
			t.Fatal(err)
		}
		m.Resources = append(m.Resources, data)
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// gatewayToken makes a token of a self-hosted gateway.
func (p *plane) gatewayToken(in wire.NewToken) wire.CreatedToken {
	p.t.Helper()
	in.Role = string(token.SelfHosted)
	body, err := json.Marshal(in)
	if err != nil {
		p.t.Fatal(err)
	}
	rec := p.call("POST", "/v1/tokens", p.admin, string(body))
	var out wire.CreatedToken
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil || rec.Code != http.StatusCreated {
		p.t.Fatalf("create a token: %d %s %v", rec.Code, rec.Body, err)
	}
	return out
}

// stream is the gateway's end of protocol v2.
type stream struct {
	net.Conn
	t    testing.TB
	seen *bytes.Buffer // all that came
	doc  *configuration.Document
}

// Read notes what came.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if s.seen != nil {
		s.seen.Write(b[:n])
	}
	return n, err
}

// dial asks for a stream; res is the answer if that is not one.
func (b *branch) dial(host, tok string, headers ...string) (s *stream, res *http.Response, err error) {
	return b.dialAs(new(identity), host, tok, headers...)
}

// dialAs is dial with a certificate, if there is one.
func (b *branch) dialAs(id *identity, host, tok string, headers ...string) (s *stream, res *http.Response, err error) {
	cfg := &tls.Config{RootCAs: b.authority.Pool(), ServerName: host, NextProtos: []string{"http/1.1"}}
	if id.cert != nil {
		cfg.Certificates = []tls.Certificate{*id.cert}
	}
	c, err := tls.Dial("tcp", b.addr, cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return nil, nil, err
	}
	var req bytes.Buffer
	fmt.Fprintf(&req, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\nAuthorization: %s\r\n", configuration.Path, host, configuration.Upgrade, tok)
	for i := 0; i+1 < len(headers); i += 2 {
		fmt.Fprintf(&req, "%s: %s\r\n", headers[i], headers[i+1])
	}
	req.WriteString("\r\n")
	if _, err := c.Write(req.Bytes()); err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	// Byte by byte up to the frames, which are not the reader's.
	r := bufio.NewReaderSize(oneByte{c}, 16)
	res, err = http.ReadResponse(r, nil)
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		body, err := io.ReadAll(res.Body)
		_ = c.Close()
		res.Body = io.NopCloser(bytes.NewReader(body))
		return nil, res, err
	}
	return &stream{Conn: c, t: b.t}, res, nil
}

type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(len(b), 1)]) }

const management = "gw.management.postern.internal"

// connect is dial for who gets in.
func (b *branch) connect(tok string, headers ...string) *stream {
	b.t.Helper()
	return b.connectAs(new(identity), tok, headers...)
}

// connectAs is connect with a certificate.
func (b *branch) connectAs(id *identity, tok string, headers ...string) *stream {
	b.t.Helper()
	s, res, err := b.dialAs(id, management, tok, headers...)
	if err != nil {
		b.t.Fatal(err)
	}
	if s == nil {
		text, _ := io.ReadAll(res.Body)
		b.t.Fatalf("%s %s", res.Status, text)
	}
	s.seen = &bytes.Buffer{}
	b.t.Cleanup(func() { _ = s.Close() })
	return s
}

// next reads the next frame that is neither a ping nor a standing.
func (s *stream) next() *configuration.Frame {
	s.t.Helper()
	for {
		f, err := configuration.ReadFrame(s, configuration.MaxFrame)
		if err != nil {
			s.t.Fatal(err)
		}
		switch f.Type {
		case configuration.TypePing, configuration.TypeStanding:
		default:
			return f
		}
	}
}

// take reads the next change, checks that it is of the type, and applies it.
func (s *stream) take(want configuration.Type) *configuration.Document {
	s.t.Helper()
	f := s.next()
	if f.Type != want {
		s.t.Fatalf("a %s came, want %s: %+v", f.Type, want, f.Refuse)
	}
	switch f.Type {
	case configuration.TypeDocument:
		s.doc = f.Document
	case configuration.TypeDelta:
		d, err := configuration.Apply(s.doc, f.Delta)
		if err != nil {
			s.t.Fatal(err)
		}
		s.doc = d
	}
	return s.doc
}

func (s *stream) ack() {
	s.t.Helper()
	s.send(&configuration.Frame{Type: configuration.TypeAck, Ack: &configuration.Ack{Revision: s.doc.Revision, Hash: s.doc.Hash()}})
}

func (s *stream) send(f *configuration.Frame) {
	s.t.Helper()
	if err := configuration.WriteFrame(s, f); err != nil {
		s.t.Fatal(err)
	}
}

// refusal reads on to the frame that ends the stream, and its end.
func (s *stream) refusal() *configuration.Refuse {
	s.t.Helper()
	for {
		f, err := configuration.ReadFrame(s, configuration.MaxFrame)
		if err != nil {
			s.t.Fatalf("the stream ended without a word: %v", err)
		}
		if f.Type == configuration.TypeRefuse {
			if _, err := configuration.ReadFrame(s, configuration.MaxFrame); err == nil {
				s.t.Error("the stream goes on after its end")
			}
			return f.Refuse
		}
	}
}

// target tells which target the Backend of a document has.
func target(t testing.TB, d *configuration.Document) string {
	t.Helper()
	set, err := d.Set()
	if err != nil {
		t.Fatal(err)
	}
	b, ok := model.Get[*model.Backend](set, "stock")
	if !ok {
		return ""
	}
	return b.Spec.Targets[0].Host
}

func TestAGatewayIsSentWhatItIsAssignedAndThenWhatChanges(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	s := b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value, configuration.HeaderInstance, "till-1")
	d := s.take(configuration.TypeDocument)
	if d.For != "shop" || d.Gateway != "gw" || d.Base != base || target(t, d) != "stock-1.internal" {
		t.Errorf("got %+v", d)
	}
	s.ack()
	b.apply(stock(2))
	if d := s.take(configuration.TypeDelta); target(t, d) != "stock-2.internal" {
		t.Errorf("after the change: %s", target(t, d))
	}
	s.ack()
	// What is another's is nobody's business here: the next thing that comes is
	// the change after it.
	b.apply(strings.ReplaceAll(sites[strings.Index(sites, "apiVersion: postern/v1\nkind: API\nmetadata: {name: payments}"):], "vault.internal", "safe.internal"))
	b.apply(stock(3))
	if d := s.take(configuration.TypeDelta); target(t, d) != "stock-3.internal" {
		t.Errorf("after another's change: %s", target(t, d))
	}
	root := b.authority.Root()
	if err := s.doc.Verify(root); err != nil {
		t.Errorf("what deltas lead to: %v", err)
	}
	for _, secret := range []string{"payments", "vault", "safe.internal", "bank"} {
		if strings.Contains(s.seen.String(), secret) {
			t.Errorf("the gateway was told of %s", secret)
		}
	}
}

func TestAGatewayResumesFromWhatItHas(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	tok := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value
	first := b.connect(tok)
	d := first.take(configuration.TypeDocument)
	first.ack()
	has := []string{configuration.HeaderHash, d.Hash(), configuration.HeaderRevision, fmt.Sprint(d.Revision)}

	same := b.connect(tok, has...)
	if f := same.next(); f.Type != configuration.TypeCurrent || f.Current.Hash != d.Hash() {
		t.Errorf("nothing has changed, and a %s came", f.Type)
	}
	b.apply(stock(2))
	after := b.connect(tok, has...)
	after.doc = d
	if d := after.take(configuration.TypeDelta); target(t, d) != "stock-2.internal" {
		t.Errorf("resumed to %s", target(t, d))
	}
	lost := b.connect(tok, configuration.HeaderHash, strings.Repeat("0", 64))
	if d := lost.take(configuration.TypeDocument); target(t, d) != "stock-2.internal" {
		t.Errorf("began afresh with %s", target(t, d))
	}
	for n := 3; n < 12; n++ {
		b.apply(stock(n))
		b.publish()
	}
	long := b.connect(tok, has...)
	if d := long.take(configuration.TypeDocument); target(t, d) != "stock-11.internal" {
		t.Errorf("after too many changes: %s", target(t, d))
	}
}

func TestAGatewayThatLagsIsSentTheNewestAtOnce(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	tok := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value
	s := b.connect(tok)
	s.take(configuration.TypeDocument)
	for n := 2; n < 20; n++ {
		b.apply(stock(n)) // while the document is not acknowledged
		b.publish()
	}
	s.ack()
	if d := s.take(configuration.TypeDocument); target(t, d) != "stock-19.internal" {
		t.Errorf("it got %s", target(t, d))
	}
	s.ack()
	b.apply(stock(20))
	if d := s.take(configuration.TypeDelta); target(t, d) != "stock-20.internal" {
		t.Errorf("the first of three: %s", target(t, d))
	}
	b.apply(stock(21))
	b.publish()
	b.apply(stock(22))
	b.publish()
	s.ack()
	if d := s.take(configuration.TypeDelta); target(t, d) != "stock-22.internal" {
		t.Errorf("and then %s, not the last", target(t, d))
	}
}

func TestADeltaThatCannotBeTakenIsFollowedByTheWhole(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	s := b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value, configuration.HeaderInstance, "till-1")
	s.take(configuration.TypeDocument)
	s.ack()
	old := s.doc
	fail := func() {
		s.send(&configuration.Frame{Type: configuration.TypeAck, Ack: &configuration.Ack{Hash: old.Hash(), Error: "it does not fit"}})
	}
	b.apply(stock(2))
	s.next()
	fail()
	s.take(configuration.TypeDocument)
	fail() // not sent again, or it would go on for ever
	b.apply(stock(3))
	f := s.next()
	if f.Type == configuration.TypeDelta { // from what it has
		d, err := configuration.Apply(old, f.Delta)
		if err != nil {
			t.Fatal(err)
		}
		f.Document = d
	}
	if target(t, f.Document) != "stock-3.internal" {
		t.Errorf("it got %s", target(t, f.Document))
	}
}

// instances reads those of a gateway as the API shows them.
func (p *plane) instances(name string) (is []model.Instance, conditions []string) {
	p.t.Helper()
	rec := p.call("GET", "/v1/selfhosted/"+name, p.admin, "")
	var r wire.Resource
	if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil || rec.Code != http.StatusOK {
		p.t.Fatalf("%d %s %v", rec.Code, rec.Body, err)
	}
	for _, c := range r.Status.Conditions {
		conditions = append(conditions, c.Reason)
	}
	return r.Status.Instances, conditions
}

func TestHeartbeatsAreShown(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	s := b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value, configuration.HeaderInstance, "till-1")
	s.take(configuration.TypeDocument)
	standing := func() {
		t.Helper()
		f, err := configuration.ReadFrame(s, configuration.MaxFrame)
		if err != nil || f.Type != configuration.TypeStanding {
			t.Fatalf("%+v %v", f, err)
		}
		if f.Standing.Hash != s.doc.Hash() || f.Standing.Expires.IsZero() || f.Standing.Warning != "" {
			t.Errorf("standing %+v", f.Standing)
		}
	}
	standing() // at the beginning
	s.ack()
	s.send(&configuration.Frame{Type: configuration.TypeHeartbeat, Heartbeat: &configuration.Heartbeat{
		Version: "v1.2", Instance: "another", Revision: s.doc.Revision, Hash: s.doc.Hash(), Age: 7, LastError: "no\nluck",
	}})
	standing() // for the heartbeat
	is, _ := b.instances("shop")
	want := model.Instance{Name: "till-1", Version: "v1.2", Protocol: "v2", Endpoint: "gw.management.postern.internal:443", Connected: true, Revision: s.doc.Revision, Age: 7, Current: true, LastError: "noluck", Recovered: true}
	if len(is) == 1 {
		if is[0].ErrorSeen.IsZero() {
			t.Error("when the error was heard of is not told")
		}
		is[0].Seen, is[0].ErrorSeen = time.Time{}, time.Time{}
	}
	if len(is) != 1 || is[0] != want {
		t.Errorf("got %+v, want %+v", is, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	b.eventually("the end of the stream is shown", func() bool { is, _ := b.instances("shop"); return !is[0].Connected })
	b.later.Store(int64(4 * time.Minute))
	if is, _ := b.instances("shop"); !is[0].Offline {
		t.Errorf("after three missed heartbeats: %+v", is)
	}
}

// eventually waits until ok holds, a little longer each time it looks.
func (p *plane) eventually(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			p.t.Fatalf("in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestAStreamEndsWithItsToken(t *testing.T) {
	for what, f := range map[string]struct {
		end  func(p *plane, made wire.CreatedToken)
		code string
	}{
		"revoked": {func(p *plane, made wire.CreatedToken) {
			if rec := p.call("DELETE", "/v1/tokens/"+made.ID, p.admin, ""); rec.Code != http.StatusNoContent {
				p.t.Fatalf("%d %s", rec.Code, rec.Body)
			}
		}, configuration.RefuseToken},
		"rotated": {func(p *plane, _ wire.CreatedToken) {
			if rec := p.call("POST", "/v1/selfhostedgateways/shop/rotate", p.admin, `{"key":"primary"}`); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"revoked":1`) {
				p.t.Fatalf("%d %s", rec.Code, rec.Body)
			}
		}, configuration.RefuseToken},
		"expired": {func(p *plane, _ wire.CreatedToken) { p.later.Store(int64(31 * 24 * time.Hour)) }, configuration.RefuseExpired},
		"deleted": {func(p *plane, _ wire.CreatedToken) {
			if rec := p.call("DELETE", "/v1/selfhosted/shop", p.admin, ""); rec.Code != http.StatusNoContent {
				p.t.Fatalf("%d %s", rec.Code, rec.Body)
			}
		}, configuration.RefuseDeleted},
	} {
		t.Run(what, func(t *testing.T) {
			b := serveGateways(t, newPlane(t), sites)
			made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
			other := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Key: token.Secondary})
			s, stays := b.connect(made.Value), b.connect(other.Value)
			s.take(configuration.TypeDocument)
			s.ack()
			stays.take(configuration.TypeDocument)
			f.end(b.plane, made)
			if r := s.refusal(); r.Code != f.code || r.Message == "" {
				t.Errorf("refused with %+v, want %s", r, f.code)
			}
			want := f.code
			if what == "deleted" {
				want = configuration.RefuseToken // of a gateway that is not there nothing is known
			}
			if _, res, err := b.dial(management, made.Value); err != nil || res.StatusCode != http.StatusUnauthorized || res.Header.Get(configuration.HeaderRefuse) != want {
				t.Errorf("asking again: %v %v", res, err)
			}
			rec := b.call("GET", "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/gw/gateways/shop/configuration", model.Secret{}, "", "Authorization", made.Value)
			if rec.Code != http.StatusUnauthorized || rec.Header().Get(configuration.HeaderRefuse) != want || !strings.Contains(rec.Body.String(), "postern token create") {
				t.Errorf("by v1: %d %v %s", rec.Code, rec.Header(), rec.Body)
			}
			if what == "revoked" || what == "rotated" {
				stays.ack()
				b.apply(stock(2))
				stays.take(configuration.TypeDelta)
			}
		})
	}
}

func TestATokenOpensNothingElse(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites+`
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: other}
spec: {region: eu-1}
`)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	f := func(what, host, value string, want int) {
		t.Helper()
		s, res, err := b.dial(host, value)
		if err != nil {
			t.Fatal(err)
		}
		if s != nil {
			t.Errorf("%s: a stream begins", what)
		} else if res.StatusCode != want {
			t.Errorf("%s: %s, want %d", what, res.Status, want)
		}
	}
	f("another Gateway", "other.management.postern.internal", made.Value, 404)
	f("as another", management, strings.Replace(made.Value, "shop", "bank", 1), 401)
	f("for longer", management, strings.Replace(made.Value, "&20", "&21", 1), 401)
	f("cut short", management, made.Value[:len(made.Value)-4], 401)
	f("as a bearer token", management, strings.Replace(made.Value, "GatewayKey", "Bearer", 1), 401)
	f("the administrator's", management, "Bearer "+b.admin.Reveal(), 401)
	f("nothing", management, "", 401)
	if rec := b.call("GET", "/v1/gateways", model.Secret{}, "", "Authorization", made.Value); rec.Code != http.StatusUnauthorized {
		t.Errorf("the API itself: %d", rec.Code)
	}
	for path, want := range map[string]int{
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/gw/gateways/bank/configuration":    403,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/other/gateways/shop/configuration": 404,
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/gw/gateways/shop/secrets":          404,
		"/subscriptions/s/resourcegroups/g/providers/microsoft.apimanagement/service/gw/configuration":                  200,
		"/subscriptions/s": 404,
	} {
		if rec := b.call("GET", path, model.Secret{}, "", "Authorization", made.Value); rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
	}
}

func TestProtocolV1SendsTheWholeUnlessItIsThere(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	at := configuration.ResourcePath("any", "group", "gw")
	get := func(tag string) (int, http.Header, []byte) {
		rec := b.call("GET", configuration.ConfigurationPath(at, "shop")+"?api-version="+configuration.APIVersion, model.Secret{}, "",
			"Authorization", made.Value, "If-None-Match", tag, configuration.HeaderInstance, "till-1")
		return rec.Code, rec.Header(), rec.Body.Bytes()
	}
	code, h, body := get("")
	d, err := configuration.DecodeDocument(body)
	if err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, body, err)
	}
	if err := d.Verify(b.authority.Root()); err != nil {
		t.Error(err)
	}
	if h.Get("Etag") != `"`+d.Hash()+`"` || h.Get(configuration.HeaderExpires) == "" {
		t.Errorf("header %v", h)
	}
	if strings.Contains(string(body), "payments") {
		t.Error("it tells of another gateway's API")
	}
	if code, _, body := get(h.Get("Etag")); code != http.StatusNotModified || len(body) > 0 {
		t.Errorf("what is there already: %d %s", code, body)
	}
	b.apply(stock(2))
	if code, _, _ := get(h.Get("Etag")); code != http.StatusOK {
		t.Errorf("after a change: %d", code)
	}
	rec := b.call("POST", configuration.HeartbeatPath(at, "shop"), model.Secret{}, `{"version":"v9","instance":"till-1","revision":3}`, "Authorization", made.Value)
	var standing configuration.Standing
	if err := json.Unmarshal(rec.Body.Bytes(), &standing); err != nil || rec.Code != http.StatusOK || standing.Expires.IsZero() || standing.Hash == d.Hash() {
		t.Errorf("heartbeat: %d %s %v", rec.Code, rec.Body, err)
	}
	if is, _ := b.instances("shop"); len(is) != 1 || is[0].Protocol != "v1" || is[0].Version != "v9" || is[0].Current || !is[0].Connected {
		t.Errorf("instances %+v", is)
	}
}

func TestTokensAreWarnedOfBeforeTheirEnd(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	if !made.Expires.After(time.Now().Add(29*24*time.Hour)) || made.Key != token.Primary {
		t.Errorf("made %+v", made.Token)
	}
	b.connect(made.Value) // has the certificate issued while it is today
	b.later.Store(int64(25 * 24 * time.Hour))
	s, res, err := b.dial(management, made.Value)
	if err != nil || s == nil {
		t.Fatal(res, err)
	}
	defer s.Close()
	if !strings.Contains(res.Header.Get(configuration.HeaderWarning), "expires in") {
		t.Errorf("header %v", res.Header)
	}
	b.eventually("a condition warns", func() bool {
		_, conditions := b.instances("shop")
		return slices.Contains(conditions, "TokenNearExpiry")
	})
	b.later.Store(int64(31 * 24 * time.Hour))
	if _, conditions := b.instances("shop"); !slices.Contains(conditions, "TokenExpired") {
		t.Errorf("conditions %v", conditions)
	}
}

func TestAGatewayOfTheSameNameHasKeysOfItsOwn(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	b.call("DELETE", "/v1/selfhosted/shop", b.admin, "")
	b.apply(sites)
	if s, res, err := b.dial(management, made.Value); s != nil || err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a token of the one before: %v %v", res, err)
	}
	again := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	b.connect(again.Value).take(configuration.TypeDocument)
	rec := b.call("GET", "/v1/tokens", b.admin, "")
	if strings.Contains(rec.Body.String(), made.ID) {
		t.Error("a token that opens nothing is listed")
	}
}

func TestTheEndOfThePlaneIsAnnounced(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	s := b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value)
	s.take(configuration.TypeDocument)
	go b.stop()
	if r := s.refusal(); r.Code != configuration.RefuseClosing || r.RetryAfter < 1 {
		t.Errorf("got %+v", r)
	}
}

func TestAStreamAsksForTheUpgrade(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	rec := b.call("GET", configuration.Path, model.Secret{}, "", "Authorization", made.Value)
	if rec.Code != http.StatusUpgradeRequired || rec.Header().Get("Upgrade") != configuration.Upgrade {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

func TestNonsenseEndsTheStream(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	s := b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Value)
	s.take(configuration.TypeDocument)
	if _, err := s.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if r := s.refusal(); r.Code != configuration.RefuseProtocol {
		t.Errorf("got %+v", r)
	}
}

func TestWhereNothingWorksV1IsSetToWhatListens(t *testing.T) {
	const refused, closed = "listen/refused", "sg/no-inbound-rule"
	f := func(want string, works bool, codes ...string) {
		t.Helper()
		links := []wire.ControlLink{{Protocol: "v2", Host: "gw.configuration.x", Port: 443, Code: refused}, {Protocol: "v2", Host: "gw.management.x", Port: 3443, Code: closed}}
		for i, port := range []int{443, 3443} {
			links = append(links, wire.ControlLink{Protocol: "v1", Host: "gw.management.x", Port: port, Code: codes[i], Works: works && i == 1})
		}
		if got := endpoint(links, "v1", "/s"); got != want {
			t.Errorf("%v: %s, want %s", codes, got, want)
		}
		if got := endpoint(links, "v2", ""); got != "gw.configuration.x" {
			t.Errorf("protocol v2 is to begin at %s", got)
		}
	}
	f("https://gw.management.x:3443/s", false, refused, closed)
	f("https://gw.management.x:3443/s", true, closed, "")
	f("https://gw.management.x/s", false, closed, closed)
	f("https://gw.management.x/s", false, refused, refused)
	f("https://gw.management.x/s", false, "", "") // nobody could tell
}

// TestSettingsOfATokenHaveThePortsOfTheInternet moves ports, which holds for who
// is on the internet and not for who is in a Network.
func TestSettingsOfATokenHaveThePortsOfTheInternet(t *testing.T) {
	p := newPlane(t)
	p.opts.PublicPorts = map[uint16]uint16{443: 8443, 3443: 4443}
	b := serveGateways(t, p, sites)
	st := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Settings
	if st.V2 != "gw.configuration.postern.internal:8443" || !strings.HasPrefix(st.V1, "https://gw.management.postern.internal:8443/subscriptions/") {
		t.Errorf("on the internet: %+v", st)
	}
	if st.Links[0].Port != 443 || st.Links[2].Port != 3443 {
		t.Errorf("what explain is asked about has other ports: %+v", st.Links)
	}
	network, _, _ := strings.Cut(world, "---\napiVersion: postern/v1\nkind: Gateway\n")
	b.apply(network + "---" + strings.Replace(sites, "name: shop}\nspec: {", "name: shop}\nspec: {attach: host/laptop, ", 1))
	st = b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"}).Settings
	if st.V2 != "gw.configuration.postern.internal" || st.StandsFor {
		t.Errorf("in a Network: %+v", st)
	}
}

func TestSettingsOfATokenNameWhatWorks(t *testing.T) {
	b := serveGateways(t, newPlane(t), sites)
	made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
	st := made.Settings
	if st == nil || st.Name != "shop" || st.From != "selfhosted/shop" || !st.StandsFor || st.V2 != "gw.configuration.postern.internal" ||
		!strings.HasPrefix(st.V1, "https://gw.management.postern.internal/subscriptions/") || len(st.Links) != 5 {
		t.Errorf("got %+v", st)
	}
	for _, l := range st.Links {
		if l.Code != "selfhosted/shop" { // which is whom the plane of the test was asked about
			t.Errorf("%+v is not as the gateway that calls finds it", l)
		}
	}
	for _, in := range []wire.NewToken{{Subject: "selfhosted/absent"}, {Subject: "host/laptop"}, {Subject: "selfhosted/shop", Lifetime: "721h"}, {Subject: "selfhosted/shop", Key: "third"}} {
		in.Role = "selfhosted"
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if rec := b.call("POST", "/v1/tokens", b.admin, string(body)); rec.Code < 400 || rec.Code >= 500 {
			t.Errorf("%+v: %d %s", in, rec.Code, rec.Body)
		}
	}
}

// TestKeysThatCannotBeReadAreNoDeadEnd damages what is stored, in each way.
func TestKeysThatCannotBeReadAreNoDeadEnd(t *testing.T) {
	for what, damage := range map[string]func(id string) string{
		"garbled":   func(string) string { return `{"id":` },
		"cut short": func(id string) string { return fmt.Sprintf(`{"id":%q,"keys":{"primary":"YQ=="}}`, id) },
	} {
		t.Run(what, func(t *testing.T) {
			b := serveGateways(t, newPlane(t), sites)
			made := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop"})
			g, _ := model.Get[*model.SelfHostedGateway](b.opts.Registry.Head().Set, "shop")
			put := func(k store.Key, data string) {
				t.Helper()
				if _, err := b.opts.Registry.Update(t.Context(), false, func(*registry.Head) (*registry.Edit, error) {
					return &registry.Edit{Puts: []store.Put{{Key: k, IfRevision: store.Any, Data: []byte(data)}}}, nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			put(store.Key{Kind: registry.KindGatewayKey, Name: "shop"}, damage(g.Status.ID))
			put(tokenKey("damaged"), `{"subject":"selfhosted/shop",`)
			for _, key := range token.KeyNames {
				rec := b.call("POST", "/v1/tokens", b.admin, `{"role":"selfhosted","subject":"selfhosted/shop","key":"`+key+`"}`)
				if rec.Code != http.StatusConflict || !strings.Contains(rec.Body.String(), "postern token rotate shop --key primary") {
					t.Errorf("create: %d %s", rec.Code, rec.Body)
				}
			}
			if s, res, err := b.dial(management, made.Value); s != nil || err != nil || res.StatusCode != http.StatusUnauthorized {
				t.Errorf("a token that they signed: %v %v", res, err)
			}
			if a := b.Access("shop"); a.Trouble == "" {
				t.Errorf("explain is told %+v", a)
			}
			if rec := b.call("GET", "/v1/tokens", b.admin, ""); rec.Code != http.StatusConflict || !strings.Contains(rec.Body.String(), "postern token revoke damaged") {
				t.Errorf("list: %d %s", rec.Code, rec.Body)
			}
			// An enrolment needs no key.
			enrolment := b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Enrol: true})
			if code, _ := b.enrolAs(newIdentity(t), configuration.EnrolScheme+" "+enrolment.Value); code != http.StatusOK {
				t.Errorf("enrol: %d", code)
			}
			rec := b.call("POST", "/v1/selfhostedgateways/shop/rotate", b.admin, `{"key":"third"}`)
			if rec.Code < 400 || rec.Code >= 500 {
				t.Errorf("rotate what is no key: %d %s", rec.Code, rec.Body)
			}
			rec = b.call("POST", "/v1/selfhostedgateways/shop/rotate", b.admin, `{"key":"primary"}`)
			if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"both":true`) {
				t.Fatalf("rotate: %d %s", rec.Code, rec.Body)
			}
			for _, key := range token.KeyNames {
				b.connect(b.gatewayToken(wire.NewToken{Subject: "selfhosted/shop", Key: key}).Value).take(configuration.TypeDocument)
			}
			if a := b.Access("shop"); a.Trouble != "" || len(a.Credentials) != 3 {
				t.Errorf("then explain is told %+v", a)
			}
		})
	}
}

func TestATokenThatCannotBeReadIsRevoked(t *testing.T) {
	p := newPlane(t)
	if _, err := p.opts.Registry.Update(t.Context(), false, func(*registry.Head) (*registry.Edit, error) {
		return &registry.Edit{Puts: []store.Put{{Key: tokenKey("damaged"), IfRevision: store.Any, Data: []byte("{")}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if rec := p.call("DELETE", "/v1/tokens/damaged", p.admin, ""); rec.Code != http.StatusNoContent {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := p.call("GET", "/v1/tokens", p.admin, ""); rec.Code != http.StatusOK {
		t.Errorf("list: %d %s", rec.Code, rec.Body)
	}
}
