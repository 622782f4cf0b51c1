// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

// The bounds of what one question asks of backends.
const (
	maxProbes = 4
	probeTime = 3 * time.Second
	// probesTime bounds them all.
	probesTime = 6 * time.Second
)

// live asks the running server of backends.
type live struct {
	ctx   context.Context //nolint:containedctx // lives as long as one question
	w     *World
	asked int
	until time.Time
}

// live is what a question may ask; nil where no server runs.
func (w *World) live(ctx context.Context) *live {
	if w.Probe == nil && w.Health == nil {
		return nil
	}
	return &live{ctx: ctx, w: w, until: time.Now().Add(probesTime)}
}

// health tells what a Gateway knows of a target.
func (l *live) health(g *snapshot.Gateway, d *request.Destination, at string) (healthy, known bool, reason string) {
	if l == nil || l.w.Health == nil || d.Backend == nil {
		return false, false, ""
	}
	return l.w.Health(g.Name, d.Backend.Name, at)
}

// probe tries a target. It reports false where it is not known what comes of it.
func (l *live) probe(g *snapshot.Gateway, d *request.Destination, to netip.AddrPort) (code, reason string, seen *request.Response, ok bool) {
	if l == nil || l.w.Probe == nil || !to.IsValid() || l.asked == maxProbes {
		return "", "", nil, false
	}
	l.asked++
	until := time.Now().Add(probeTime)
	if l.until.Before(until) {
		until = l.until
	}
	ctx, cancel := context.WithDeadline(l.ctx, until)
	defer cancel()
	code, reason, seen = l.w.Probe(ctx, g, d, to)
	if reason != "" {
		reason = strings.TrimSuffix(reason, ".") + "."
	}
	return code, reason, seen, code != ""
}
