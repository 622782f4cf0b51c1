// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package otlphttp sends spans by OTLP over HTTP. It is the one place that knows
// OpenTelemetry's own library: others say what a span is.
package otlphttp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"postern.dev/postern/internal/otlp"
)

// exporter is otlp.Exporter.
type exporter struct {
	out      *otlptrace.Exporter
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	batch    batch
}

// timeout bounds one attempt to send.
const timeout = 10 * time.Second

// New returns an Exporter. Nothing is dialled before the first spans.
func New(ctx context.Context, o otlp.Options) (otlp.Exporter, error) {
	opts := []otlptracehttp.Option{otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
		Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: timeout,
	})}
	if o.Endpoint != "" {
		to, err := otlp.ParseEndpoint(o.Endpoint)
		if err != nil {
			return nil, err
		}
		opts = append(opts, otlptracehttp.WithEndpointURL(to))
	}
	out, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	// What the variables say comes last, and holds.
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", o.Service), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("otlp: OTEL_RESOURCE_ATTRIBUTES: %w", err), out.Shutdown(ctx))
	}
	x := &exporter{out: out}
	x.provider = sdk.NewTracerProvider(sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(given{}), sdk.WithResource(res), sdk.WithSpanProcessor(&x.batch))
	x.tracer = x.provider.Tracer("postern.dev/postern/engine/gateway", trace.WithInstrumentationVersion(o.Version))
	return x, nil
}

// Export sends spans, and tries again for a while where the collector asks for it.
func (x *exporter) Export(ctx context.Context, spans []otlp.Span) error {
	x.batch.ended = x.batch.ended[:0]
	for i := range spans {
		x.replay(&spans[i])
	}
	defer clear(x.batch.ended)
	if err := x.out.ExportSpans(ctx, x.batch.ended); err != nil {
		return fmt.Errorf("otlp: %d spans are lost: %w", len(spans), err)
	}
	return nil
}

// replay begins and ends a span as it was.
func (x *exporter) replay(s *otlp.Span) {
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

// Close ends the exporter.
func (x *exporter) Close(ctx context.Context) error {
	return errors.Join(x.provider.Shutdown(ctx), x.out.Shutdown(ctx))
}

// idKey finds the Span whose ids the next one gets.
type idKey struct{}

// given gives spans the ids that they have.
type given struct{}

// NewIDs is for the first span of a trace.
func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	s := ctx.Value(idKey{}).(*otlp.Span)
	return s.Trace, s.ID
}

// NewSpanID is for all others.
func (given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return ctx.Value(idKey{}).(*otlp.Span).ID
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
