// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package otlp sends spans to an OpenTelemetry collector, by OTLP over HTTP. It is
// the one place that knows OpenTelemetry's own library: others say what a span is.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options is what an Exporter is made of. The variables OTEL_EXPORTER_OTLP_...,
// OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME complete them.
type Options struct {
	// Endpoint is the collector's URL; its path is /v1/traces if it has none. If it
	// is empty the variables say where the collector is.
	Endpoint string
	// Service and Version tell whose spans they are, Instance which process's.
	Service, Version, Instance string
}

// Span is one span, complete.
type Span struct {
	Trace      [16]byte
	ID, Parent [8]byte // Parent is zero for the first span of a trace
	// Remote tells that the parent is another process's.
	Remote bool
	// State is the tracestate.
	State string
	Name  string
	// Client tells that the span is of a call that was made, and not of one that was
	// answered.
	Client     bool
	Start, End time.Time
	Attributes []Attribute
	// Failed marks an error, which Message may describe.
	Failed  bool
	Message string
}

// Attribute is one attribute of a span: a number, or Text if Number is nil.
type Attribute struct {
	Key, Text string
	Number    *int64
}

// Exporter sends spans. Its methods are for one goroutine.
type Exporter struct {
	exporter *otlptrace.Exporter
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	batch    batch
}

// timeout bounds one attempt to send.
const timeout = 10 * time.Second

// New returns an Exporter. Nothing is dialled before the first spans.
func New(ctx context.Context, o Options) (*Exporter, error) {
	opts := []otlptracehttp.Option{otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
		Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: timeout,
	})}
	if o.Endpoint != "" {
		to, err := ParseEndpoint(o.Endpoint)
		if err != nil {
			return nil, err
		}
		opts = append(opts, otlptracehttp.WithEndpointURL(to))
	}
	exporter, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	// What the variables say comes last, and holds.
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", o.Service), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("otlp: OTEL_RESOURCE_ATTRIBUTES: %w", err), exporter.Shutdown(ctx))
	}
	x := &Exporter{exporter: exporter}
	x.provider = sdk.NewTracerProvider(sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(given{}), sdk.WithResource(res), sdk.WithSpanProcessor(&x.batch))
	x.tracer = x.provider.Tracer("postern.dev/postern/engine/gateway", trace.WithInstrumentationVersion(o.Version))
	return x, nil
}

var errEndpoint = errors.New("is not the URL of a collector, such as http://127.0.0.1:4318")

// ParseEndpoint returns a collector's URL with its path.
func ParseEndpoint(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q %w", s, errEndpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u.String(), nil
}

// Configured reports whether the environment names a collector.
func Configured() bool {
	if off, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); off {
		return false
	}
	if s := os.Getenv("OTEL_TRACES_EXPORTER"); s != "" && !slices.Contains(strings.Split(s, ","), "otlp") {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Ratio is which part of the requests that bring no decision is to be traced: as
// OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say, or all.
func Ratio() (float64, error) {
	switch s := os.Getenv("OTEL_TRACES_SAMPLER"); s {
	case "", "always_on", "parentbased_always_on":
		return 1, nil
	case "always_off", "parentbased_always_off":
		return 0, nil
	case "traceidratio", "parentbased_traceidratio":
		arg := os.Getenv("OTEL_TRACES_SAMPLER_ARG")
		if arg == "" {
			return 1, nil
		}
		r, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(r >= 0 && r <= 1) {
			return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG %q is no number from 0 to 1", arg)
		}
		return r, nil
	default:
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER %q is not known; use parentbased_traceidratio, or always_on or always_off", s)
	}
}

// Export sends spans, and tries again for a while where the collector asks for it.
func (x *Exporter) Export(ctx context.Context, spans []Span) error {
	x.batch.ended = x.batch.ended[:0]
	for i := range spans {
		x.replay(&spans[i])
	}
	defer clear(x.batch.ended)
	if err := x.exporter.ExportSpans(ctx, x.batch.ended); err != nil {
		return fmt.Errorf("otlp: %d spans are lost: %w", len(spans), err)
	}
	return nil
}

// replay begins and ends a span as it was.
func (x *Exporter) replay(s *Span) {
	state, err := trace.ParseTraceState(s.State)
	if err != nil {
		state = trace.TraceState{}
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: s.Trace, SpanID: s.Parent, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: s.Remote,
	})
	ctx := context.WithValue(context.Background(), idKey{}, s)
	if parent.HasSpanID() {
		ctx = trace.ContextWithSpanContext(ctx, parent)
	}
	kind := trace.SpanKindServer
	if s.Client {
		kind = trace.SpanKindClient
	}
	attrs := make([]attribute.KeyValue, len(s.Attributes))
	for i, a := range s.Attributes {
		if a.Number != nil {
			attrs[i] = attribute.Int64(a.Key, *a.Number)
		} else {
			attrs[i] = attribute.String(a.Key, strings.ToValidUTF8(a.Text, "\uFFFD"))
		}
	}
	_, span := x.tracer.Start(ctx, strings.ToValidUTF8(s.Name, "\uFFFD"), trace.WithTimestamp(s.Start), trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	if s.Failed {
		span.SetStatus(codes.Error, s.Message)
	}
	span.End(trace.WithTimestamp(s.End))
}

// Close ends the Exporter.
func (x *Exporter) Close(ctx context.Context) error {
	return errors.Join(x.provider.Shutdown(ctx), x.exporter.Shutdown(ctx))
}

// idKey finds the Span whose ids the next one gets.
type idKey struct{}

// given gives spans the ids that they have.
type given struct{}

// NewIDs is for the first span of a trace.
func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	s := ctx.Value(idKey{}).(*Span)
	return s.Trace, s.ID
}

// NewSpanID is for all others.
func (given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return ctx.Value(idKey{}).(*Span).ID
}

// batch gathers spans that have ended.
type batch struct{ ended []sdk.ReadOnlySpan }

// OnStart has nothing to do.
func (*batch) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd keeps a span.
func (b *batch) OnEnd(s sdk.ReadOnlySpan) { b.ended = append(b.ended, s) }

// Shutdown has nothing to do.
func (*batch) Shutdown(context.Context) error { return nil }

// ForceFlush has nothing to do.
func (*batch) ForceFlush(context.Context) error { return nil }
