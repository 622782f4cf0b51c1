// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/observe/access"
	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/internal/exposition"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot"
)

// lines is where an access log is written to.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns the lines so far.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.TrimSuffix(l.b.String(), "\n")
	l.b.Reset()
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// logged is a lab whose engine writes an access log.
func logged(t testing.TB, document string) (*lab, *access.Log, *lines) {
	t.Helper()
	out := &lines{}
	log := access.New(access.Options{Out: out, Wait: time.Hour})
	t.Cleanup(func() { // after the engine's
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	l := newLabWith(t, document, func(o *gateway.Options) { o.AccessLog = log })
	l.g.HTTP = "serve"
	return l, log, out
}

// metrics are the samples that the engine tells, one a line.
func (l *lab) metrics(t testing.TB) string {
	t.Helper()
	var x exposition.Text
	l.Metrics(&x)
	b, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ended waits until n requests have been counted: a client has its answer before
// the request is over.
func (l *lab) ended(t testing.TB, n int) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got := l.metrics(t)
		sum := 0
		for line := range strings.Lines(got) {
			if !strings.HasPrefix(line, "postern_gateway_requests_total{") {
				continue
			}
			var v int
			if _, err := fmt.Sscanf(line[strings.LastIndexByte(line, ' ')+1:], "%d", &v); err != nil {
				t.Fatal(err)
			}
			sum += v
		}
		if sum >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are counted, not %d:\n%s", sum, n, got)
		}
	}
}

// told waits until every one of the samples is told: what a request has counted
// comes before what its connections have.
func (l *lab) told(t testing.TB, samples []string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, missing := l.metrics(t), ""
		for _, want := range samples {
			if !strings.Contains(got, want) {
				missing = want
			}
		}
		if missing == "" {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is missing in\n%s", missing, got)
		}
	}
}

const observed = `{"openapi":"3.0.1","paths":{
	"/x/{id}":{"get":{"operationId":"getX","x-amazon-apigateway-integration":{"type":"http_proxy","uri":"http://up.example/base/{id}"}}},
	"/store":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","uri":"https://${stageVariables.host}/"}}},
	"/mock":{"get":{"x-amazon-apigateway-integration":{"type":"mock"}}}}}`

func TestEveryRequestIsCountedAndLogged(t *testing.T) {
	l, log, out := logged(t, observed)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "tea")
	}))
	t.Cleanup(backend.Close)
	l.dial = func(ctx context.Context, _, host string, _ uint16) (net.Conn, error) {
		if host == "up.example" {
			return new(net.Dialer).DialContext(ctx, "tcp", backend.Listener.Addr().String())
		}
		return nil, fmt.Errorf("%w: %s", upstream.ErrRefused, host)
	}
	secret := map[string]string{"Authorization": "Bearer hush-hush", "X-Api-Key": "hush-hush", "User-Agent": "evil\"\t\\"}
	l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/x/42?token=hush-hush", secret, "")
	l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/store", nil, "")
	l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/nothing/here", nil, "")
	l.get(t, false, "GET", "http://"+l.pub.Host+"/nostage/x/1", nil, "")
	l.get(t, false, "GET", "http://unheard.example/", nil, "")
	c := l.connect(t, false, 80)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(c) // until it is closed
	l.ended(t, 6)
	got := l.told(t, []string{
		`postern_gateway_requests_total{api="publicapi1",gateway="main",route="GET /x/{id}",stage="prod",status="4xx"} 1`,
		`postern_gateway_requests_total{api="publicapi1",gateway="main",route="GET /store",stage="prod",status="5xx"} 1`,
		`postern_gateway_requests_total{api="publicapi1",gateway="main",route="",stage="prod",status="4xx"} 1`,
		`postern_gateway_request_duration_seconds_count{api="publicapi1",gateway="main",route="GET /x/{id}",stage="prod"} 1`,
		`postern_upstream_calls_total{backend="",gateway="main",status="4xx",target="http://up.example:80"} 1`,
		`postern_upstream_failures_total{backend="",gateway="main",kind="refused",target="https://by-variable.example:443"} 1`,
		`postern_upstream_connections{gateway="main",state="idle",target="http://up.example:80"} 1`,
		`postern_gateway_refusals_total{code="backend/refused",gateway="main",layer="backend"} 1`,
		`postern_gateway_refusals_total{code="method/unknown",gateway="main",layer="method"} 1`,
		`postern_gateway_refusals_total{code="http/bad-request",gateway="",layer="http"} 1`,
		`postern_gateway_connections_total{listener="public",transport="tcp"} `,
	})
	if strings.Contains(got, "/x/42") || strings.Contains(got, "unheard") {
		t.Errorf("what a caller chose is a label:\n%s", got)
	}

	log.Flush()
	var codes []string
	for _, line := range out.take() {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		codes = append(codes, fmt.Sprint(m["code"], " ", m["status"], " ", m["resourcePath"], " ", m["errorType"]))
		if strings.Contains(line, "hush") {
			t.Errorf("a secret stands in %s", line)
		}
		if m["path"] == "/prod/x/42" && (m["userAgent"] != "evil\"\t\\" || m["integrationStatus"] != 418.0 || m["responseLength"] != 3.0 || m["error"] != nil) {
			t.Errorf("%s", line)
		}
	}
	slices.Sort(codes)
	want := []string{
		"backend/ok 418 /x/{id} <nil>", "backend/refused 504 /store INTEGRATION_FAILURE", "host/unknown 403 <nil> <nil>",
		"http/bad-request 400 <nil> <nil>", "method/unknown 403 <nil> MISSING_AUTHENTICATION_TOKEN", "stage/missing 403 <nil> <nil>",
	}
	if !slices.Equal(codes, want) {
		t.Errorf("logged\n%s\nwant\n%s", strings.Join(codes, "\n"), strings.Join(want, "\n"))
	}
}

func TestEachStageIsLoggedInItsOwnFormat(t *testing.T) {
	l, log, out := logged(t, observed)
	ask := func(path string, n int) []string {
		t.Helper()
		l.get(t, false, "GET", "http://"+l.pub.Host+path, nil, "")
		l.ended(t, n)
		log.Flush()
		return out.take()
	}
	stage := l.pub.Stages["prod"]
	stage.AccessLog.Format = accesslog.MustParse("$context.resourcePath $context.stage")
	l.g.AccessLog.Format = accesslog.MustParse("nobody's $context.status")
	if got := ask("/prod/mock", 1); !slices.Equal(got, []string{"/mock prod"}) {
		t.Errorf("%q", got)
	}
	if got := ask("/nowhere/mock", 2); !slices.Equal(got, []string{"nobody's 403"}) {
		t.Errorf("%q", got)
	}
	stage.AccessLog.Off = true
	if got := ask("/prod/mock", 3); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestARequestThatIsCountedAndLoggedCostsNoAllocation(t *testing.T) {
	log := access.New(access.Options{Out: io.Discard})
	defer log.Close()
	ask, _ := speakWith(t, func(l *lab) net.Conn { return l.connect(t, false, 80) }, func(o *gateway.Options) { o.AccessLog = log })
	for range 2 * remembered {
		ask()
	}
	if n := testing.AllocsPerRun(200, ask); n > 0 {
		t.Errorf("%v allocations", n)
	}
	log.Flush()
	if log.Lines() < 200 {
		t.Errorf("only %d lines were written", log.Lines())
	}
}

func BenchmarkProxiedRequestLogged(b *testing.B) {
	log := access.New(access.Options{Out: io.Discard})
	defer log.Close()
	ask, _ := speakWith(b, func(l *lab) net.Conn { return l.connect(b, false, 80) }, func(o *gateway.Options) { o.AccessLog = log })
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}

func TestTheLogTellsWhichKeyWasShownAndNotTheKey(t *testing.T) {
	l, log, out := logged(t, observed)
	value := l.keyed(t, &snapshot.Product{})
	l.pub.Stages["prod"].AccessLog.Format = accesslog.MustParse(`$context.identity.apiKeyId $context.postern.code "$context.identity.userAgent"`)
	for i, shown := range []string{value, "hush-hush"} {
		l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/mock", map[string]string{"x-api-key": shown, "User-Agent": "a"}, "")
		got := l.ended(t, i+1)
		log.Flush()
		want := []string{`k backend/none "a"`, `- auth/key-unknown "a"`}[i]
		if lines := out.take(); !slices.Equal(lines, []string{want}) || strings.Contains(got, shown) {
			t.Errorf("%q, want %s; in the metrics: %v", lines, want, strings.Contains(got, shown))
		}
	}
}

func TestARequestWithAKeyThatIsCountedLoggedAndNotTracedCostsNoAllocation(t *testing.T) {
	log := access.New(access.Options{Out: io.Discard})
	defer log.Close()
	tracer := trace.New(trace.Options{Ratio: 0})
	defer tracer.Close()
	var c net.Conn
	_, l := speakWith(t, func(l *lab) net.Conn { c = l.connect(t, false, 80); return c }, func(o *gateway.Options) { o.AccessLog, o.Trace = log, tracer })
	value := l.keyed(t, &snapshot.Product{Throttle: &snapshot.Throttle{Rate: 1e6, Burst: 1e6, Interval: 1e3}})
	request := fmt.Appendf(nil, "GET /prod/x/42 HTTP/1.1\r\nHost: %s\r\nUser-Agent: curl/8\r\ntraceparent: %s\r\nx-api-key: %s\r\n\r\n", l.pub.Host, parentOff, value)
	buf, ok := make([]byte, 8192), []byte("\r\n\r\nok")
	ask := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], ok) {
			t.Fatalf("%v: %q", err, buf[:n])
		}
	}
	for range 2 * remembered {
		ask()
	}
	if n := testing.AllocsPerRun(200, ask); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
