// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/internal/otlp"
)

const (
	parentOn   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	parentOff  = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	theTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirState = "rojo=1,congo=2"
)

// traced is what a backend and a collector see of a request with these fields.
type traced struct {
	parent, state []string
	spans         []otlp.Span
}

// follow sends one request through an engine with a tracer of a ratio; a negative
// one is none.
func follow(t *testing.T, ratio float64, header map[string]string, path string) traced {
	t.Helper()
	var mu sync.Mutex
	var got traced
	var tracer *trace.Tracer
	if ratio >= 0 {
		tracer = trace.New(trace.Options{Ratio: ratio, Export: func(_ context.Context, s []otlp.Span) error {
			mu.Lock()
			defer mu.Unlock()
			got.spans = append(got.spans, s...)
			return nil
		}})
	}
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got.parent, got.state = r.Header["Traceparent"], r.Header["Tracestate"]
	}))
	defer backend.Close()
	l := newLabWith(t, observed, func(o *gateway.Options) { o.Trace = tracer })
	l.g.HTTP = "serve"
	l.dial = func(ctx context.Context, _, _ string, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", backend.Listener.Addr().String())
	}
	l.get(t, false, "GET", "http://"+l.pub.Host+path, header, "")
	l.ended(t, 1)
	if err := l.Close(); err != nil { // then the request is over
		t.Fatal(err)
	}
	if tracer != nil {
		if err := tracer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return got
}

func TestATraceIsTakenUpAndPassedOn(t *testing.T) {
	got := follow(t, 0, map[string]string{"traceparent": parentOn, "tracestate": theirState}, "/prod/x/1")
	if len(got.spans) != 2 {
		t.Fatalf("%d spans", len(got.spans))
	}
	server, call := got.spans[0], got.spans[1]
	if server.Name != "GET /x/{id}" || server.Client || !server.Remote || server.State != theirState {
		t.Errorf("%+v", server)
	}
	if call.Parent != server.ID || !call.Client || call.Trace != server.Trace {
		t.Errorf("%+v", call)
	}
	c, ok := trace.Parse(strings.Join(got.parent, " and "))
	if !ok || c.Trace != server.Trace || c.Span != call.ID || !c.Sampled || len(got.state) != 1 || got.state[0] != theirState {
		t.Errorf("the backend got %v %v", got.parent, got.state)
	}
	if parent, _ := trace.Parse(parentOn); server.Parent != parent.Span || server.Trace != parent.Trace {
		t.Errorf("the span's parent is %x", server.Parent)
	}
}

func TestWhatTheCallerDoesNotTraceIsNotTraced(t *testing.T) {
	got := follow(t, 1, map[string]string{"traceparent": parentOff, "tracestate": theirState}, "/prod/x/1")
	if len(got.spans) != 0 || len(got.parent) != 1 || got.parent[0] != parentOff || got.state[0] != theirState {
		t.Errorf("%+v", got)
	}
}

func TestATraceBeginsWhereThereIsNone(t *testing.T) {
	for name, header := range map[string]map[string]string{
		"none": nil, "bad": {"traceparent": parentOn[:54], "tracestate": theirState},
	} {
		got := follow(t, 1, header, "/prod/x/1")
		if len(got.spans) != 2 || got.spans[0].Parent != [8]byte{} || len(got.state) != 0 {
			t.Fatalf("%s: %+v", name, got)
		}
		if c, ok := trace.Parse(strings.Join(got.parent, " and ")); !ok || c.Span != got.spans[1].ID || !c.Sampled || strings.Contains(got.parent[0], theTrace) {
			t.Errorf("%s: the backend got %v", name, got.parent)
		}
		got = follow(t, 0, header, "/prod/x/1")
		if c, ok := trace.Parse(strings.Join(got.parent, " and ")); len(got.spans) != 0 || !ok || c.Sampled || len(got.state) != 0 {
			t.Errorf("%s, not chosen: %+v", name, got)
		}
	}
}

func TestAGatewayThatDoesNotTracePassesOnWhatItGot(t *testing.T) {
	got := follow(t, -1, map[string]string{"traceparent": parentOn, "tracestate": theirState}, "/prod/x/1")
	if len(got.parent) != 1 || got.parent[0] != parentOn || len(got.state) != 1 || got.state[0] != theirState {
		t.Errorf("%+v", got)
	}
	if got = follow(t, -1, nil, "/prod/x/1"); len(got.parent) != 0 {
		t.Errorf("the backend got %v", got.parent)
	}
}

func TestARefusedRequestIsTracedToo(t *testing.T) {
	got := follow(t, 1, nil, "/prod/nothing")
	if len(got.spans) != 1 || got.spans[0].Name != "GET" || got.spans[0].Failed {
		t.Errorf("%+v", got.spans)
	}
}

func TestARequestThatIsNotTracedCostsNoAllocation(t *testing.T) {
	tracer := trace.New(trace.Options{Ratio: 0})
	defer tracer.Close()
	ask, _ := speakWith(t, func(l *lab) net.Conn { return l.connect(t, false, 80) }, func(o *gateway.Options) { o.Trace = tracer })
	for range 2 * remembered {
		ask()
	}
	if n := testing.AllocsPerRun(200, ask); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
