// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	decided "postern.dev/postern/decide/operation"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/integration"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began = time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)

// allowed is a request that a backend has answered.
func allowed() *Entry {
	x := &exchange.Exchange{}
	x.Begin(context.Background(), began)
	x.Origin = &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000"), Host: "app"}
	x.Request.Method, x.Request.Path, x.Request.Proto = "GET", "/prod/pets/7", exchange.HTTP11
	x.Request.SetAuthority("api1.execute-api.eu-1.postern.internal")
	x.Response.Status, x.Sent = 200, 512
	g := &snapshot.Gateway{Name: "main"}
	api := &snapshot.API{Name: "shop", ID: "api1", Gateway: g}
	v := &request.Verdict{Allowed: true, API: api, Stage: &snapshot.Stage{Name: "prod", API: api}, Base: "/prod", Method: "GET"}
	v.Route = decided.Verdict{Operation: &operation.Operation{Method: "GET", Path: "/pets/{id}", ID: "getPet"}}
	return &Entry{
		Exchange: x, Gateway: g, Verdict: v, Took: 12*time.Millisecond + 900*time.Microsecond, Revision: 9, Code: "backend/ok",
		Arrival:  &request.Arrival{UserAgent: "curl/8", Endpoint: &snapshot.Endpoint{ID: "vpce-1", Network: &snapshot.Network{ID: "vpc-1"}}},
		Called:   &integration.Called{Made: true, Took: 9 * time.Millisecond, Status: 200, Backend: &snapshot.Backend{Name: "store"}},
		Extended: "AbC=", Trace: "Root=1-2-3", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", KeyID: "key-1",
		Cert: &Certificate{Subject: "CN=a", Issuer: "CN=ca", Serial: "17", NotBefore: "Jan  1 00:00:00 2026 GMT", NotAfter: "Jan  1 00:00:00 2027 GMT"},
	}
}

// unknown is a request that got nowhere.
func unknown() *Entry {
	x := &exchange.Exchange{}
	x.Begin(context.Background(), began)
	x.Origin = &snapshot.Origin{Source: netip.MustParseAddrPort("[2001:db8::1]:1")}
	x.Request.Proto, x.Response.Status = exchange.HTTP11, 400
	return &Entry{Exchange: x, Message: `Bad "Request"`, Type: "BAD"}
}

func render(t *testing.T, format string, e *Entry) string {
	t.Helper()
	f, err := accesslog.Parse(format)
	if err != nil {
		t.Fatal(err)
	}
	var s shard
	return string(s.line(nil, f, e))
}

func TestEveryVariableHasItsValue(t *testing.T) {
	for name, want := range map[string][2]string{
		"accountId": {"000000000000", "000000000000"}, "apiId": {"api1", "-"}, "customDomain.basePathMatched": {"-", "-"},
		"domainName": {"api1.execute-api.eu-1.postern.internal", "-"}, "domainPrefix": {"api1", "-"},
		"error.message": {"-", `Bad\u0020\u0022Request\u0022`}, "error.messageString": {"-", `"Bad \"Request\""`}, "error.responseType": {"-", "BAD"},
		"extendedRequestId": {"AbC=", "-"}, "httpMethod": {"GET", "-"}, "identity.apiKeyId": {"key-1", "-"},
		"identity.clientCert.subjectDN": {"CN=a", "-"}, "identity.clientCert.issuerDN": {"CN=ca", "-"}, "identity.clientCert.serialNumber": {"17", "-"},
		"identity.clientCert.validity.notBefore": {`Jan\u0020\u00201\u002000:00:00\u00202026\u0020GMT`, "-"},
		"identity.clientCert.validity.notAfter":  {`Jan\u0020\u00201\u002000:00:00\u00202027\u0020GMT`, "-"},
		"identity.sourceIp":                      {"198.51.100.7", "2001:db8::1"}, "identity.userAgent": {"curl/8", "-"}, "identity.vpcId": {"vpc-1", "-"}, "identity.vpceId": {"vpce-1", "-"},
		"integration.error": {"-", "-"}, "integration.latency": {"9", "-"}, "integration.status": {"200", "-"}, "integrationErrorMessage": {"-", "-"}, "integrationLatency": {"9", "-"},
		"path": {"/prod/pets/7", "-"}, "protocol": {"HTTP/1.1", "HTTP/1.1"}, "requestTime": {"04/Mar/2026:05:06:07 +0000", "04/Mar/2026:05:06:07 +0000"},
		"requestTimeEpoch": {"1772600767089", "1772600767089"}, "resourceId": {"getPet", "-"}, "resourcePath": {"/pets/{id}", "-"},
		"responseLatency": {"12", "0"}, "responseLength": {"512", "0"}, "stage": {"prod", "-"}, "status": {"200", "400"}, "xrayTraceId": {"Root=1-2-3", "-"},
		"postern.api": {"shop", "-"}, "postern.backend": {"store", "-"}, "postern.caller": {"host/app", "-"}, "postern.code": {"backend/ok", "-"},
		"postern.gateway": {"main", "-"}, "postern.revision": {"9", "-"}, "postern.traceId": {"4bf92f3577b34da6a3ce929d0e0e4736", "-"},
	} {
		for i, e := range []*Entry{allowed(), unknown()} {
			if got := render(t, "$context."+name, e); got != want[i]+"\n" {
				t.Errorf("%s: %q, want %q", name, got, want[i])
			}
		}
	}
	// What is not in the list above is known and has no value here.
	e := allowed()
	if got := render(t, "$context.requestId", e); got != e.Exchange.ID()+"\n" {
		t.Errorf("requestId: %q", got)
	}
	if got := render(t, "$context.waf.status $context.authorizer.claims.sub $context.identity.user", e); got != "- - -\n" {
		t.Errorf("%q", got)
	}
}

// TestTheFormatsOfAWSRender has the examples of its documentation.
func TestTheFormatsOfAWSRender(t *testing.T) {
	e := allowed()
	id := e.Exchange.ID()
	for _, x := range [][2]string{
		{
			`$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime] "$context.httpMethod $context.resourcePath $context.protocol" $context.status $context.responseLength $context.requestId`,
			`198.51.100.7 - - [04/Mar/2026:05:06:07 +0000] "GET /pets/{id} HTTP/1.1" 200 512 ` + id,
		},
		{
			`{ "requestId":"$context.requestId", "ip": "$context.identity.sourceIp", "caller":"$context.identity.caller", "user":"$context.identity.user","requestTime":"$context.requestTime", "httpMethod":"$context.httpMethod","resourcePath":"$context.resourcePath", "status":"$context.status","protocol":"$context.protocol", "responseLength":"$context.responseLength" }`,
			`{ "requestId":"` + id + `", "ip": "198.51.100.7", "caller":"-", "user":"-","requestTime":"04/Mar/2026:05:06:07 +0000", "httpMethod":"GET","resourcePath":"/pets/{id}", "status":"200","protocol":"HTTP/1.1", "responseLength":"512" }`,
		},
		{
			`<request id="$context.requestId"> <ip>$context.identity.sourceIp</ip> <status>$context.status</status> </request>`,
			`<request id="` + id + `"> <ip>198.51.100.7</ip> <status>200</status> </request>`,
		},
		{
			`$context.identity.sourceIp,$context.identity.caller,$context.requestTime,$context.httpMethod,$context.status,$context.requestId`,
			`198.51.100.7,-,04/Mar/2026:05:06:07 +0000,GET,200,` + id,
		},
	} {
		if got := render(t, x[0], e); got != x[1]+"\n" {
			t.Errorf("got\n%swant\n%s", got, x[1])
		}
	}
}

func TestTheDefaultIsOneJSONObject(t *testing.T) {
	for _, e := range []*Entry{allowed(), unknown()} {
		got := render(t, accesslog.Default, e)
		m := map[string]any{}
		if err := json.Unmarshal([]byte(got), &m); err != nil || strings.Count(got, "\n") != 1 {
			t.Fatalf("%v: %s", err, got)
		}
		if m["status"] != float64(e.Exchange.Response.Status) || m["requestId"] != e.Exchange.ID() {
			t.Errorf("%s", got)
		}
		if e.Verdict == nil && (m["api"] != nil || m["integrationLatency"] != nil || m["error"] != `Bad "Request"`) {
			t.Errorf("%s", got)
		}
	}
}

// nasty are values with which callers try to write more than a value.
var nasty = []string{
	"a\nb", "a\r\nb", `a","status":200,"x":"`, `a\`, "\x1b[31mred", "\xff\xfe", "\u2028x\u0085", "</request>", "a b,c;d|e'f", "\x00", strings.Repeat("ä\"", 5000), strings.Repeat("\x01", 5000),
}

func TestACallerWritesNothingButAValue(t *testing.T) {
	for _, n := range nasty {
		e := allowed()
		e.Arrival.UserAgent, e.Exchange.Request.Path, e.Exchange.Request.Method, e.Message = n, n, n, n
		for _, f := range []string{accesslog.Default, `{"ua":"$context.identity.userAgent","p":$context.path,"m":$context.error.messageString}`} {
			got := render(t, f, e)
			m := map[string]any{}
			if err := json.Unmarshal([]byte(got), &m); err != nil || !utf8.ValidString(got) {
				t.Fatalf("%q: %v: %s", n, err, got)
			}
			want := string([]rune(n))
			if p := m["path"]; f == accesslog.Default && len(n) < 100 && (p != want || len(m) != 24) {
				t.Errorf("%q became %q among %d", n, p, len(m))
			}
		}
		got := render(t, `$context.identity.userAgent $context.path "$context.path" <p>$context.path</p>`, e)
		bare := strings.ReplaceAll(strings.ReplaceAll(got, `\\`, ""), `\"`, "")
		if strings.Count(got, " ") != 3+strings.Count(n, " ") || strings.Count(bare, `"`) != 2 || strings.Count(got, "<") != 2 || strings.ContainsFunc(strings.TrimSuffix(got, "\n"), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q: %s", n, got)
		}
	}
	// Each separator is one that bare text does not keep.
	e := allowed()
	e.Exchange.Request.Path = `/a b,c;d|e'f"g`
	if got := render(t, "$context.path", e); got != `/a\u0020b\u002cc\u003bd\u007ce\u0027f\u0022g`+"\n" {
		t.Errorf("%s", got)
	}
}

func FuzzValue(f *testing.F) {
	for _, n := range nasty {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, p := range []accesslog.Place{accesslog.Bare, accesslog.Quoted} {
			got := string(escape(nil, s, p))
			var back string
			if err := json.Unmarshal([]byte(`"`+got+`"`), &back); err != nil || len(got) > maxValue {
				t.Fatalf("%q became %q: %v", s, got, err)
			}
			if want := string([]rune(s)); back != want && (len(got) < maxValue/2 || !strings.HasPrefix(want, back)) {
				t.Fatalf("%q became %q", s, back)
			}
		}
	})
}

// sink keeps what is written, once it may.
type sink struct {
	mu   sync.Mutex
	b    strings.Builder
	fail error
	hold chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	return s.b.Write(p)
}

func TestLinesAreWrittenSoonAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		l := New(Options{Out: out})
		e := allowed()
		f := accesslog.MustParse("$context.status")
		l.Add(f, e)
		time.Sleep(time.Second)
		synctest.Wait()
		if out.b.String() != "200\n" || l.Lines() != 1 {
			t.Errorf("after a second: %q, %d lines", out.b.String(), l.Lines())
		}
		e.Lane = l.Lane()
		l.Add(f, e)
		l.Flush()
		if out.b.String() != "200\n200\n" {
			t.Errorf("flushed: %q", out.b.String())
		}
		l.Add(f, e)
		if err := l.Close(); err != nil || out.b.String() != "200\n200\n200\n" {
			t.Errorf("at the end: %v, %q", err, out.b.String())
		}
		l.Flush() // of a closed Log: nothing
	})
}

func TestWhatThereIsNoRoomForIsDroppedAndCounted(t *testing.T) {
	out := &sink{hold: make(chan struct{})}
	l := New(Options{Out: out, Buffer: 1024, Wait: time.Millisecond})
	e := allowed()
	f := accesslog.MustParse("$context.status " + strings.Repeat("x", 100))
	const n = 200
	for range n {
		l.Add(f, e) // never waits, though nothing is written
	}
	if l.Dropped() == 0 {
		t.Error("nothing was dropped")
	}
	close(out.hold)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := uint64(strings.Count(out.b.String(), "\n")); got != l.Lines() || got+l.Dropped() != n {
		t.Errorf("%d lines, %d said to be written, %d dropped, of %d", got, l.Lines(), l.Dropped(), n)
	}
}

func TestLinesThatCannotBeWrittenAreTold(t *testing.T) {
	full := errors.New("no space left")
	var told error
	l := New(Options{Out: &sink{fail: full}, Failed: func(err error) { told = err }})
	l.Add(nil, allowed())
	if err := l.Close(); err != nil || !errors.Is(told, full) || l.Dropped() != 1 || l.Lines() != 0 {
		t.Errorf("%v, told %v, %d dropped", err, told, l.Dropped())
	}
}

func TestConnectionsWriteAtOnce(t *testing.T) {
	out := &sink{}
	l := New(Options{Out: out, Buffer: 4096, Wait: time.Millisecond})
	var all sync.WaitGroup
	const each, conns = 100, 8
	for range conns {
		e := allowed()
		e.Lane = l.Lane()
		all.Go(func() {
			for range each {
				l.Add(nil, e)
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for line := range strings.Lines(out.b.String()) {
		if !json.Valid([]byte(line)) {
			t.Fatalf("%q", line)
		}
		n++
	}
	if n != l.Lines() || n+l.Dropped() != each*conns {
		t.Errorf("%d lines, %d said, %d dropped", n, l.Lines(), l.Dropped())
	}
}

func TestALineCostsNoAllocation(t *testing.T) {
	l := New(Options{Out: &sink{hold: make(chan struct{})}, Wait: time.Hour, Buffer: 1 << 20})
	e := allowed()
	if n := testing.AllocsPerRun(200, func() { l.Add(nil, e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	close(l.o.Out.(*sink).hold)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkLine(b *testing.B) {
	l := New(Options{Out: nowhere{}})
	defer l.Close()
	e := allowed()
	e.Exchange.ID()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		l.Add(nil, e)
		if n++; n%1000 == 0 {
			l.Flush()
		}
	}
	b.ReportMetric(float64(l.Dropped())/float64(b.N), "dropped/op")
}
