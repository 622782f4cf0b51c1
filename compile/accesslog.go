// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"postern.dev/postern/model"
	"postern.dev/postern/model/accesslog"
	"postern.dev/postern/snapshot"
)

// accessLog is what the access log tells of the requests of o: as its own fields
// say, and else as is given. Many Stages have the same format; it is read once.
func (b *build) accessLog(o model.Object, given snapshot.AccessLog, l *model.AccessLog) snapshot.AccessLog {
	if l == nil {
		return given
	}
	if l.Enabled != nil {
		given.Off = !*l.Enabled
	}
	if l.Format == "" {
		return given
	}
	f := b.formats[l.Format]
	if f == nil {
		var err error
		if f, err = accesslog.Parse(l.Format); err != nil {
			// It was judged when it was stored, by another version perhaps.
			b.advice(o, "FormatUnknown", "spec.accessLog.format "+err.Error()+"; the default format is used")
			return given
		}
		b.formats[l.Format] = f
	}
	given.Format = f
	return given
}
