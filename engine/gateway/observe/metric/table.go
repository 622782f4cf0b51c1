// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package metric

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

// The bounds of series.
const (
	// MaxRoutes bounds the routes that are counted apart; those beyond it share
	// one called Other.
	MaxRoutes = 2000
	// MaxUpstreams bounds the targets in the same way.
	MaxUpstreams = 1000
	// maxCodes bounds the codes of refusals of one Gateway.
	maxCodes = 200
)

// Other is the name of what is beyond a bound.
const Other = "other"

type routeKey struct{ gateway, api, stage, name string }

type stageKey struct{ gateway, api, stage string }

type upstreamKey struct{ gateway, backend, target string }

// Gateway is what is known of one Gateway apart from routes.
type Gateway struct {
	Name string
	// unrouted are the requests for which no Stage was found.
	unrouted *Route

	mu      sync.Mutex // serialises what adds codes
	refused atomic.Pointer[map[string]*atomic.Uint64]
}

// Refuse counts a request that a step refused with a code.
func (g *Gateway) Refuse(code string) {
	if n := (*g.refused.Load())[code]; n != nil {
		n.Add(1)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := *g.refused.Load()
	if len(old) >= maxCodes {
		code = Other
	}
	if n := old[code]; n != nil {
		n.Add(1)
		return
	}
	next := maps.Clone(old)
	next[code] = new(atomic.Uint64)
	next[code].Add(1)
	g.refused.Store(&next)
}

// Set holds everything that is counted.
type Set struct {
	mu    sync.Mutex // serialises Apply
	table atomic.Pointer[table]

	otherRoute    *Route
	otherUpstream *Upstream
	nobody        *Gateway
	overflow      [2]atomic.Uint64 // routes and upstreams beyond the bounds
	connections   [listeners][protocols]Connections
}

// table is what a snapshot's routes count into.
type table struct {
	stages    []stage
	named     map[stageKey]*stage
	gateways  map[string]*Gateway
	routes    map[routeKey]*Route
	upstreams map[upstreamKey]*Upstream
}

// stage is what a Stage's operations count into, by their index.
type stage struct {
	of     *snapshot.Stage
	ops    *operation.Table
	routes []route
	missed *Route
}

type route struct {
	*Route
	// upstream is the target that the operation's URI names, targets are those of
	// its Backend.
	upstream *Upstream
	targets  []*Upstream
}

// New returns a Set without anything in it.
func New() *Set {
	s := &Set{
		otherRoute:    &Route{Gateway: Other, API: Other, Stage: Other, Name: Other},
		otherUpstream: &Upstream{Gateway: Other, Backend: Other, Target: Other},
		nobody:        newGateway(""),
	}
	s.table.Store(&table{})
	return s
}

func newGateway(name string) *Gateway {
	g := &Gateway{Name: name, unrouted: &Route{Gateway: name}}
	g.refused.Store(&map[string]*atomic.Uint64{})
	return g
}

// Apply makes ready for the requests of a snapshot. What was counted of a route
// that is in it too goes on; what is in it no longer is forgotten.
func (s *Set) Apply(snap *snapshot.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &builder{s: s, snap: snap, old: s.table.Load(), new: &table{
		gateways: map[string]*Gateway{}, named: map[stageKey]*stage{}, routes: map[routeKey]*Route{}, upstreams: map[upstreamKey]*Upstream{},
	}, backends: map[[2]string][]*Upstream{}}
	for _, g := range sorted(snap.Gateways) {
		if x := b.old.gateways[g.Name]; x != nil {
			b.new.gateways[g.Name] = x
		} else {
			b.new.gateways[g.Name] = newGateway(g.Name)
		}
		apis := slices.SortedFunc(maps.Values(g.APIs), func(a, b *snapshot.API) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
		for _, a := range apis {
			for _, st := range sorted(a.Stages) {
				b.stage(g, a, st)
			}
		}
	}
	s.overflow[0].Store(b.routesOver)
	s.overflow[1].Store(b.upstreamsOver)
	for i := range b.new.stages {
		if x := &b.new.stages[i]; x.of != nil {
			b.new.named[stageKey{x.of.API.Gateway.Name, x.of.API.Name, x.of.Name}] = x
		}
	}
	s.table.Store(b.new)
}

func sorted[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// builder makes a table.
type builder struct {
	s        *Set
	snap     *snapshot.Snapshot
	old, new *table

	// backends are the targets of each Gateway's Backends.
	backends map[[2]string][]*Upstream

	routesOver, upstreamsOver uint64
}

func (b *builder) stage(g *snapshot.Gateway, a *snapshot.API, st *snapshot.Stage) {
	for len(b.new.stages) <= st.Index {
		b.new.stages = append(b.new.stages, stage{})
	}
	x := stage{of: st, missed: b.route(routeKey{g.Name, a.Name, st.Name, ""})}
	if st.Deployment != nil && st.Deployment.Operations != nil {
		x.ops = st.Deployment.Operations
		x.routes = make([]route, len(x.ops.Operations))
		was := b.same(&x, stageKey{g.Name, a.Name, st.Name})
		for i := range x.ops.Operations {
			op := &x.ops.Operations[i]
			r := &x.routes[i]
			switch { // no two routes have the same name, and the first ones are counted apart
			case len(b.new.routes) >= MaxRoutes:
				b.routesOver++
				r.Route = b.s.otherRoute
			case was != nil && was.routes[i].Route != b.s.otherRoute:
				r.Route = was.routes[i].Route
				b.new.routes[routeKey{r.Gateway, r.API, r.Stage, r.Name}] = r.Route
			default:
				r.Route = b.route(routeKey{g.Name, a.Name, st.Name, op.Method + " " + op.Path})
			}
			if was != nil && was.routes[i].upstream != b.s.otherUpstream {
				if u := was.routes[i].upstream; u != nil {
					r.upstream = b.upstream(upstreamKey{u.Gateway, u.Backend, u.Target})
				}
			} else {
				r.upstream = b.named(g, st, &op.Integration)
			}
			if op.Integration.Backend != "" {
				r.targets = b.targets(g, op.Integration.Backend)
			}
		}
	}
	b.new.stages[st.Index] = x
}

func (b *builder) route(k routeKey) *Route {
	if r := b.new.routes[k]; r != nil {
		return r
	}
	if len(b.new.routes) >= MaxRoutes {
		b.routesOver++
		return b.s.otherRoute
	}
	r := b.old.routes[k]
	if r == nil {
		r = &Route{k.gateway, k.api, k.stage, k.name, Statuses{}, Histogram{}}
	}
	b.new.routes[k] = r
	return r
}

// same finds what a Stage had in the old table, if it serves the same operations
// with the same variables.
func (b *builder) same(x *stage, k stageKey) *stage {
	was := b.old.named[k]
	if was == nil || was.ops != x.ops || !maps.Equal(was.of.Variables, x.of.Variables) {
		return nil
	}
	return was
}

// targets finds the targets of a Backend.
func (b *builder) targets(g *snapshot.Gateway, name string) []*Upstream {
	k := [2]string{g.Name, name}
	if ts, ok := b.backends[k]; ok {
		return ts
	}
	var ts []*Upstream
	if be := b.snap.Backends[name]; be != nil {
		for _, t := range be.Targets {
			ts = append(ts, b.upstream(upstreamKey{g.Name, be.Name, Target(be.Protocol, t.Host, t.Port)}))
		}
	}
	b.backends[k] = ts
	return ts
}

// named finds the target that an operation's URI names; nil without one.
func (b *builder) named(g *snapshot.Gateway, st *snapshot.Stage, in *operation.Integration) *Upstream {
	if in.Kind != operation.HTTP && in.Kind != operation.HTTPProxy || in.Backend != "" {
		return nil
	}
	uri := ""
	for _, p := range in.URI.Pieces {
		if _, path, ok := strings.Cut(uri, "://"); ok && strings.Contains(path, "/") {
			break // the host is complete
		}
		switch p.Kind {
		case operation.PieceText:
			uri += p.Value
		case operation.PieceStageVariable:
			uri += st.Variables[p.Value]
		default:
			return nil // what a caller chooses is no label
		}
	}
	d, _, err := request.SplitURL(uri)
	if err != nil {
		return nil
	}
	return b.upstream(upstreamKey{g.Name, "", Target(d.Scheme, d.Host, d.Port)})
}

func (b *builder) upstream(k upstreamKey) *Upstream {
	if u := b.new.upstreams[k]; u != nil {
		return u
	}
	if len(b.new.upstreams) >= MaxUpstreams {
		b.upstreamsOver++
		return b.s.otherUpstream
	}
	u := b.old.upstreams[k]
	if u == nil {
		u = &Upstream{Gateway: k.gateway, Backend: k.backend, Target: k.target}
	}
	b.new.upstreams[k] = u
	return u
}

// Target is how a target is written.
func Target(scheme, host string, port uint16) string {
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// Route finds what a request counts into. Each argument is nil where the request
// did not get that far.
func (s *Set) Route(g *snapshot.Gateway, st *snapshot.Stage, op *operation.Operation) *Route {
	r, missed := s.at(st, op)
	switch {
	case r != nil:
		return r.Route
	case missed != nil:
		return missed
	}
	return s.route(g, st, op)
}

// at finds the entry of an operation, or what counts the requests of a Stage
// without one. Both are nil if the Stage is another snapshot's.
func (s *Set) at(st *snapshot.Stage, op *operation.Operation) (r *route, missed *Route) {
	t := s.table.Load()
	if st == nil || st.Index >= len(t.stages) {
		return nil, nil
	}
	x := &t.stages[st.Index]
	switch {
	case x.of != st:
		return nil, nil
	case op == nil:
		return nil, x.missed
	case op.Index < len(x.routes) && &x.ops.Operations[op.Index] == op:
		return &x.routes[op.Index], nil
	}
	return nil, nil
}

// route finds a route by its names: for requests that no Stage was found for, and
// for those of a snapshot that has been replaced in the meantime.
func (s *Set) route(g *snapshot.Gateway, st *snapshot.Stage, op *operation.Operation) *Route {
	if st == nil {
		return s.Gateway(g).unrouted
	}
	k := routeKey{gateway: st.API.Gateway.Name, api: st.API.Name, stage: st.Name}
	if op != nil {
		k.name = op.Method + " " + op.Path
	}
	if r := s.table.Load().routes[k]; r != nil {
		return r
	}
	return s.otherRoute
}

// Upstream finds what a call counts into: of the operation that made it, to the
// picked target of its Backend if it has one.
func (s *Set) Upstream(st *snapshot.Stage, op *operation.Operation, backend bool, pick int) *Upstream {
	r, _ := s.at(st, op)
	switch {
	case r == nil:
	case backend && pick < len(r.targets):
		return r.targets[pick]
	case !backend && r.upstream != nil:
		return r.upstream
	}
	return s.otherUpstream
}

// Gateway finds what is counted of a Gateway; nil is for what nobody serves.
func (s *Set) Gateway(g *snapshot.Gateway) *Gateway {
	if g == nil {
		return s.nobody
	}
	if x := s.table.Load().gateways[g.Name]; x != nil {
		return x
	}
	return s.nobody
}
