// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package otlphttp

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/otlp"
	"postern.dev/postern/test/collector"
)

// clean takes OpenTelemetry's variables out of the environment.
func clean(t *testing.T) {
	t.Helper()
	for _, n := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME",
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
	} {
		t.Setenv(n, "")
	}
}

func start(t *testing.T, o otlp.Options) otlp.Exporter {
	t.Helper()
	o.Service, o.Version, o.Instance = "postern", "v1", "one"
	x, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return x
}

func TestSpansArriveAsTheyWere(t *testing.T) {
	clean(t)
	c := collector.New(t)
	x := start(t, otlp.Options{Endpoint: c.URL})
	at := time.Unix(1000, 5)
	status := int64(504)
	spans := []otlp.Span{
		{Trace: [16]byte{1}, ID: [8]byte{2}, Parent: [8]byte{3}, Remote: true, State: "a=1", Name: "GET /x", Start: at, End: at.Add(time.Second), Attributes: []otlp.Attribute{{Key: "http.response.status_code", Number: &status}, {Key: "url.path", Text: "/x\xff"}}, Failed: true},
		{Trace: [16]byte{1}, ID: [8]byte{4}, Parent: [8]byte{2}, Name: "GET", Client: true, Start: at, End: at},
		{Trace: [16]byte{9}, ID: [8]byte{5}, Name: "first", State: "not one", Start: at, End: at},
	}
	for range 2 {
		if err := x.Export(t.Context(), spans); err != nil {
			t.Fatal(err)
		}
	}
	got := c.Spans()
	if len(got) != 6 {
		t.Fatalf("%d spans arrived", len(got))
	}
	a, b, first := got[3], got[4], got[5]
	if a.Trace != "01"+strings.Repeat("0", 30) || a.ID != "0200000000000000" || a.Parent != "0300000000000000" || a.State != "a=1" || a.Kind != 2 || a.Status != 2 ||
		a.Start != 1000e9+5 || a.End != 1001e9+5 || a.Attributes["http.response.status_code"] != "504" || a.Attributes["url.path"] != "/x\uFFFD" || a.Name != "GET /x" {
		t.Errorf("%+v", a)
	}
	if b.Parent != a.ID || b.Trace != a.Trace || b.Kind != 3 || b.Status != 0 {
		t.Errorf("%+v", b)
	}
	if first.Parent != "" || first.ID != "0500000000000000" || first.State != "" {
		t.Errorf("%+v", first)
	}
	if a.Resource["service.name"] != "postern" || a.Resource["service.version"] != "v1" || a.Resource["service.instance.id"] != "one" {
		t.Errorf("%v", a.Resource)
	}
}

func TestTheEnvironmentSaysWhereTheCollectorIs(t *testing.T) {
	clean(t)
	if otlp.Configured() {
		t.Error("a collector is named by an empty environment")
	}
	c := collector.New(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	if !otlp.Configured() {
		t.Error("the variable is not seen")
	}
	x := start(t, otlp.Options{})
	if err := x.Export(t.Context(), []otlp.Span{{Trace: [16]byte{1}, ID: [8]byte{2}}}); err != nil {
		t.Fatal(err)
	}
	if p := c.Paths(); len(p) != 1 || p[0] != "/v1/traces" {
		t.Errorf("called %v", p)
	}
	if s := c.Spans(); len(s) != 1 || s[0].Resource["service.name"] != "mine" {
		t.Errorf("%+v", s)
	}
	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"} {
		t.Setenv(name, value)
		if otlp.Configured() {
			t.Errorf("%s=%s has no effect", name, value)
		}
		t.Setenv(name, "")
	}
}

func TestSpansThatCannotBeSentAreAnError(t *testing.T) {
	clean(t)
	c := collector.New(t)
	c.Fail(400)
	x := start(t, otlp.Options{Endpoint: c.URL + "/own/path"})
	err := x.Export(t.Context(), []otlp.Span{{Trace: [16]byte{1}, ID: [8]byte{2}}})
	if err == nil || !strings.Contains(err.Error(), "1 spans are lost") {
		t.Errorf("%v", err)
	}
	if p := c.Paths(); len(p) != 1 || p[0] != "/own/path" {
		t.Errorf("called %v", p)
	}
}

func TestNothingIsDialledBeforeThereAreSpans(t *testing.T) {
	clean(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan bool, 1)
	go func() {
		_, err := l.Accept()
		called <- err == nil
	}()
	start(t, otlp.Options{Endpoint: "http://" + l.Addr().String()})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if <-called {
		t.Error("the collector was dialled")
	}
}

func TestEndpointsAndRatios(t *testing.T) {
	clean(t)
	for in, want := range map[string]string{
		"http://127.0.0.1:4318": "http://127.0.0.1:4318/v1/traces", "https://c.example/": "https://c.example/v1/traces", "https://c.example/x": "https://c.example/x",
		"127.0.0.1:4318": "", "ftp://c": "", "http://": "", "http://user:hush@c": "", "": "",
	} {
		if got, err := otlp.ParseEndpoint(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, x := range []struct {
		sampler, arg string
		want         float64
		ok           bool
	}{
		{"", "", 1, true},
		{"always_off", "", 0, true},
		{"parentbased_always_on", "", 1, true},
		{"parentbased_traceidratio", "0.25", 0.25, true},
		{"traceidratio", "", 1, true},
		{"traceidratio", "2", 0, false},
		{"traceidratio", "NaN", 0, false},
		{"jaeger_remote", "", 0, false},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", x.sampler)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", x.arg)
		if got, err := otlp.Ratio(); got != x.want || (err == nil) != x.ok {
			t.Errorf("%s %s: %v, %v", x.sampler, x.arg, got, err)
		}
	}
}
