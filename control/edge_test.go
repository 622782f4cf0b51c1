// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
	"postern.dev/postern/store/mem"
)

func TestEveryKindOfErrorHasAStatus(t *testing.T) {
	if len(outcomes) != len(model.ErrorKinds) {
		t.Errorf("%d kinds in the table, %d exist", len(outcomes), len(model.ErrorKinds))
	}
	for _, k := range model.ErrorKinds {
		o, ok := outcomes[k]
		if !ok {
			t.Errorf("%s is not in the table", k)
			continue
		}
		p := problemOf(&model.Error{Kind: k, Msg: "m"}, "id")
		if p.Status != o.status || p.Kind() != k {
			t.Errorf("%s: status %d, comes back as %s", k, p.Status, p.Kind())
		}
	}
}

func TestUnknownErrorIsHiddenAndLogged(t *testing.T) {
	p := newPlane(t)
	p.opts.Verify = func(context.Context, World) ([]wire.TestResult, error) {
		return nil, errors.New("open /var/lib/secret-place: no such file")
	}
	rec := p.call("POST", "/v1/verify", p.admin, "")
	if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "secret-place") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	id := rec.Header().Get("X-Postern-Request-Id")
	if id == "" || !strings.Contains(rec.Body.String(), id) {
		t.Errorf("the answer does not name request %q: %s", id, rec.Body)
	}
	if log := p.log.String(); !strings.Contains(log, "secret-place") || !strings.Contains(log, id) {
		t.Error("the log does not say what failed under that request")
	}
}

func TestRefusalIsAProblem(t *testing.T) {
	p := newPlane(t)
	rec := p.call("GET", "/v1/networks/none", p.admin, "")
	var got wire.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if rec.Header().Get("Content-Type") != wire.ProblemType || got.Status != 404 || rec.Code != 404 || got.Title == "" || got.Detail == "" ||
		!strings.HasPrefix(got.Instance, "urn:postern:request:") || len(got.Errors) != 1 || got.Errors[0].Ref.Name != "none" {
		t.Errorf("%d %s %+v", rec.Code, rec.Header(), got)
	}
}

func TestBodiesAreStrictAndBounded(t *testing.T) {
	p := newPlane(t)
	type want struct {
		status int
		says   string
	}
	for body, w := range map[string]want{
		`{"role":"viewer","rolle":"x"}`:    {400, "did you mean"},
		`{"role":"viewer","role":"admin"}`: {400, "role"},
		`{"role":"viewer"} {}`:             {400, "one JSON value"},
		`{"role":`:                         {400, ""},
		`{"role":1}`:                       {400, "want text"},
		`[]`:                               {400, "want"},
		"{\"role\":\"" + strings.Repeat("x", maxBody) + "\"}": {413, "bytes"},
		strings.Repeat("[", 5000):                             {400, ""},
	} {
		rec := p.call("POST", "/v1/tokens", p.admin, body)
		if rec.Code != w.status || !strings.Contains(rec.Body.String(), w.says) {
			t.Errorf("%.60q: %d %s", body, rec.Code, rec.Body)
		}
	}
	if rec := p.call("POST", "/v1/tokens", p.admin, `{"role":"viewer"}`, "Content-Type", "text/plain"); rec.Code != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d", rec.Code)
	}
	for _, bad := range []string{`{}`, `{"resources":{}}`, `{"resources":[],"more":1}`, `{"resources":[{"kind":"Networt"}]}`, `{"resources":[1]}`} {
		if rec := p.call("POST", "/v1/apply", p.admin, bad); rec.Code != 400 {
			t.Errorf("apply %s: %d", bad, rec.Code)
		}
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"loopback":            {[]string{"Host", "127.0.0.1:3443"}, 200},
		"IPv6 loopback":       {[]string{"Host", "[::1]:3443"}, 200},
		"localhost":           {[]string{"Host", "localhost:3443"}, 200},
		"management name":     {[]string{"Host", "gw.management.postern.internal"}, 200},
		"other Gateway":       {[]string{"Host", "none.management.postern.internal"}, 403},
		"rebound name":        {[]string{"Host", "evil.example.com:3443"}, 403},
		"own origin":          {[]string{"Host", "localhost:3443", "Origin", "https://localhost:3443"}, 200},
		"foreign origin":      {[]string{"Origin", "https://evil.example.com"}, 403},
		"no origin":           {[]string{"Origin", "null"}, 403},
		"fetch of other site": {[]string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		rec := p.call("GET", "/v1/networks", p.admin, "", c.headers...)
		if rec.Code != c.want {
			t.Errorf("%s: %d, want %d", name, rec.Code, c.want)
		}
		if rec.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: CORS is allowed", name)
		}
	}
}

func TestPathThatIsNotThereIsAProblem(t *testing.T) {
	p := newPlane(t)
	for path, want := range map[string]int{
		"/": 404, "/v1": 404, "/v2/networks": 404, "/v1/networts": 404, "/v1/Networks": 404, "/v1/networks/a/b": 404,
		"/v1//networks": 404, "/v1/../v1/networks": 404,
	} {
		rec := p.call("GET", path, p.admin, "")
		if rec.Code != want || rec.Header().Get("Content-Type") != wire.ProblemType {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Header().Get("Content-Type"))
		}
	}
	rec := p.call("PATCH", "/v1/networks/a", p.admin, "")
	if rec.Code != http.StatusMethodNotAllowed || !strings.Contains(rec.Header().Get("Allow"), "PUT") || rec.Header().Get("Content-Type") != wire.ProblemType {
		t.Errorf("PATCH: %d, Allow %q", rec.Code, rec.Header().Get("Allow"))
	}
}

func TestTooManyRequestsAreRefused(t *testing.T) {
	p := newPlane(t)
	for range maxRequests {
		p.slots <- struct{}{}
	}
	if rec := p.call("GET", "/v1/networks", p.admin, ""); rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") == "" {
		t.Errorf("%d", rec.Code)
	}
	<-p.slots
	if rec := p.call("GET", "/v1/networks", p.admin, ""); rec.Code != 200 {
		t.Errorf("with a slot free: %d", rec.Code)
	}
}

func TestWithoutTheStoreReadsGoOnAndWritesSay(t *testing.T) {
	s := mem.New(store.Limits{})
	p := newPlaneOn(t, s)
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	if h, err := c.Ready(t.Context()); err != nil || h.Status != "ready" {
		t.Errorf("before: %+v, %v", h, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	rec := p.call("DELETE", "/v1/hosts/laptop", p.admin, "")
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "store") {
		t.Errorf("a write: %d %s", rec.Code, rec.Body)
	}
	if _, err := c.Get(t.Context(), model.Ref{Kind: model.KindHost, Name: "laptop"}); err != nil {
		t.Errorf("a read: %v", err)
	}
	if h, err := c.Ready(t.Context()); err != nil || h.Status == "ready" {
		t.Errorf("readiness: %+v, %v", h, err)
	}
}

func TestOpenAPIDocumentIsValidAndHasEveryRoute(t *testing.T) {
	p := newPlane(t)
	rec := p.call("GET", "/v1/openapi.json", model.Secret{}, "")
	doc, err := openapi3.NewLoader().LoadFromData(rec.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	n := 0
	for _, rt := range p.routes {
		kinds := []model.Kind{""}
		if rt.perKind {
			kinds = model.Kinds
		}
		for _, k := range kinds {
			path := strings.Replace(rt.path, "{kind}", k.Plural(), 1)
			item := doc.Paths.Find(path)
			if item == nil || item.GetOperation(rt.method) == nil {
				t.Errorf("%s %s is not in the document", rt.method, path)
				continue
			}
			op := item.GetOperation(rt.method)
			if ids[op.OperationID] {
				t.Errorf("operationId %s stands twice", op.OperationID)
			}
			ids[op.OperationID] = true
			n++
		}
	}
	all := 0
	for _, item := range doc.Paths.Map() {
		all += len(item.Operations())
	}
	if all != n {
		t.Errorf("%d operations in the document, %d routes", all, n)
	}
}

func TestServerPresentsTheCertificateOfTheNameCalled(t *testing.T) {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), read(t, world), false); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	shake := func(name string, versions ...uint16) error {
		cfg := &tls.Config{ServerName: name, RootCAs: p.authority.Pool()}
		if len(versions) > 0 {
			cfg.MaxVersion = versions[0]
		}
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", l.Addr().String(), cfg)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	for _, name := range []string{"127.0.0.1", "localhost", "gw.management.postern.internal"} {
		if err := shake(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"gw.postern.internal", "other.management.postern.internal", "example.com"} {
		if shake(name) == nil {
			t.Errorf("%s has a certificate at the management listener", name)
		}
	}
	if shake("localhost", tls.VersionTLS11) == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestNamesThatAreServedGetCertificates(t *testing.T) {
	p := newPlane(t)
	domain := "---\napiVersion: postern/v1\nkind: Stage\nmetadata: {name: pets.prod}\n---\napiVersion: postern/v1\nkind: Domain\nmetadata: {name: \"*.shop.example\"}\nspec: {type: regional, mappings: [{api: pets, stage: prod}]}\n"
	if _, err := p.client(p.admin).Apply(t.Context(), read(t, world+domain), false); err != nil {
		t.Fatal(err)
	}
	s := p.served.Load()
	for name, want := range map[string]bool{
		"gw.postern.internal": true, "gw.management.postern.internal": true, "gw.configuration.postern.internal": true,
		"gw.portal.postern.internal": true, "gw.scm.postern.internal": true, s.APIs["pets"].Host: true, s.Endpoints["corp-ep"].Host: true,
		"eu.shop.example": true,
		"shop.example":    false, "a.b.shop.example": false, "x.postern.internal": false, "x.management.postern.internal": false,
		"gw.other.postern.internal": false, "": false, "example": false,
	} {
		if got := Serves(s, name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// TestNoSecretShows looks for secrets wherever the server speaks.
func TestNoSecretShows(t *testing.T) {
	p := newPlane(t)
	leaf, err := p.authority.Issue(time.Now(), []string{"shop.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(leaf.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}))
	d := &model.Domain{}
	d.Metadata.Name = "shop.example"
	d.Spec = model.DomainSpec{
		Type: model.Regional, Mappings: []model.Mapping{{API: "pets", Stage: "prod"}},
		TLS: &model.DomainTLS{Certificate: cert, Key: model.NewSecret(key)},
	}
	st := &model.Stage{}
	st.Metadata.Name = "pets.prod"
	c := p.client(p.admin)
	if _, err := c.Apply(t.Context(), append(read(t, world), st, d), false); err != nil {
		t.Fatal(err)
	}
	if got, _, ok := Given(p.served.Load(), "shop.example"); !ok || got != cert {
		t.Fatal("the certificate that was given is not served")
	}
	r, err := c.Get(t.Context(), model.RefOf(d))
	if err != nil {
		t.Fatal(err)
	}
	// What was read is written back, and the key is still there.
	body, err := json.Marshal(map[string]any{"apiVersion": r.APIVersion, "kind": r.Kind, "metadata": map[string]any{"name": r.Metadata.Name, "labels": map[string]string{"a": "b"}}, "spec": r.Spec})
	if err != nil {
		t.Fatal(err)
	}
	put := p.call("PUT", "/v1/domains/shop.example", p.admin, string(body))
	if put.Code != 200 {
		t.Fatalf("written back: %d %s", put.Code, put.Body)
	}
	if _, got, _ := Given(p.served.Load(), "shop.example"); got.Reveal() != key {
		t.Error("writing back what was read lost the key")
	}

	hub := p.served.Load().Networks["corp"].Hub.PrivateKey.Reveal()
	secrets := map[string]string{"the given key": strings.Split(key, "\n")[1], "the admin token": p.admin.Reveal(), "the hub's key": hub}
	said := map[string]string{"the log": ""}
	for _, path := range []string{"/v1/domains/shop.example", "/v1/domains", "/v1/networks", "/v1/tokens", "/v1/openapi.json"} {
		said["GET "+path] = p.call("GET", path, p.admin, "").Body.String()
	}
	bad := strings.Replace(string(body), `"type":"regional"`, `"type":"wrong"`, 1)
	bad = strings.Replace(bad, "[redacted]", strings.ReplaceAll(key, "\n", "\\n"), 1)
	refused := p.call("PUT", "/v1/domains/shop.example", p.admin, bad)
	if refused.Code != 400 {
		t.Errorf("a wrong type: %d", refused.Code)
	}
	said["a refusal"] = refused.Body.String()
	said["the plan"] = p.call("POST", "/v1/plan", p.admin, `{"resources":[`+string(body)+`]}`).Body.String()
	said["an unknown token"] = p.call("GET", "/v1/networks", model.NewSecret(p.admin.Reveal()+"x"), "").Body.String()
	said["a snapshot printed"] = fmt.Sprintf("%v %+v", *p.served.Load().Networks["corp"], p.served.Load().Networks["corp"].Hub)
	said["the log"] = p.log.String()
	for where, text := range said {
		if text == "" {
			t.Errorf("%s says nothing", where)
		}
		for what, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows in %s", what, where)
			}
		}
	}
}

func TestPanicIsAProblemAndIsLogged(t *testing.T) {
	p := newPlane(t)
	p.opts.Verify = func(context.Context, World) ([]wire.TestResult, error) { panic("at the disco") }
	rec := p.call("POST", "/v1/verify", p.admin, "")
	if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "disco") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if !strings.Contains(p.log.String(), "disco") {
		t.Error("the log does not tell")
	}
}

func TestLargeBodiesWaitForEachOther(t *testing.T) {
	p := newPlane(t)
	for range maxLarge {
		p.large <- struct{}{}
	}
	big := `{"resources":[]` + strings.Repeat(" ", maxBody) + `}`
	done := make(chan int, 1)
	go func() { done <- p.call("POST", "/v1/apply", p.admin, big).Code }()
	if rec := p.call("POST", "/v1/apply", p.admin, `{"resources":[]}`); rec.Code != 200 {
		t.Errorf("a small one meanwhile: %d", rec.Code)
	}
	select {
	case code := <-done:
		t.Errorf("a large one without a slot: %d", code)
	default:
	}
	<-p.large
	if code := <-done; code != 200 {
		t.Errorf("with a slot: %d", code)
	}
	if n := len(p.large); n != maxLarge-1 {
		t.Errorf("%d slots are held after it", n)
	}
}

func TestFewQuestionsAreAnsweredAtOnce(t *testing.T) {
	p := newPlane(t)
	asked, goOn := make(chan struct{}, 10), make(chan struct{})
	p.opts.Verify = func(context.Context, World) ([]wire.TestResult, error) {
		asked <- struct{}{}
		<-goOn
		return nil, nil
	}
	done := make(chan int, maxHeavy+1)
	for range maxHeavy + 1 {
		go func() { done <- p.call("POST", "/v1/verify", p.admin, "").Code }()
	}
	for range maxHeavy {
		<-asked
	}
	if rec := p.call("GET", "/v1/networks", p.admin, ""); rec.Code != 200 {
		t.Errorf("a read meanwhile: %d", rec.Code)
	}
	if len(asked) != 0 {
		t.Error("one more than the bound runs")
	}
	close(goOn)
	for range maxHeavy + 1 {
		if code := <-done; code != 200 {
			t.Errorf("a question: %d", code)
		}
	}
}
