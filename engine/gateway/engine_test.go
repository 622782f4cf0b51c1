// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.dev/postern/compile/iam"
	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	region  = "eu-1"
	base    = "postern.internal"
	privID  = "privateapi"
	pubID   = "publicapi1"
	vpce    = "vpce-0123456789abcdef0"
	restOf  = ".execute-api." + region + "." + base
	uuidLen = 36
	// remembered is how many requests the engine remembers.
	remembered = 32
)

// lab is an Engine with one Gateway, a private and a public API and an
// Endpoint.
type lab struct {
	*gateway.Engine
	s    *snapshot.Snapshot
	g    *snapshot.Gateway
	corp *snapshot.Endpoint
	priv *snapshot.API
	pub  *snapshot.API
	ca   *authority
	dial func(ctx context.Context, network, host string, port uint16) (net.Conn, error)
}

func newLab(t testing.TB, document string) *lab {
	t.Helper()
	return newLabWith(t, document, func(*gateway.Options) {})
}

// newLabWith is newLab with an Engine of other options.
func newLabWith(t testing.TB, document string, more func(*gateway.Options)) *lab {
	t.Helper()
	l := &lab{ca: newAuthority(t)}
	o := gateway.Options{
		Certificate: l.ca.certificate,
		Roots:       l.ca.pool,
		Recent:      remembered,
		Management:  l.management,
		Challenge:   challenges{l.ca},
		Dial: func(ctx context.Context, _, network, host string, port uint16) (net.Conn, error) {
			return l.dial(ctx, network, host, port)
		},
	}
	more(&o)
	l.Engine = gateway.New(o)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	l.g = &snapshot.Gateway{
		Name: "main", Region: region, Host: "main." + base, PublicAccess: true,
		Public: []netip.Addr{public.Addr()}, Configuration: []netip.Addr{configuration.Addr()},
		PublicPorts: map[uint16]snapshot.Components{
			443:  {snapshot.ComponentGateway, snapshot.ComponentManagement, snapshot.ComponentPortal, snapshot.ComponentSCM},
			3443: {snapshot.ComponentManagement},
		},
		ConfigurationPorts: map[uint16]snapshot.Components{443: {snapshot.ComponentConfiguration}},
		Hosts:              map[string]*snapshot.Host{}, APIs: map[string]*snapshot.API{},
	}
	l.g.Hosts[l.g.Host] = &snapshot.Host{Kind: snapshot.HostOwn, Name: l.g.Host}
	for _, c := range []snapshot.Component{snapshot.ComponentManagement, snapshot.ComponentConfiguration, snapshot.ComponentPortal, snapshot.ComponentSCM} {
		name := "main." + string(c) + "." + base
		l.g.Hosts[name] = &snapshot.Host{Kind: snapshot.HostComponent, Name: name, Component: c}
	}
	corp := &snapshot.Network{Name: "corp", ID: "vpc-1"}
	l.corp = &snapshot.Endpoint{Name: "corp", ID: vpce, Gateway: l.g, Network: corp, Host: vpce + "-abcdefgh.execute-api." + region + ".vpce." + base}
	l.g.Hosts[l.corp.Host] = &snapshot.Host{Kind: snapshot.HostEndpoint, Name: l.corp.Host, Endpoint: l.corp}
	l.s = &snapshot.Snapshot{
		Revision: 7, Base: base,
		Gateways:  map[string]*snapshot.Gateway{"main": l.g},
		Endpoints: map[string]*snapshot.Endpoint{"corp": l.corp},
		Internet:  snapshot.Internet{Gateways: map[netip.Addr]*snapshot.Gateway{public.Addr(): l.g, configuration.Addr(): l.g}},
		Backends: map[string]*snapshot.Backend{
			"store": {Name: "store", Protocol: "http", Network: corp, Targets: []snapshot.Target{{Host: "10.1.0.20", Port: 8080, Weight: 1}}},
			"safe":  {Name: "safe", Protocol: "https", Targets: []snapshot.Target{{Host: "safe.example", Port: 443, Weight: 1}}},
		},
	}
	d, err := openapi.Import([]byte(document), openapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := iam.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Deny","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*","Condition":{"StringNotEquals":{"aws:sourceVpce":"`+vpce+`"}}},
		{"Effect":"Allow","Principal":"*","Action":"execute-api:Invoke","Resource":"execute-api:/*/*/*"}]}`),
		iam.Options{Region: region, Account: "000000000000", API: privID})
	if err != nil {
		t.Fatal(err)
	}
	api := func(id, kind string, dep *snapshot.Deployment) *snapshot.API {
		a := &snapshot.API{Name: id, ID: id, Type: kind, Gateway: l.g, Host: id + restOf, Stages: map[string]*snapshot.Stage{}}
		a.Stages["prod"] = &snapshot.Stage{Name: "prod", API: a, Deployment: dep, Variables: map[string]string{"host": "by-variable.example", "color": "red"}}
		l.g.APIs[id] = a
		l.g.Hosts[a.Host] = &snapshot.Host{Kind: snapshot.HostExecuteAPI, Name: a.Host, API: a}
		return a
	}
	l.priv = api(privID, model.Private, &snapshot.Deployment{Number: 1, Policy: policy, Operations: d.Table})
	l.pub = api(pubID, model.Regional, &snapshot.Deployment{Number: 1, Operations: d.Table})
	l.Swap(l.s)
	return l
}

var (
	public        = netip.MustParseAddrPort("198.18.0.10:443")
	configuration = netip.MustParseAddrPort("198.18.0.11:443")
	private       = netip.MustParseAddrPort("10.1.0.4:443")
)

// connect opens a connection to the engine: through the Endpoint, or to the
// public address.
func (l *lab) connect(t testing.TB, through bool, port uint16) net.Conn {
	t.Helper()
	o := &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000"), Local: netip.AddrPortFrom(public.Addr(), port)}
	if through {
		o = &snapshot.Origin{Network: "corp", Endpoint: "corp", Host: "laptop", Source: netip.MustParseAddrPort("10.1.0.9:50000"), Local: private}
	}
	client, server := loopback(t)
	var done sync.WaitGroup
	done.Go(func() { l.ServeConn(context.Background(), server, o) })
	t.Cleanup(func() { client.Close(); done.Wait() })
	return client
}

func loopback(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// get sends one request and reads the answer.
func (l *lab) get(t testing.TB, through bool, method, url string, header map[string]string, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			r.Host = v
			continue
		}
		r.Header.Set(k, v)
	}
	c := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: l.ca.pool},
			DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				port := uint16(443)
				if strings.HasSuffix(addr, ":80") {
					port = 80
				}
				return l.connect(t, through, port), nil
			},
			DisableKeepAlives: true,
		},
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// authority signs certificates for the tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
	mu   sync.Mutex
	made map[string]*tls.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: cert, pool: x509.NewCertPool(), made: map[string]*tls.Certificate{}}
	a.pool.AddCert(cert)
	return a
}

func (a *authority) certificate(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.made[name]; c != nil {
		return c, nil
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(a.made) + 2)), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
	a.made[name] = c
	return c, nil
}

func TestThePetstoreThroughAnEndpoint(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	for _, x := range []struct {
		name, method, url string
		header            map[string]string
		body              string
		status            int
		want, contentType string
	}{
		{
			name: "list", url: "https://" + l.priv.Host + "/prod/pets", status: 200, contentType: "application/json",
			want: `[{"id":1,"type":"dog","price":249.99},{"id":2,"type":"cat","price":124.99},{"id":3,"type":"fish","price":0.99}]`,
		},
		{
			name: "by id header", url: "https://" + l.corp.Host + "/prod/pets?type=cat", header: map[string]string{"x-apigw-api-id": privID}, status: 200,
			want: `[{"id":2,"type":"cat","price":124.99}]`,
		},
		{
			name: "by Host", url: "https://" + l.corp.Host + "/prod/pets?page=2", header: map[string]string{"Host": l.priv.Host}, status: 200,
			want: `[{"id":4,"type":"bird","price":29.5},{"id":5,"type":"gecko","price":19.95},{"id":6,"type":"dog","price":399}]`,
		},
		{name: "one", url: "https://" + l.priv.Host + "/prod/pets/3", status: 200, want: `{"id":3,"type":"fish","price":0.99}`},
		{name: "no such pet", url: "https://" + l.priv.Host + "/prod/pets/99", status: 404, want: `{"message":"No pet has the id 99"}`},
		{name: "page beyond", url: "https://" + l.priv.Host + "/prod/pets?page=99", status: 200, want: `[]`},
		{name: "new pet", method: "POST", url: "https://" + l.priv.Host + "/prod/pets", body: `{"type":"cat","price":1}`, status: 200, want: `{"message":"success","pet":{"id":7,"type":"cat","price":1}}`},
		{name: "bad pet", method: "POST", url: "https://" + l.priv.Host + "/prod/pets", body: `{`, status: 400},
		{name: "welcome", url: "https://" + l.priv.Host + "/prod", status: 200, contentType: "text/html; charset=utf-8"},
		{name: "preflight", method: "OPTIONS", url: "https://" + l.priv.Host + "/prod/pets", status: 200, want: ""},
		{name: "no id", url: "https://" + l.corp.Host + "/prod/pets", status: 403, want: `{"message":"Forbidden"}`},
		{name: "no route", url: "https://" + l.priv.Host + "/prod/dogs", status: 403, want: `{"message":"Missing Authentication Token"}`},
		{name: "no stage", url: "https://" + l.priv.Host + "/pets", status: 403, want: `{"message":"Forbidden"}`},
		{name: "public API", url: "https://" + l.pub.Host + "/prod/pets", status: 403, want: `{"message":"Forbidden"}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			method := x.method
			if method == "" {
				method = "GET"
			}
			res, body := l.get(t, true, method, x.url, x.header, x.body)
			if res.StatusCode != x.status || x.want != "" && body != x.want {
				t.Errorf("%d %s", res.StatusCode, body)
			}
			if ct := res.Header.Get("Content-Type"); x.contentType != "" && ct != x.contentType {
				t.Errorf("Content-Type %s", ct)
			}
			id := res.Header.Get("x-postern-request-id")
			if len(id) != uuidLen || res.Header.Get("x-amzn-RequestId") != id || len(res.Header.Get("x-amz-apigw-id")) != 16 {
				t.Errorf("ids: %v", res.Header)
			}
			if res.StatusCode == 403 == (res.Header.Get("X-Amzn-Trace-Id") != "") || res.StatusCode == 403 == (res.Header.Get("x-amzn-ErrorType") == "") {
				t.Errorf("trace and error type: %v", res.Header)
			}
			r, ok := l.Recent(id)
			if !ok || r.Status != x.status || r.Method != method || r.Revision != 7 || r.Origin.Host != "laptop" || !strings.HasSuffix(x.url, r.Path) {
				t.Errorf("remembered: %v %+v", ok, r)
			}
		})
	}
}

func TestAnswersFollowASwapOnOneConnection(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	c := tls.Client(l.connect(t, true, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: l.priv.Host})
	in := bufio.NewReader(c)
	ask := func() int {
		fmt.Fprintf(c, "GET /prod/pets HTTP/1.1\r\nHost: %s\r\n\r\n", l.priv.Host)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	if got := ask(); got != 200 {
		t.Fatalf("before: %d", got)
	}
	next := *l.s
	next.Endpoints = map[string]*snapshot.Endpoint{}
	l.Swap(&next)
	if got := ask(); got != 403 {
		t.Errorf("after the Endpoint is gone: %d", got)
	}
}

func TestHTTP1IsAllThatIsOffered(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	c := tls.Client(l.connect(t, true, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: l.priv.Host, NextProtos: []string{"h2", "http/1.1"}})
	if err := c.Handshake(); err != nil || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("%v, %q", err, c.ConnectionState().NegotiatedProtocol)
	}
	old := tls.Client(l.connect(t, true, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: l.priv.Host, MaxVersion: tls.VersionTLS11})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.1 was taken")
	}
}

func TestANameThatIsNotServed(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	c := tls.Client(l.connect(t, true, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: "lb.example"})
	var wrong x509.HostnameError
	if err := c.Handshake(); !errors.As(err, &wrong) {
		t.Errorf("a verifying caller: %v", err)
	}
	// On an address that several Gateways share there is no default.
	o := &snapshot.Origin{Source: public, Local: netip.MustParseAddrPort("203.0.113.5:443")}
	for name, served := range map[string]bool{"lb.example": false, "": false, l.pub.Host: true, l.g.Host: true} {
		client, server := loopback(t)
		var done sync.WaitGroup
		done.Go(func() { l.ServeConn(context.Background(), server, o) })
		err := tls.Client(client, &tls.Config{RootCAs: l.ca.pool, ServerName: name, InsecureSkipVerify: true}).Handshake()
		if (err == nil) != served {
			t.Errorf("shared address, %q: %v", name, err)
		}
		client.Close()
		done.Wait()
	}
}

func TestWithoutConfigurationNobodyIsAnswered(t *testing.T) {
	e := gateway.New(gateway.Options{})
	defer e.Close()
	client, server := loopback(t)
	defer client.Close()
	if err := e.ServeConn(context.Background(), server, &snapshot.Origin{}); !errors.Is(err, gateway.ErrNoSnapshot) {
		t.Error(err)
	}
}

func TestClearText(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	// By an address that Gateways share, port 80 may be another's.
	client, server := loopback(t)
	var done sync.WaitGroup
	o := &snapshot.Origin{Source: public, Local: netip.MustParseAddrPort("203.0.113.5:80")}
	done.Go(func() { l.ServeConn(context.Background(), server, o) })
	fmt.Fprintf(client, "GET /prod/pets HTTP/1.1\r\nHost: %s\r\n\r\n", l.pub.Host)
	if line, err := bufio.NewReader(client).ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("http off, but served in clear: %q, %v", line, err)
	}
	client.Close()
	done.Wait()
	l.g.HTTP = "redirect"
	res, _ := l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/pets?page=2", nil, "")
	if res.StatusCode != 308 || res.Header.Get("Location") != "https://"+l.pub.Host+"/prod/pets?page=2" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	l.g.HTTP = "serve"
	if res, _ := l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/pets", nil, ""); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
}

// backend is a plain HTTP backend that tells what it was asked.
func backend(t testing.TB, l *lab) {
	t.Helper()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Server", "origin/1")
		w.Header().Set("X-Reply", "yes")
		if r.URL.Path == "/status" {
			w.WriteHeader(418)
		}
		fmt.Fprintf(w, `{"asked":"%s %s %s","body":%q,"auth":%q,"xff":%q,"api":%q}`, r.Method, r.Host, r.URL.RequestURI(), b,
			r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-For"), r.Header.Get("x-amzn-apigateway-api-id"))
	})
	plain, safe := httptest.NewServer(h), httptest.NewUnstartedServer(h)
	other, err := l.ca.certificate("safe.example")
	if err != nil {
		t.Fatal(err)
	}
	safe.TLS = &tls.Config{Certificates: []tls.Certificate{*other}}
	safe.StartTLS()
	t.Cleanup(func() { plain.Close(); safe.Close() })
	l.dial = func(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
		switch {
		case host == "refused.example":
			return nil, upstream.ErrRefused
		case host == "silent.example":
			<-ctx.Done()
			return nil, ctx.Err()
		case port == 443:
			return new(net.Dialer).DialContext(ctx, "tcp", safe.Listener.Addr().String())
		case network == "corp" && host != "10.1.0.20":
			return nil, upstream.ErrUnreachable
		}
		return new(net.Dialer).DialContext(ctx, "tcp", plain.Listener.Addr().String())
	}
}

func TestBackends(t *testing.T) {
	op := func(in string) string { return `{"x-amazon-apigateway-integration":` + in + `}` }
	l := newLab(t, `{"openapi":"3.0.1","paths":{
		"/proxy/{proxy+}":{"x-amazon-apigateway-any-method":`+op(`{"type":"http_proxy","uri":"http://up.example/base/{proxy}"}`)+`},
		"/store/{id}":{"get":`+op(`{"type":"http_proxy","uri":"backend://store/v1/{id}"}`)+`},
		"/safe":{"get":`+op(`{"type":"http_proxy","uri":"backend://safe/v1?k=1"}`)+`},
		"/other":{"get":`+op(`{"type":"http_proxy","uri":"https://other.example/"}`)+`},
		"/trusting":{"get":`+op(`{"type":"http_proxy","uri":"https://other.example/","tlsConfig":{"insecureSkipVerification":true}}`)+`},
		"/variable":{"get":`+op(`{"type":"http_proxy","uri":"http://${stageVariables.host}/v"}`)+`},
		"/novariable":{"get":`+op(`{"type":"http_proxy","uri":"http://${stageVariables.none}/v"}`)+`},
		"/nobackend":{"get":`+op(`{"type":"http_proxy","uri":"backend://gone/"}`)+`},
		"/none":{"get":{}},
		"/refused":{"get":`+op(`{"type":"http_proxy","uri":"http://refused.example/"}`)+`},
		"/silent":{"get":`+op(`{"type":"http_proxy","uri":"http://silent.example/","timeoutInMillis":50}`)+`},
		"/mapped/{id}":{"post":`+op(`{"type":"http","httpMethod":"PUT","uri":"http://up.example/m/{key}",
			"requestParameters":{"integration.request.path.key":"method.request.querystring.key","integration.request.querystring.id":"method.request.path.id","integration.request.header.Authorization":"'static'"},
			"requestTemplates":{"application/json":"{\"name\":$input.json('$.user.name'),\"stage\":\"$context.stage\",\"color\":\"$stageVariables.color\",\"id\":\"$input.params('id')\"}"},
			"responses":{"2\\d{2}":{"statusCode":"201","responseParameters":{"method.response.header.X-Up":"integration.response.header.X-Reply","method.response.header.X-Asked":"integration.response.body.asked"},"responseTemplates":{"application/json":"{\"got\":$input.json('$')}"}},
			"418":{"statusCode":"409"}}}`)+`},
		"/unmapped":{"get":`+op(`{"type":"http","uri":"http://up.example/status","responses":{"200":{"statusCode":"200"}}}`)+`},
		"/teapot":{"get":`+op(`{"type":"http","uri":"http://up.example/status","responses":{"4..":{"statusCode":"409"},"default":{"statusCode":"200"}}}`)+`},
		"/never":{"post":`+op(`{"type":"http","uri":"http://up.example/","passthroughBehavior":"never","responses":{"default":{"statusCode":"200"}}}`)+`},
		"/mock":{"get":`+op(`{"type":"mock","requestTemplates":{"application/json":"{\"statusCode\": 404}"},"responses":{"404":{"statusCode":"404","responseTemplates":{"text/plain":"at $context.resourcePath"}},"default":{"statusCode":"200"}}}`)+`},
		"/badmock":{"get":`+op(`{"type":"mock","requestTemplates":{"application/json":"{}"},"responses":{"default":{"statusCode":"200"}}}`)+`}
	}}`)
	backend(t, l)
	asked := func(line, body, auth string) string {
		return fmt.Sprintf(`{"asked":"%s","body":%q,"auth":%q,"xff":"10.1.0.9","api":"privateapi"}`, line, body, auth)
	}
	const (
		network  = `{"message": "Network error communicating with endpoint"}`
		timedOut = `{"message": "Endpoint request timed out"}`
		internal = `{"message": "Internal server error"}`
	)
	for _, x := range []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		want, code               string
		check                    func(*testing.T, http.Header)
	}{
		{
			name: "proxy", method: "POST", path: "/proxy/a/b%2fc?x=1&y", body: "hello", header: map[string]string{"Authorization": "Bearer t", "X-Forwarded-For": "1.2.3.4"},
			status: 200, want: asked("POST up.example /base/a/b%2Fc?x=1&y", "hello", "Bearer t"), check: func(t *testing.T, h http.Header) {
				if h.Get("X-Reply") != "yes" || h.Get("x-amzn-Remapped-Server") != "origin/1" || h.Get("x-amzn-Remapped-Date") == "" || h.Get("Server") != "" {
					t.Errorf("%v", h)
				}
			},
		},
		{name: "signature stays here", path: "/proxy/a", header: map[string]string{"Authorization": "AWS4-HMAC-SHA256 x"}, status: 200, want: asked("GET up.example /base/a", "", "")},
		{name: "Backend in a Network", path: "/store/7?q=2", status: 200, want: asked("GET 10.1.0.20:8080 /v1/7?q=2", "", "")},
		{name: "Backend over TLS", path: "/safe?q=2", status: 200, want: asked("GET safe.example /v1?k=1&q=2", "", "")},
		{name: "certificate of another name", path: "/other", status: 500, want: internal, code: "backend/tls"},
		{name: "certificate not verified", path: "/trusting", status: 200, want: asked("GET other.example /", "", "")},
		{name: "Stage variable", path: "/variable", status: 200, want: asked("GET by-variable.example /v", "", "")},
		{name: "no such variable", path: "/novariable", status: 500, want: internal, code: "backend/none"},
		{name: "no such Backend", path: "/nobackend", status: 500, want: internal, code: "backend/none"},
		{name: "no backend at all", path: "/none", status: 500, want: internal, code: "backend/none"},
		{name: "refused", path: "/refused", status: 504, want: network, code: "backend/refused"},
		{name: "time-out", path: "/silent", status: 504, want: timedOut, code: "backend/timeout"},
		{
			name: "mapped", method: "POST", path: "/mapped/7?key=a/..%2Fb", body: `{"user":{"name":"Ada"}}`, status: 201,
			want: `{"got":` + asked("PUT up.example /m/a%2F..%2Fb?id=7", `{"name":"Ada","stage":"prod","color":"red","id":"7"}`, "static") + `}`,
			check: func(t *testing.T, h http.Header) {
				if h.Get("X-Up") != "yes" || h.Get("X-Asked") != "PUT up.example /m/a%2F..%2Fb?id=7" || h.Get("X-Reply") != "" {
					t.Errorf("%v", h)
				}
			},
		},
		{name: "mapped to a way out", method: "POST", path: "/mapped/7?key=..", body: `{}`, status: 500, want: internal},
		{name: "mapped from what is not JSON", method: "POST", path: "/mapped/7?key=a", body: `{`, status: 500, want: internal},
		{name: "no response is selected", path: "/unmapped", status: 500, want: internal},
		{name: "response by pattern", path: "/teapot", status: 409, want: asked("GET up.example /status", "", "")},
		{name: "media type never passed", method: "POST", path: "/never", body: "x", status: 415, want: `{"message":"Unsupported Media Type"}`},
		{name: "mock", path: "/mock", status: 404, want: "at /mock", code: "backend/ok"},
		{name: "mock without status", path: "/badmock", status: 500, want: internal},
	} {
		t.Run(x.name, func(t *testing.T) {
			method := x.method
			if method == "" {
				method = "GET"
			}
			res, body := l.get(t, true, method, "https://"+l.priv.Host+"/prod"+x.path, x.header, x.body)
			if res.StatusCode != x.status || body != x.want {
				t.Errorf("got  %d %s\nwant %d %s", res.StatusCode, body, x.status, x.want)
			}
			if r, _ := l.Recent(res.Header.Get("x-postern-request-id")); x.code != "" && r.Code != x.code {
				t.Errorf("code %s", r.Code)
			}
			if x.check != nil {
				x.check(t, res.Header)
			}
		})
	}
}

func TestTheServersOwnSurroundingsAreNoBackend(t *testing.T) {
	e := gateway.New(gateway.Options{})
	defer e.Close()
	e.Swap(&snapshot.Snapshot{})
	for _, host := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "localhost"} {
		if c, err := e.Egress(t.Context(), "main", "", host, 80); !errors.Is(err, upstream.ErrUnreachable) {
			t.Errorf("%s: %v, %v", host, c, err)
		}
	}
	e.Swap(&snapshot.Snapshot{Internet: snapshot.Internet{Egress: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := e.Egress(t.Context(), "main", "", "127.0.0.1", uint16(ln.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
