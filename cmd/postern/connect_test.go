// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client/settings"
	"postern.dev/postern/client/wire"
	"postern.dev/postern/instance"
)

// TestConnectedHostCallsAPrivateAPI joins a Host of a whole Postern with the
// command alone, and calls a private API through the proxy that it offers.
func TestConnectedHostCallsAPrivateAPI(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(folder, "user"))
	t.Setenv(settings.Variable, filepath.Join(folder, settings.FileName))
	i, err := instance.Start(t.Context(), instance.Options{
		Data: folder, Management: "127.0.0.1:0", WireGuard: netip.MustParseAddr("127.0.0.1"), Low: 42820, High: 42839,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	sh := &shell{t: t, folder: folder}
	const policy = `{Version: "2012-10-17", Statement: [{Effect: Allow, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*"}]}`
	sh.ok("apply", "-f", sh.file("world.yaml", strings.Replace(world, "type: regional", "type: private, policy: "+policy, 1)))
	sh.ok("deploy", "pets", "--stage", "prod")
	sh.ok("endpoint", "approve", "corp-ep")
	status := func(ref string) wire.Resource {
		var r wire.Resource
		if err := json.Unmarshal([]byte(sh.ok("get", ref, "-o", "json")), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	endpoint, api := status("endpoint/corp-ep").Status.Host, status("api/pets").Status.ID

	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	r, w := io.Pipe()
	ended := make(chan result, 1)
	go func() {
		var errs strings.Builder
		code := run(ctx, []string{"connect", "laptop"}, streams{strings.NewReader(""), w, &errs})
		w.Close()
		ended <- result{code: code, err: errs.String()}
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("connect: %+v", <-ended)
	}
	proxy, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	ca := x509.NewCertPool()
	found, err := filepath.Glob(filepath.Join(folder, "user", "postern", "hosts", "laptop@*.ca.pem"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the CA for programs: %v, %v", found, err)
	}
	pem, err := os.ReadFile(found[0])
	if err != nil || !ca.AppendCertsFromPEM(pem) {
		t.Fatalf("the CA: %v", err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: ca}}
	defer tr.CloseIdleConnections()
	get := func(header string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+endpoint+"/prod/pets", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("X-Apigw-Api-Id", header)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body) + " " + resp.Header.Get("X-Postern-Request-Id")
	}
	if code, body := get(api); code != http.StatusOK {
		t.Errorf("with the API's id: %d %s", code, body)
	}
	code, body := get("")
	if code != http.StatusForbidden {
		t.Errorf("without the id: %d %s", code, body)
	}
	// The reason is known by the request's id.
	id := body[strings.LastIndexByte(body, ' ')+1:]
	if out := sh.ok("why", id); !strings.Contains(out, "api/id-missing") || !strings.Contains(out, "deny") {
		t.Errorf("why %s: %s", id, out)
	}
	if r := sh.run("explain", "--from", "host/laptop", "-H", "x-apigw-api-id: "+api, "https://"+endpoint+"/prod/pets"); r.code != exitOK {
		t.Errorf("explain: exit %d %s%s", r.code, r.out, r.err)
	}
	stop()
	if got := <-ended; got.code != exitOK {
		t.Errorf("connect ended with %d: %s", got.code, got.err)
	}
}

// shop is an API whose calls go to port 8080 of a Host.
const shop = `
---
apiVersion: postern/v1
kind: Backend
metadata: {name: orders}
spec:
  network: corp
  targets: [{host: "${Host/laptop.address}", port: 8080}]
---
apiVersion: postern/v1
kind: API
metadata: {name: shop}
spec:
  gateway: gw
  type: regional
  path: shop
  openapi:
    openapi: 3.0.3
    info: {title: Shop, version: "1"}
    paths:
      /orders:
        get:
          responses: {"200": {description: as the backend answers}}
          x-amazon-apigateway-integration: {type: http_proxy, httpMethod: GET, uri: "backend://orders/"}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: shop.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: Subnet
metadata: {name: gateways}
spec: {network: corp, cidr: 10.0.9.0/28}
---
apiVersion: postern/v1
kind: SecurityGroup
metadata: {name: orders}
spec:
  network: corp
  rules: [{name: all, direction: inbound, ports: ["8080"], from: [10.0.0.0/16]}]
`

// TestExplainSeesThroughAForward explains a call to a backend that a Host offers
// with --forward: what is not served behind the port is not reached.
func TestExplainSeesThroughAForward(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(folder, "user"))
	t.Setenv(settings.Variable, filepath.Join(folder, settings.FileName))
	i, err := instance.Start(t.Context(), instance.Options{
		Data: folder, Management: "127.0.0.1:0", WireGuard: netip.MustParseAddr("127.0.0.1"), Low: 42840, High: 42859,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	sh := &shell{t: t, folder: folder}
	text := strings.NewReplacer(
		"{subnet: apps}", "{subnet: apps, securityGroups: [orders]}",
		"{region: eu-1, endpointApproval: manual}", "{region: eu-1, networkMode: internal, subnet: gateways}",
	).Replace(world + shop)
	sh.ok("apply", "-f", sh.file("world.yaml", text))

	// A port on which nothing listens, and then something.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := l.Addr().String()
	l.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	r, w := io.Pipe()
	ended := make(chan result, 1)
	go func() {
		var errs strings.Builder
		code := run(ctx, []string{"connect", "laptop", "--forward", "8080:" + local}, streams{strings.NewReader(""), w, &errs})
		w.Close()
		ended <- result{code: code, err: errs.String()}
	}()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatalf("connect: %+v", <-ended)
	}
	explain := func() string {
		return sh.run("explain", "--from", "host/laptop", "https://gw.postern.internal/shop/orders", "-o", "json").out
	}
	if out := explain(); !strings.Contains(out, `"backend/refused"`) || !strings.Contains(out, `"probe"`) {
		t.Errorf("nothing is served behind the port: %s", out)
	}
	if l, err = net.Listen("tcp", local); err != nil {
		t.Fatal(err)
	}
	served := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "orders") })}
	go served.Serve(l)
	defer served.Close()
	if out := explain(); strings.Contains(out, `"backend/refused"`) || !strings.Contains(out, `"probe"`) {
		t.Errorf("the port is served: %s", out)
	}
	stop()
	if got := <-ended; got.code != exitOK || !strings.Contains(got.err, "nothing answers at "+local) {
		t.Errorf("connect ended with %d: %s", got.code, got.err)
	}
}

// TestConnectSaysWhyItCannot connects as a Host that does not exist, and to a
// hub that does not answer.
func TestConnectSaysWhyItCannot(t *testing.T) {
	sh := newShell(t)
	sh.ok("apply", "-f", sh.file("world.yaml", world))
	sh.fails([]string{"connect", "nobody", "--", "true"}, "Host/nobody", "does not exist")
	if keys, err := filepath.Glob(filepath.Join("user", "postern", "hosts", "*")); err != nil || len(keys) > 0 {
		t.Errorf("a Host that does not exist has left %v, %v", keys, err)
	}
	// A mistyped port is told before the key of this machine is registered.
	sh.fails([]string{"connect", "laptop", "--forward", "99999", "--", "true"}, `--forward "99999"`, "PORT:LOCALPORT")
	sh.fails([]string{"connect", "laptop", "-L", "8080", "--", "true"}, `--local "8080"`, "PORT:HOST:PORT")
	if out := sh.ok("get", "host", "laptop", "-o", "yaml"); strings.Contains(out, "publicKey") {
		t.Errorf("a command line that is refused has joined: %s", out)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	var out, errs strings.Builder
	// 192.0.2.1 is an address that nobody has.
	code := run(ctx, []string{"connect", "laptop", "--", "true"}, streams{strings.NewReader(""), &out, &errs})
	if code != exitError || !strings.Contains(errs.String(), "192.0.2.1:51820 is silent") {
		t.Errorf("exit %d %s", code, errs.String())
	}
}
