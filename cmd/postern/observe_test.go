// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/client/settings"
	"postern.dev/postern/test/collector"
)

// process is postern server as a process of its own, as its users start it.
type process struct {
	t      *testing.T
	folder string
	cmd    *exec.Cmd
	ended  chan error
	// plain is where the published port 80 is.
	plain  string
	errors *os.File
}

// patience bounds every wait; a machine may be slow.
const patience = 60 * time.Second

// startServer starts a server that publishes port 80, with more flags.
func startServer(t *testing.T, more ...string) *process {
	t.Helper()
	var last string
	for range 10 { // a port may be taken between its choice and its use
		p := &process{t: t, folder: t.TempDir(), ended: make(chan error, 1)}
		ports := free(t, 2)
		p.plain = "127.0.0.1:" + ports[0]
		args := append([]string{
			"server", "--data", filepath.Join(p.folder, "data"), "--management", "127.0.0.1:0",
			"--public", "127.0.0.1", "--public-ports", "80=" + ports[0] + ",443=" + ports[1],
		}, more...)
		if last = p.start(args); last == "" {
			return p
		}
	}
	t.Fatalf("the server does not start: %s", last)
	return nil
}

// free finds ports that nobody listens on.
func free(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return out
}

// start runs the command until it says that it is ready. It says why it is not.
func (p *process) start(args []string) string {
	p.t.Helper()
	p.cmd = p.command(args...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.errors, err = os.Create(filepath.Join(p.folder, "errors")); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.errors.Close() })
	p.cmd.Stderr = p.errors
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "client settings:") {
				ready <- true
			}
		}
		p.ended <- p.cmd.Wait()
		close(ready)
	}()
	p.t.Cleanup(func() { p.stop() })
	select {
	case ok := <-ready:
		if !ok {
			return p.said()
		}
	case <-time.After(patience):
		p.t.Fatalf("the server is not ready after %v: %s", patience, p.said())
	}
	p.run("apply", "-f", p.write("world.yaml", observed))
	if said := p.said(); strings.Contains(said, "a published port is not served") {
		p.stop()
		return said
	}
	return ""
}

// observed is a Gateway with an API that answers by itself.
const observed = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: edge}
spec: {region: eu-1, http: serve}
---
apiVersion: postern/v1
kind: API
metadata: {name: shop}
spec: {gateway: edge, type: regional, path: shop, stage: prod, openapi: example:petstore}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: shop.prod}
spec: {autoDeploy: true}
`

// command is postern, which the test's own binary is under that name.
func (p *process) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	c := exec.Command(self)
	c.Args = append([]string{"postern"}, args...)
	c.Dir = p.folder
	return c
}

// run runs a client's command.
func (p *process) run(args ...string) {
	p.t.Helper()
	out, err := p.command(append(args, "--config", filepath.Join(p.folder, "data", settings.FileName))...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("postern %v: %v: %s", args, err, out)
	}
}

func (p *process) write(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// said is what the server wrote to its standard error.
func (p *process) said() string {
	b, err := os.ReadFile(p.errors.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// stop ends the server as service managers do, and returns how it ended.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		p.t.Errorf("the server has not ended after %v", patience)
		return <-p.ended
	}
}

// get sends a request to the published port 80.
func (p *process) get(path string, header http.Header) *http.Response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.plain+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Host = "edge.postern.internal"
	for k, v := range header {
		r.Header[k] = v
	}
	res, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		p.t.Fatalf("%v: %s", err, p.said())
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

// metrics scrapes the management API.
func (p *process) metrics() string {
	p.t.Helper()
	s, err := settings.Load(filepath.Join(p.folder, "data", settings.FileName))
	if err != nil {
		p.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.CA))
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}, Timeout: patience}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, s.Address+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.Token.Reveal())
	res, err := c.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("%v, %d %s", err, res.StatusCode, b)
	}
	return string(b)
}

// eventually waits until what is read has every part that is wanted.
func eventually(t *testing.T, read func() string, want ...string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got := read()
		missing := ""
		for _, w := range want {
			if !strings.Contains(got, w) {
				missing = w
				break
			}
		}
		if missing == "" {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is missing in\n%s", missing, got)
		}
		pause(t, 20*time.Millisecond)
	}
}

// pause lets another process work for a while.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

func content(path string) func() string {
	return func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
}

func TestAServerTellsOfItsRequests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	p := startServer(t, "--access-log", file)
	secret := http.Header{"Authorization": {"Bearer hush"}, "X-Api-Key": {"hush"}, "User-Agent": {"curl/8"}}
	if res := p.get("/shop/pets?token=hush", secret); res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", res.Status, p.said())
	}
	p.get("/shop/no-such-thing", secret)
	p.get("/nobody/1", nil)
	log := eventually(t, content(file), `"resourcePath":"/pets"`, `"code":"method/unknown"`, `"path":"/nobody/1"`)
	if strings.Contains(log, "hush") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	for line := range strings.Lines(log) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if m["resourcePath"] == "/pets" && (m["status"] != 200.0 || m["api"] != "shop" || m["stage"] != "prod" || m["userAgent"] != "curl/8" || m["sourceIp"] != "127.0.0.1") {
			t.Errorf("%s", line)
		}
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm()&0o137 != 0 {
		t.Errorf("%v, the log's mode is %v", err, i.Mode())
	}

	eventually(t, p.metrics,
		`postern_gateway_requests_total{api="shop",gateway="edge",route="GET /pets",stage="prod",status="2xx"} 1`,
		`postern_gateway_request_duration_seconds_count{api="shop",gateway="edge",route="GET /pets",stage="prod"} 1`,
		`postern_gateway_refusals_total{code="method/unknown",gateway="edge",layer="method"} 1`,
		`postern_gateway_connections_total{listener="socket",transport="tcp"}`,
		`postern_access_log_lines_total 3`, `postern_access_log_dropped_total 0`,
		"\npostern_configuration_revision ", "\npostern_configuration_age_seconds 0\n", "\ngo_goroutines ", "\nprocess_open_fds ",
	)

	// What is moved away is made anew.
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return fmt.Sprint(os.Stat(file)) }, "<nil>")
	p.run("apply", "-f", p.write("format.yaml", `
apiVersion: postern/v1
kind: Stage
metadata: {name: shop.prod}
spec: {autoDeploy: true, accessLog: {format: '$context.httpMethod "$context.path" $context.status'}}
`))
	p.get("/shop/pets/1", nil)
	if err := p.stop(); err != nil {
		t.Errorf("the server ended with %v: %s", err, p.said())
	}
	if log := content(file)(); log != "GET \"/shop/pets/1\" 200\n" {
		t.Errorf("the new log has %q", log)
	}
}

func TestAServerTracesItsRequests(t *testing.T) {
	for _, n := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_HEADERS"} {
		t.Setenv(n, "")
	}
	parents := make(chan string, 1)
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		parents <- r.Header.Get("Traceparent") + " " + r.Header.Get("Tracestate")
	}))
	t.Cleanup(backend.Close)
	spansTo := collector.New(t)
	p := startServer(t, "--otlp-endpoint", spansTo.URL, "--trace-ratio", "0", "--allow-egress", "127.0.0.0/8")
	p.run("apply", "-f", p.write("proxy.yaml", `
apiVersion: postern/v1
kind: API
metadata: {name: proxy}
spec:
  gateway: edge
  type: regional
  path: proxy
  stage: prod
  openapi: {openapi: 3.0.1, info: {title: p, version: "1"}, paths: {"/items/{id}": {get: {parameters: [{name: id, in: path, required: true, schema: {type: string}}], responses: {"200": {description: ok}}, x-amazon-apigateway-integration: {type: http_proxy, httpMethod: GET, uri: "`+backend.URL+`/{id}", requestParameters: {integration.request.path.id: method.request.path.id}}}}}}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: proxy.prod}
spec: {autoDeploy: true}
`))
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	if res := p.get("/proxy/items/7", http.Header{"Traceparent": {"00-" + id + "-00f067aa0ba902b7-01"}, "Tracestate": {"rojo=1"}}); res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", res.Status, p.said())
	}
	sent := <-parents
	p.get("/shop/pets", nil) // not chosen
	if err := p.stop(); err != nil {
		t.Errorf("the server ended with %v: %s", err, p.said())
	}
	spans := spansTo.Spans() // what waited was sent at the end
	if len(spans) != 2 {
		t.Fatalf("%d spans: %+v; %s", len(spans), spans, p.said())
	}
	server, call := spans[0], spans[1]
	if server.Name != "GET /items/{id}" || server.Kind != 2 || server.Trace != id || server.Parent != "00f067aa0ba902b7" || server.State != "rojo=1" ||
		server.Attributes["http.response.status_code"] != "200" || server.Attributes["http.route"] != "/items/{id}" || server.Attributes["postern.api"] != "proxy" || server.Resource["service.name"] != "postern" {
		t.Errorf("%+v", server)
	}
	if call.Kind != 3 || call.Parent != server.ID || call.Attributes["server.address"] != "127.0.0.1" || call.Start < server.Start || call.End > server.End {
		t.Errorf("%+v", call)
	}
	if want := "00-" + id + "-" + call.ID + "-01 rojo=1"; sent != want {
		t.Errorf("the backend got %s, want %s", sent, want)
	}
}
