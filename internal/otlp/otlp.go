// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package otlp says what is sent to an OpenTelemetry collector, and where that is.
// What sends it is below, in otlphttp: OpenTelemetry's libraries are large, and not
// every program that can trace links them.
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
)

// Exporter sends spans. Its methods are for one goroutine.
type Exporter interface {
	// Export sends spans, and tries again for a while where the collector asks for
	// it.
	Export(ctx context.Context, spans []Span) error
	Close(ctx context.Context) error
}

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
