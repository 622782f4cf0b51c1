// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/demo"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/instance"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
)

// world is a Postern with machines that join it for real.
type world struct {
	t       *testing.T
	i       *instance.Instance
	api     *client.Client
	callers *demo.Callers
	roots   *x509.CertPool
}

func start(t *testing.T, o instance.Options, manifests string) *world {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	low := l.LocalAddr().(*net.UDPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	o.Management, o.WireGuard, o.Low, o.High = "127.0.0.1:0", netip.MustParseAddr("127.0.0.1"), low, low+3
	w := &world{t: t, roots: x509.NewCertPool()}
	if w.i, err = instance.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.cleanup(w.i.Close)
	set := w.i.Settings()
	w.roots.AppendCertsFromPEM(w.i.RootPEM())
	if w.api, err = client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.api.Close)
	if w.callers, err = demo.NewCallers(w.i, w.api); err != nil {
		t.Fatal(err)
	}
	w.cleanup(w.callers.Close)
	w.apply(manifests)
	return w
}

func (w *world) cleanup(f func() error) {
	w.t.Cleanup(func() {
		if err := f(); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) apply(manifests string) {
	w.t.Helper()
	objects, err := manifest.Decode("test.yaml", []byte(manifests))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.api.Apply(w.t.Context(), objects, false); err != nil {
		w.t.Fatal(err)
	}
}

// client calls from an address on the internet.
func (w *world) client(from string) *http.Client {
	return w.through(func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return w.i.Network().DialInternet(ctx, netip.MustParseAddr(from), to)
	})
}

func (w *world) through(dial func(context.Context, netip.AddrPort) (net.Conn, error)) *http.Client {
	t := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			g := w.i.Snapshot()
			for _, z := range g.Public.Zones {
				for _, set := range z.Names[host] {
					for _, a := range set.Addrs {
						return dial(ctx, netip.MustParseAddrPort(net.JoinHostPort(a.String(), port)))
					}
				}
			}
			return nil, &net.DNSError{Name: host, IsNotFound: true}
		},
		DisableKeepAlives: true,
	}
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// get asks for url and returns what came of it in one line.
func (w *world) get(c *http.Client, url string, header ...string) (string, http.Header) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(r)
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert.Error(), nil
	}
	if err != nil {
		return err.Error(), nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Status[:3] + " " + strings.TrimSpace(string(b)), res.Header
}

// code is under which code a request is remembered.
func (w *world) code(h http.Header) string {
	w.t.Helper()
	r, ok := w.i.Recent(h.Get("x-postern-request-id"))
	if !ok {
		w.t.Fatalf("the request is not remembered: %v", h)
	}
	return r.Code
}

const internetCaller = "192.0.2.7"

func TestComponentsShareThePortsOfAGateway(t *testing.T) {
	w := start(t, instance.Options{}, `
apiVersion: postern/v1
kind: Gateway
metadata: {name: open}
spec: {region: eu-1}
`)
	c := w.client(internetCaller)
	token := "Bearer " + w.i.Settings().Token.Reveal()
	for _, x := range []struct{ url, want string }{
		{"https://open.postern.internal/status-0123456789abcdef", "200"},
		{"https://open.management.postern.internal/ServiceStatus", `200 {"status":"ok"}`},
		{"https://open.management.postern.internal:3443/ServiceStatus", `200 {"status":"ok"}`},
		{"https://open.management.postern.internal/v1/gateways/open", `200 {`},
		{"https://open.management.postern.internal:3443/v1/gateways/open", `200 {`},
		{"https://open.configuration.postern.internal/ServiceStatus", `200 {"status":"ok"}`},
		{"https://open.configuration.postern.internal/v1/gateways", `404 {"type":`},
		{"https://open.portal.postern.internal/", `200 <!doctype html>`},
		{"https://open.portal.postern.internal/x", `404 <!doctype html>`},
		{"https://open.scm.postern.internal/", `200 <!doctype html>`},
	} {
		if got, _ := w.get(c, x.url, "Authorization", token); !strings.HasPrefix(strings.TrimSpace(got), x.want) {
			t.Errorf("%s: %s, want %s", x.url, got, x.want)
		}
	}
	if got, h := w.get(c, "https://open.management.postern.internal/v1/gateways"); !strings.HasPrefix(got, "401") || h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("without a token: %s", got)
	}
}

const private = `
apiVersion: postern/v1
kind: Network
metadata: {name: corp}
spec: {cidrs: [10.20.0.0/16]}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: gateways}
spec: {network: corp, cidr: 10.20.0.0/24}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: apps}
spec: {network: corp, cidr: 10.20.1.0/24}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: backends}
spec: {network: corp, rules: [{name: web, direction: inbound, protocol: tcp, ports: ["8080", "8081"], from: ["group:edge-managed", "group:joined-managed"]}]}
---
apiVersion: postern/v1
kind: Host
metadata: {name: store}
spec: {subnet: apps, address: 10.20.1.10, securityGroups: [backends]}
---
apiVersion: postern/v1
kind: Zone
metadata: {name: corp}
spec: {networks: [corp], domain: corp.example, records: [{name: store, type: A, values: [10.20.1.10]}, {name: asleep, type: A, values: [10.20.1.11]}, {name: both, type: A, values: [10.20.1.99, 10.20.1.10]}]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: edge}
spec: {region: eu-1, networkMode: external, subnet: gateways}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: open}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: joined}
spec: {network: corp, cidr: 10.20.3.0/27, delegatedTo: joined}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: joined}
spec: {region: eu-1, outbound: {subnet: joined}}
`

// backend is an API of a Gateway whose only operation calls a Backend.
func backend(name, gateway, path, spec string) string {
	return `
---
apiVersion: postern/v1
kind: Backend
metadata: {name: ` + name + `}
spec: ` + spec + `
---
apiVersion: postern/v1
kind: API
metadata: {name: ` + name + `}
spec:
  gateway: ` + gateway + `
  type: regional
  path: ` + name + `
  openapi:
    openapi: 3.0.3
    info: {title: x, version: "1"}
    paths:
      /hello:
        get:
          responses: {"200": {description: as the backend answers}}
          x-amazon-apigateway-integration: {type: http_proxy, httpMethod: GET, uri: "backend://` + name + `/` + path + `"}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: ` + name + `.prod}
spec: {autoDeploy: true}
`
}

func TestBackendsInNetworksAreDialledFromTheGatewaysOwnAddress(t *testing.T) {
	w := start(t, instance.Options{}, private+
		backend("named", "edge", "hello", "{network: corp, targets: [{host: store.corp.example, port: 8080}]}")+
		backend("closed", "edge", "hello", "{network: corp, targets: [{host: 10.20.1.10, port: 8081}]}")+
		backend("guarded", "edge", "hello", "{network: corp, targets: [{host: 10.20.1.10, port: 9090}]}")+
		backend("nameless", "edge", "hello", "{network: corp, targets: [{host: nobody.corp.example, port: 8080}]}")+
		backend("nowhere", "edge", "hello", "{network: corp, targets: [{host: 172.16.0.1, port: 8080}]}")+
		backend("outsider", "open", "hello", "{network: corp, targets: [{host: 10.20.1.10, port: 8080}]}")+
		backend("self", "edge", "named/hello", "{network: corp, protocol: https, targets: [{host: edge.postern.internal, port: 443}]}")+
		backend("joined", "joined", "hello", "{network: corp, targets: [{host: store.corp.example, port: 8080}]}")+
		backend("beyond", "joined", "hello", "{network: corp, targets: [{host: 198.18.0.200, port: 8080}]}")+
		backend("asleep", "edge", "hello", "{network: corp, timeout: 1s, targets: [{host: asleep.corp.example, port: 8080}]}")+
		backend("second", "edge", "hello", "{network: corp, targets: [{host: both.corp.example, port: 8080}]}")+
		`
---
apiVersion: postern/v1
kind: Host
metadata: {name: asleep}
spec: {subnet: apps, address: 10.20.1.11}
`+
		backend("public", "open", "named/hello", "{protocol: https, targets: [{host: edge.postern.internal, port: 443}]}"))
	if err := w.callers.Serve(t.Context(), "host/store", 8080); err != nil {
		t.Fatal(err)
	}
	c := w.client(internetCaller)
	const network = `504 {"message": "Network error communicating with endpoint"}`
	for _, x := range []struct{ url, want, code string }{
		{"edge.postern.internal/named/hello", "200 host/store answers at port 8080: GET /hello from 10.20.0.", "backend/ok"},
		{"edge.postern.internal/closed/hello", network, "backend/refused"},
		{"edge.postern.internal/guarded/hello", network, "sg/no-inbound-rule"},
		{"edge.postern.internal/nameless/hello", network, "dns/nxdomain"},
		{"edge.postern.internal/nowhere/hello", network, "route/none"},
		{"open.postern.internal/outsider/hello", network, "route/none"},
		{"joined.postern.internal/joined/hello", "200 host/store answers at port 8080: GET /hello from 10.20.3.", "backend/ok"},
		{"joined.postern.internal/beyond/hello", network, "route/none"},
		{"edge.postern.internal/asleep/hello", `504 {"message": "Endpoint request timed out"}`, "backend/timeout"},
		{"edge.postern.internal/second/hello", "200 host/store", "backend/ok"},
		{"edge.postern.internal/self/hello", "200 host/store answers at port 8080: GET /hello from 10.20.0.", "backend/ok"},
		{"open.postern.internal/public/hello", "200 host/store answers at port 8080: GET /hello from 10.20.0.", "backend/ok"},
	} {
		began := time.Now()
		got, h := w.get(c, "https://"+x.url)
		if !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %s, want %s", x.url, got, x.want)
			continue
		}
		if code := w.code(h); code != x.code {
			t.Errorf("%s: %s, want %s", x.url, code, x.code)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: what cannot be delivered took %s", x.url, took)
		}
	}
}

func TestAPooledConnectionEndsWithItsPermission(t *testing.T) {
	w := start(t, instance.Options{}, private+backend("named", "edge", "hello", "{network: corp, targets: [{host: store.corp.example, port: 8080}]}"))
	if err := w.callers.Serve(t.Context(), "host/store", 8080); err != nil {
		t.Fatal(err)
	}
	c := w.client(internetCaller)
	const url = "https://edge.postern.internal/named/hello"
	if got, _ := w.get(c, url); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	w.apply(`
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: backends}
spec: {network: corp, rules: [{name: other, direction: inbound, protocol: tcp, ports: ["8081"], from: ["group:edge-managed"]}]}
`)
	got, h := w.get(c, url)
	if !strings.HasPrefix(got, "504") || w.code(h) != "sg/no-inbound-rule" {
		t.Errorf("the connection from before is used: %s", got)
	}
}

// condition waits for a condition of a resource.
func (w *world) condition(ref model.Ref, typ string, want func(model.Condition) bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for {
		r, err := w.api.Get(ctx, ref)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range r.Status.Conditions {
			if c.Type == typ && c.Reason != "NotProbed" && want(c) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%s: %s never became as wanted: %+v", ref, typ, r.Status.Conditions)
		}
	}
}

func TestTargetsThatDoNotAnswerGetNoCalls(t *testing.T) {
	w := start(t, instance.Options{}, private+
		backend("both", "edge", "hello", `{network: corp, targets: [{host: 10.20.1.10, port: 8080}, {host: 10.20.1.10, port: 8081}], health: {path: /, interval: 1s, unhealthyAfter: 1, healthyAfter: 1}}`))
	if err := w.callers.Serve(t.Context(), "host/store", 8080); err != nil {
		t.Fatal(err)
	}
	ref := model.Ref{Kind: model.KindBackend, Name: "both"}
	c := w.client(internetCaller)
	const url = "https://edge.postern.internal/both/hello"
	w.condition(ref, "Healthy", func(c model.Condition) bool {
		// The first probes may have come before the host had joined.
		return !c.Status && strings.Contains(c.Message, "10.20.1.10:8081 from Gateway/edge") && !strings.Contains(c.Message, ":8080")
	})
	for range 8 {
		if got, _ := w.get(c, url); !strings.HasPrefix(got, "200 host/store answers at port 8080") {
			t.Fatal(got)
		}
	}
	a, err := w.api.Explain(t.Context(), answer.Question{From: "internet/" + internetCaller, URL: url})
	if err != nil || a.Verdict != answer.Allow {
		t.Errorf("%v, %s %s", err, a.Verdict, a.Code)
	}

	if err := w.callers.Withdraw("host/store", 8080); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		got, h := w.get(c, url)
		if got == `503 {"message":"Service Unavailable"}` && w.code(h) == "backend/unhealthy" {
			break
		}
		if waiting.Err() != nil {
			t.Fatalf("all are out: %s", got)
		}
	}
	a, err = w.api.Explain(t.Context(), answer.Question{From: "internet/" + internetCaller, URL: url})
	if err != nil || a.Code != "backend/unhealthy" || a.Symptom.Status != 503 {
		t.Errorf("%v, %s %s %+v", err, a.Verdict, a.Code, a.Symptom)
	}

	if err := w.callers.Serve(t.Context(), "host/store", 8080, 8081); err != nil {
		t.Fatal(err)
	}
	w.condition(ref, "Healthy", func(c model.Condition) bool { return c.Status })
	if got, _ := w.get(c, url); !strings.HasPrefix(got, "200") {
		t.Errorf("they are back: %s", got)
	}
}

func TestExplainTriesTheBackend(t *testing.T) {
	w := start(t, instance.Options{}, private+backend("named", "edge", "hello", "{network: corp, targets: [{host: store.corp.example, port: 8080}]}"))
	ask := func() answer.Answer {
		t.Helper()
		a, err := w.api.Explain(t.Context(), answer.Question{From: "internet/" + internetCaller, URL: "https://edge.postern.internal/named/hello"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if err := w.callers.Serve(t.Context(), "host/store", 9999); err != nil {
		t.Fatal(err)
	}
	if a := ask(); a.Code != "backend/refused" || a.Symptom.Status != 504 {
		t.Errorf("nothing listens: %s %s %+v", a.Verdict, a.Code, a.Symptom)
	}
	if err := w.callers.Serve(t.Context(), "host/store", 8080); err != nil {
		t.Fatal(err)
	}
	if a := ask(); a.Verdict != answer.Allow || a.Code != "backend/ok" {
		t.Errorf("it listens: %s %s", a.Verdict, a.Code)
	}
}

func TestRealSocketsServeEveryPublishedPortAndHeedGroups(t *testing.T) {
	ports := map[uint16]uint16{443: freePort(t), 3443: freePort(t)}
	w := start(t, instance.Options{Public: netip.MustParseAddr("127.0.0.1"), PublicPorts: ports}, private+`
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: inside}
spec: {network: corp, rules: [{name: inside, direction: inbound, protocol: tcp, ports: ["443"], from: ["tag:VirtualNetwork"]}]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: shut}
spec: {region: eu-1, networkMode: external, subnet: gateways, securityGroups: [inside]}
---
apiVersion: postern/v1
kind: Gateway
metadata: {name: within}
spec: {region: eu-1, networkMode: internal, subnet: gateways}
`)
	dial := func(name, port string) string {
		t.Helper()
		tr := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				_, p, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				n := uint16(443)
				if p == "3443" {
					n = 3443
				}
				return new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ports[n]).String())
			},
		}
		path := "/ServiceStatus"
		if strings.Count(name, ".") == 2 {
			path = "/status-0123456789abcdef"
		}
		got, _ := w.get(&http.Client{Transport: tr, Timeout: 10 * time.Second}, "https://"+name+":"+port+path)
		if strings.Contains(got, "connection reset by peer") {
			return "reset"
		}
		if strings.Contains(got, "unrecognized name") {
			return "unrecognized name"
		}
		return got
	}
	const ok = `200 {"status":"ok"}`
	for _, x := range []struct{ name, port, want string }{
		{"open.postern.internal", "443", "200 "},
		{"open.management.postern.internal", "443", ok},
		{"open.management.postern.internal", "3443", ok},
		{"open.configuration.postern.internal", "443", ok},
		{"edge.postern.internal", "443", "200 "},
		{"edge.management.postern.internal", "3443", ok},
		{"edge.configuration.postern.internal", "443", "unrecognized name"}, // it does not listen there
		{"shut.postern.internal", "443", "reset"},
		{"within.postern.internal", "443", "unrecognized name"},
		{"within.management.postern.internal", "3443", ok},
	} {
		if got := dial(x.name, x.port); got != x.want {
			t.Errorf("%s:%s: %s, want %s", x.name, x.port, got, x.want)
		}
	}
}

// freePort is a TCP port that nobody has at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// TestExplainLooksUpWhatAGatewayLooksUp: what becomes of a name that is not
// Postern's is known to the server, which resolves it before it dials.
func TestExplainLooksUpWhatAGatewayLooksUp(t *testing.T) {
	w := start(t, instance.Options{}, private+
		backend("nameless", "open", "hello", "{protocol: https, targets: [{host: nobody.invalid, port: 443}]}")+
		backend("inside", "edge", "hello", "{protocol: https, targets: [{host: nobody.invalid, port: 443}]}")+
		backend("here", "open", "hello", "{targets: [{host: localhost, port: 8080}]}")+
		backend("misplaced", "open", "hello", "{network: corp, protocol: https, targets: [{host: nobody.invalid, port: 443}]}"))
	c := w.client(internetCaller)
	for url, layer := range map[string]answer.Layer{
		"open.postern.internal/nameless/hello":  answer.LayerBackendDNS,
		"edge.postern.internal/inside/hello":    answer.LayerBackendDNS,
		"open.postern.internal/here/hello":      answer.LayerBackendRoute,
		"open.postern.internal/misplaced/hello": answer.LayerBackendRoute,
	} {
		got, h := w.get(c, "https://"+url)
		a, err := w.api.Explain(t.Context(), answer.Question{From: "internet/" + internetCaller, URL: "https://" + url})
		if err != nil {
			t.Fatal(err)
		}
		hop := a.Hops[a.DecidedBy]
		if a.Verdict != answer.Deny || hop.Layer != layer || a.Code != w.code(h) || !strings.HasPrefix(got, "504 "+a.Symptom.Body) || a.Symptom.Status != 504 {
			t.Errorf("%s: %s %s at %s, %+v; the caller got %s, %s", url, a.Verdict, a.Code, hop.Layer, a.Symptom, got, w.code(h))
		}
		if asked := layer == answer.LayerBackendDNS; asked && hop.Evidence != "probe" {
			t.Errorf("%s: %+v", url, hop)
		}
		for _, f := range a.Fixes {
			if strings.Contains(f.Summary, "spec.network out") {
				t.Errorf("%s: nobody knows whether it helps to %s", url, f.Summary)
			}
		}
	}
}
