// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"cmp"
	"maps"
	"slices"

	"postern.dev/postern/engine/gateway/observe/metric"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/internal/exposition"
)

// place is where connections lead, and from which Gateway.
type place struct{ gateway, target string }

// Metrics writes how many connections to backends there are.
func (r *Runner) Metrics(t *exposition.Text) {
	open, idle := map[place]int{}, map[place]int{}
	for _, connections := range []map[upstream.Target]upstream.Connections{r.pool.Connections(), r.multi.Connections()} {
		for target, n := range connections {
			p := place{target.From, metric.Target(target.Scheme, target.Host, target.Port)}
			if _, ok := open[p]; !ok && len(open) >= metric.MaxUpstreams {
				p = place{metric.Other, metric.Other}
			}
			open[p] += n.Open
			idle[p] += n.Idle
		}
	}
	all := slices.SortedFunc(maps.Keys(open), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.gateway, b.gateway), cmp.Compare(a.target, b.target))
	})
	t.Family("postern_upstream_connections", exposition.Gauge, "Connections to backends, by whether a call uses them.")
	for _, p := range all {
		t.Sample(float64(idle[p]), "gateway", p.gateway, "target", p.target, "state", "idle")
		t.Sample(float64(max(0, open[p]-idle[p])), "gateway", p.gateway, "target", p.target, "state", "busy")
	}
}
