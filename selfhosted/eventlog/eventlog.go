// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package eventlog writes the log of a self-hosted gateway in the form that
// Azure's writes, which dashboards and alerts know:
//
//	[Level]timestamp [Event], key: value, key: value
package eventlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/selfhosted/setting"
)

// New returns a logger whose messages are the names of events.
func New(w io.Writer, l setting.Log, color bool) *slog.Logger {
	var level slog.Level
	switch l.Level {
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	switch l.Form {
	case "none":
		return slog.New(slog.DiscardHandler)
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: rename}))
	}
	return slog.New(&handler{out: &output{w: w}, level: level, color: color && l.Color})
}

// rename gives the fields of JSON the names of the original.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		a.Key = "timestamp"
	case slog.MessageKey:
		a.Key = "eventId"
	}
	return a
}

type output struct {
	mu sync.Mutex // one line at a time
	w  io.Writer
}

// handler writes lines of text.
type handler struct {
	out    *output
	level  slog.Level
	color  bool
	before string // attributes and groups that were given ahead
	group  string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	var b strings.Builder
	b.WriteString(h.before)
	for _, a := range as {
		write(&b, h.group, a)
	}
	n.before = b.String()
	return &n
}

func (h *handler) WithGroup(name string) slog.Handler {
	n := *h
	n.group += name + "."
	return &n
}

const timestamp = "2006-01-02T15:04:05.000"

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	name, paint := levelOf(r.Level)
	if h.color {
		b.WriteString("[" + paint + name + "\x1b[0m]")
	} else {
		b.WriteString("[" + name + "]")
	}
	b.WriteString(r.Time.UTC().Format(timestamp))
	b.WriteString(" [" + clean(r.Message) + "]")
	b.WriteString(h.before)
	r.Attrs(func(a slog.Attr) bool {
		write(&b, h.group, a)
		return true
	})
	b.WriteByte('\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := io.WriteString(h.out.w, b.String())
	return err
}

func levelOf(l slog.Level) (name, paint string) {
	switch {
	case l >= slog.LevelError:
		return "Error", "\x1b[31m"
	case l >= slog.LevelWarn:
		return "Warning", "\x1b[33m"
	case l >= slog.LevelInfo:
		return "Info", "\x1b[32m"
	}
	return "Debug", "\x1b[90m"
}

func write(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, x := range v.Group() {
			write(b, group+a.Key+".", x)
		}
		return
	}
	text := v.String()
	if v.Kind() == slog.KindTime {
		text = v.Time().UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(b, ", %s: %s", clean(group+a.Key), clean(text))
}

// clean keeps what came from elsewhere in its line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
