// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package observe opens what a process tells of its gateway's requests: the access
// log and its file.
package observe

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/observe/access"
	"postern.dev/postern/internal/logfile"
)

// Options is what a Telemetry is made of.
type Options struct {
	// AccessLog is the file of the access log, "-" for Stdout; empty writes none.
	AccessLog string
	Stdout    io.Writer
	// Log hears of what could not be written, once a minute.
	Log *slog.Logger
}

// Telemetry is what is open.
type Telemetry struct {
	// Access is nil without an access log.
	Access *access.Log

	file *logfile.File
	log  *slog.Logger

	mu   sync.Mutex
	told time.Time
}

// Open opens what Options ask for. SIGHUP has the access log's file opened again.
func Open(o Options) (*Telemetry, error) {
	t := &Telemetry{log: o.Log}
	if o.AccessLog == "" {
		return t, nil
	}
	var err error
	if t.file, err = logfile.Open(o.AccessLog, o.Stdout); err != nil {
		return nil, fmt.Errorf("access log: %w; name another file, or - for standard output", err)
	}
	t.Access = access.New(access.Options{Out: t.file, Failed: t.failed})
	t.file.OnHangup(t.Access.Flush, t.failed)
	return t, nil
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
	if t == nil || t.Access == nil {
		return nil
	}
	return errors.Join(t.Access.Close(), t.file.Close())
}
