// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// backends compiles Backends. Networks come before them.
func (b *build) backends() {
	for _, o := range all[*model.Backend](b) {
		b.backend(o)
	}
}

func (b *build) backend(o *model.Backend) {
	s := &o.Spec
	x := &snapshot.Backend{Name: o.Metadata.Name, Protocol: s.Protocol}
	if s.Protocol == "" {
		x.Protocol = "http"
	}
	const byWeight = "; calls go to the targets by weight"
	b.unserved(o, "spec.retries", len(s.Retries) > 0, byWeight)
	b.unserved(o, "spec.circuitBreaker", len(s.CircuitBreaker) > 0, byWeight)
	b.unserved(o, "spec.loadBalancing", s.LoadBalancing != "", byWeight)
	if s.Network != "" {
		if x.Network = b.out.Networks[s.Network]; x.Network == nil {
			b.absent(o, "spec.network", model.KindNetwork, s.Network)
			return
		}
	}
	if s.Timeout != "" {
		d, err := time.ParseDuration(s.Timeout)
		if err != nil {
			b.failf(o, "BadTimeout", "spec.timeout: %q is no length of time; write one like 10s", s.Timeout)
			return
		}
		x.Timeout = d
	}
	if s.Health != nil {
		var err error
		if x.Health, err = probes(s.Health); err != nil {
			b.failf(o, "BadHealth", "spec.health: %w", err)
			return
		}
	}
	for _, t := range s.Targets {
		x.Targets = append(x.Targets, snapshot.Target{Host: t.Host, Port: uint16(t.Port), Weight: max(t.Weight, 1), TLS: t.TLS})
	}
	b.out.Backends[x.Name] = x
}

// ReasonUnreached is the reason of advice that the Gateway of an API has no
// address in the Network that its Backend is dialled in.
const ReasonUnreached = "BackendUnreached"

// unreached notes which served APIs call Backends that their Gateway cannot
// dial: each such call is answered 504. APIs come before it.
func (b *build) unreached() {
	inside := false
	for _, x := range b.out.Backends {
		inside = inside || x.Network != nil
	}
	if !inside {
		return
	}
	for _, a := range all[*model.API](b) {
		g := b.out.Gateways[a.Spec.Gateway]
		if g == nil {
			continue
		}
		x := g.APIs[a.Status.ID]
		if x == nil {
			continue
		}
		seen := map[string]bool{}
		for _, stage := range slices.Sorted(maps.Keys(x.Stages)) {
			d := x.Stages[stage].Deployment
			if d == nil || d.Operations == nil {
				continue
			}
			for i := range d.Operations.Operations {
				name := d.Operations.Operations[i].Integration.Backend
				to := b.out.Backends[name]
				if to == nil || to.Network == nil || seen[name] {
					continue
				}
				seen[name] = true
				if _, ok := flow.Dials(g, to.Network); !ok {
					b.advice(a, ReasonUnreached, fmt.Sprintf("Stage %s calls Backend/%s, which is dialled inside Network/%s, and Gateway/%s has no address there; "+
						"set networkMode and subnet, or outbound.subnet, on the Gateway, or give the API another Gateway or Backend", stage, name, to.Network.Name, g.Name))
				}
			}
		}
	}
}

// probes compiles how a Backend is probed.
func probes(h *model.BackendHealth) (*snapshot.Health, error) {
	x := &snapshot.Health{
		Path:      h.Path,
		Unhealthy: cmp.Or(h.UnhealthyAfter, model.DefaultUnhealthyAfter),
		Healthy:   cmp.Or(h.HealthyAfter, model.DefaultHealthyAfter),
	}
	for _, d := range []struct {
		to    *time.Duration
		text  string
		unset time.Duration
	}{{&x.Interval, h.Interval, model.DefaultHealthInterval}, {&x.Timeout, h.Timeout, model.DefaultHealthTimeout}} {
		*d.to = d.unset
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v <= 0 {
			return nil, fmt.Errorf("%q is no length of time; write one like 10s", d.text)
		}
		*d.to = v
	}
	// A Backend that leaves the time-out to the default may have a shorter interval.
	x.Timeout = min(x.Timeout, x.Interval)
	return x, nil
}

// unserved notes a field that is written and that this version does nothing
// with, so that nobody relies on it.
func (b *build) unserved(o model.Object, field string, written bool, instead string) {
	if written {
		b.advice(o, "NoEffect", field+" has no effect in this version"+instead)
	}
}
