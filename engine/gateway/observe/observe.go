// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package observe opens what a process tells of its gateway's requests: the access
// log and its file, the traces and their collector.
package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/observe/access"
	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/internal/logfile"
	"postern.dev/postern/internal/otlp"
)

// Options is what a Telemetry is made of.
type Options struct {
	// AccessLog is the file of the access log, "-" for Stdout; empty writes none.
	AccessLog string
	Stdout    io.Writer
	// Collector is the URL of an OpenTelemetry collector; if it is empty the
	// environment may name one, and nothing is traced if neither does.
	Collector string
	// Ratio of the requests that bring no decision is traced; if it is nil the
	// environment may say which, and else all are.
	Ratio *float64
	// Service, Version and Instance tell a collector whose spans they are.
	Service, Version, Instance string
	// Exporter makes what sends to the collector; a program without one cannot trace.
	Exporter func(context.Context, otlp.Options) (otlp.Exporter, error)
	// Log hears of what could not be written, once a minute.
	Log *slog.Logger
}

// Telemetry is what is open.
type Telemetry struct {
	// Access is nil without an access log.
	Access *access.Log
	// Trace is nil without a collector.
	Trace *trace.Tracer

	file     *logfile.File
	exporter otlp.Exporter
	log      *slog.Logger

	once  sync.Once
	ended error

	mu   sync.Mutex
	told time.Time
}

// Open opens what Options ask for. SIGHUP has the access log's file opened again.
func Open(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{log: o.Log}
	if err := errors.Join(t.openLog(o), t.openTraces(ctx, o)); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Telemetry) openLog(o Options) error {
	if o.AccessLog == "" {
		return nil
	}
	file, err := logfile.Open(o.AccessLog, o.Stdout)
	if err != nil {
		return fmt.Errorf("access log: %w; name another file, or - for standard output", err)
	}
	t.file = file
	t.Access = access.New(access.Options{Out: file, Failed: t.failed})
	file.OnHangup(t.Access.Flush, t.failed)
	return nil
}

// ErrNoExporter says that a program cannot send traces.
var ErrNoExporter = errors.New("traces: this program is built without OpenTelemetry; run postern gateway in its place")

func (t *Telemetry) openTraces(ctx context.Context, o Options) error {
	if o.Collector == "" && !otlp.Configured() {
		return nil
	}
	if o.Exporter == nil {
		if o.Collector != "" {
			return ErrNoExporter
		}
		if o.Log != nil {
			o.Log.Warn("nothing is traced", "exception", ErrNoExporter.Error())
		}
		return nil
	}
	ratio := 1.0
	var err error
	if o.Ratio != nil {
		ratio = *o.Ratio
	} else if ratio, err = otlp.Ratio(); err != nil {
		return err
	}
	t.exporter, err = o.Exporter(ctx, otlp.Options{Endpoint: o.Collector, Service: o.Service, Version: o.Version, Instance: o.Instance})
	if err != nil {
		return err
	}
	t.Trace = trace.New(trace.Options{Ratio: ratio, Export: t.exporter.Export, Failed: t.failed})
	return nil
}

// failed tells of a failure, but not of each of very many.
func (t *Telemetry) failed(err error) {
	t.mu.Lock()
	now := time.Now()
	quiet := !t.told.IsZero() && now.Sub(t.told) < time.Minute
	if !quiet {
		t.told = now
	}
	t.mu.Unlock()
	if !quiet && t.log != nil {
		t.log.Error("part of what is told of requests is lost", "exception", err.Error())
	}
}

// Close writes what has gathered and closes everything. The gateway is closed
// before.
func (t *Telemetry) Close() error {
	if t == nil {
		return nil
	}
	t.once.Do(func() { t.ended = t.end() })
	return t.ended
}

func (t *Telemetry) end() error {
	var errs []error
	if t.Access != nil {
		errs = append(errs, t.Access.Close(), t.file.Close())
	}
	if t.Trace != nil {
		errs = append(errs, t.Trace.Close())
	}
	if t.exporter != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		errs = append(errs, t.exporter.Close(ctx))
	}
	return errors.Join(errs...)
}
