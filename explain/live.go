// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
)

// The bounds of what one question asks of backends.
const (
	maxProbes = 4
	probeTime = 3 * time.Second
	// probesTime bounds them all.
	probesTime = 6 * time.Second
	// maxLookups and lookupTime bound the names that are looked up.
	maxLookups = maxDialled
	lookupTime = 2 * time.Second
)

// live asks the running server of backends.
type live struct {
	ctx    context.Context //nolint:containedctx // lives as long as one question
	w      *World
	asked  int
	looked int
	until  time.Time
}

// live is what a question may ask; nil where no server runs.
func (w *World) live(ctx context.Context) *live {
	if w.Probe == nil && w.Health == nil && w.Lookup == nil {
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

// answered is what a name that Postern does not hold came to.
type answered struct {
	addrs        []netip.Addr
	code, reason string
}

// outsideName is one as a Gateway looks it up.
type outsideName struct{ network, host string }

// names are those that a question had looked up. What is tried for its fixes
// knows them too, and no others.
type names map[outsideName]answered

// lookup asks for the name of a destination, once for each. It reports false
// where nothing is known of it.
func (t *trail) lookup(d *request.Destination) (answered, bool) {
	k := outsideName{host: name.Canonical(d.Host)}
	if d.Network != nil {
		k.network = d.Network.Name
	}
	a, ok := t.names[k]
	if ok || !t.live.looks() || t.live.looked == maxLookups {
		return a, ok
	}
	l := t.live
	l.looked++
	until := time.Now().Add(lookupTime)
	if l.until.Before(until) {
		until = l.until
	}
	ctx, cancel := context.WithDeadline(l.ctx, until)
	defer cancel()
	a.addrs, a.code, a.reason = l.w.Lookup(ctx, t.leg.gateway, d)
	if len(a.addrs) == 0 && a.code == "" {
		return a, false
	}
	a.reason = strings.TrimSuffix(a.reason, ".") + "."
	t.names[k] = a
	return a, true
}

// looks tells whether names are looked up.
func (l *live) looks() bool { return l != nil && l.w.Lookup != nil }
