// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// core passes etcd's log on to slog. Its errors are ours; its warnings, mostly
// about the speed of the disk, are for whoever looks; the rest is dropped.
type core struct {
	to     *slog.Logger
	silent *atomic.Bool // while closing, when errors are expected; may be nil
	fields []zapcore.Field
}

func newCore(to *slog.Logger, silent *atomic.Bool) core {
	return core{to: to.With("component", "etcd"), silent: silent}
}

// early is an error that etcd reports when a new member looks at its own file
// before the first term is in it. It looks again seconds later.
const early = "failed to update storage version"

func level(l zapcore.Level, message string) slog.Level {
	if l >= zapcore.ErrorLevel && message != early {
		return slog.LevelError
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.Core.
func (c core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel && (c.silent == nil || !c.silent.Load()) && c.to.Enabled(context.Background(), level(l, ""))
}

// With implements zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return c
}

// Check implements zapcore.Core.
func (c core) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write implements zapcore.Core.
func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, list := range [][]zapcore.Field{c.fields, fields} {
		for _, f := range list {
			f.AddTo(m)
		}
	}
	attrs := make([]slog.Attr, 0, len(m.Fields))
	for k, v := range m.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.to.LogAttrs(context.Background(), level(e.Level, e.Message), e.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (core) Sync() error { return nil }
