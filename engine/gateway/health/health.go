// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package health probes the targets of Backends from the Gateways that call
// them, so that calls go to those that answer.
package health

import (
	"cmp"
	"context"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/snapshot"
)

// Options is what a Prober is made of. Only Dial is needed.
type Options struct {
	// Dial opens a connection to a target as a call would.
	Dial func(ctx context.Context, gateway, network, host string, port uint16) (net.Conn, error)
	// Roots are trusted for targets with https; nil trusts the system's.
	Roots *x509.CertPool
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// InFlight bounds the probes that wait for an answer at a time [64]. The
	// targets of one Backend have an eighth of that.
	InFlight int
}

// Prober probes what the snapshot of the last Apply says. A nil Prober knows
// nothing, and takes no target out.
type Prober struct {
	o     Options
	slots chan struct{}
	sets  atomic.Pointer[map[user]*Set]
	wait  sync.WaitGroup

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // one Apply at a time
	probes map[subject]*probe
	shares map[user]chan struct{} // a slot for each probe at a time
}

// user is a Backend as one Gateway calls it.
type user struct{ gateway, backend string }

// New returns a Prober without anything to probe. Close ends it.
func New(o Options) *Prober {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.InFlight <= 0 {
		o.InFlight = 64
	}
	p := &Prober{o: o, slots: make(chan struct{}, o.InFlight), probes: map[subject]*probe{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.sets.Store(&map[user]*Set{})
	return p
}

// Set is what is known of the targets of one Backend as one Gateway reaches
// them. A nil Set knows nothing.
type Set struct {
	backend *snapshot.Backend
	probes  []*probe
}

// Out reports whether calls are not to go to target i.
func (s *Set) Out(i int) bool { return s != nil && s.probes[i].out.Load() }

// Of returns what is known of b as a Gateway reaches it.
func (p *Prober) Of(gateway string, b *snapshot.Backend) *Set {
	if p == nil || b.Health == nil {
		return nil
	}
	s := (*p.sets.Load())[user{gateway, b.Name}]
	if s == nil || s.backend != b && !sameTargets(s.backend, b) {
		return nil // a snapshot that is just coming, or going
	}
	return s
}

func sameTargets(a, b *snapshot.Backend) bool {
	return slices.EqualFunc(a.Targets, b.Targets, func(x, y snapshot.Target) bool { return x.Host == y.Host && x.Port == y.Port })
}

// Apply makes the Prober follow s. What is probed as before keeps its state.
func (p *Prober) Apply(s *snapshot.Snapshot) {
	used := uses(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	sets, probes := make(map[user]*Set, len(used)), map[subject]*probe{}
	shares := make(map[user]chan struct{}, len(used))
	for u, b := range used {
		set := &Set{backend: b}
		if shares[u] = p.shares[u]; shares[u] == nil {
			shares[u] = make(chan struct{}, max(p.o.InFlight/backendShare, 1))
		}
		for i := range b.Targets {
			k := about(u, b, &b.Targets[i])
			pr := probes[k]
			if pr == nil {
				if pr = p.probes[k]; pr == nil {
					pr = p.start(k, shares[u])
				}
				probes[k] = pr
			}
			set.probes = append(set.probes, pr)
		}
		sets[u] = set
	}
	p.sets.Store(&sets)
	for k, pr := range p.probes {
		if probes[k] == nil {
			pr.cancel()
		}
	}
	p.probes, p.shares = probes, shares
}

// backendShare is the part of the probes at a time that one Backend may have, so
// that many targets that are silent do not keep the probes of others waiting.
const backendShare = 8

// uses lists the Backends with probes that some Deployment of each Gateway's
// APIs calls.
func uses(s *snapshot.Snapshot) map[user]*snapshot.Backend {
	probed := map[string]*snapshot.Backend{}
	for name, b := range s.Backends {
		if b.Health != nil {
			probed[name] = b
		}
	}
	out := map[user]*snapshot.Backend{}
	if len(probed) == 0 {
		return out
	}
	for _, g := range s.Gateways {
		for _, a := range g.APIs {
			for _, st := range a.Stages {
				if st.Deployment == nil || st.Deployment.Operations == nil {
					continue
				}
				ops := st.Deployment.Operations.Operations
				for i := range ops {
					if b := probed[ops[i].Integration.Backend]; b != nil {
						out[user{g.Name, b.Name}] = b
					}
				}
			}
		}
	}
	return out
}

func (p *Prober) start(k subject, share chan struct{}) *probe {
	ctx, cancel := context.WithCancel(p.ctx)
	pr := &probe{subject: k, share: share, cancel: cancel}
	p.wait.Go(func() { p.follow(ctx, pr) })
	return pr
}

// follow probes one target until ctx ends.
func (p *Prober) follow(ctx context.Context, pr *probe) {
	t := time.NewTimer(rand.N(pr.health.Interval / 10))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !p.enter(ctx, pr) {
			return
		}
		err := p.once(ctx, &pr.subject)
		<-p.slots
		<-pr.share
		if ctx.Err() != nil {
			return
		}
		pr.note(err, p.o.Now())
		// The probes of many targets spread over time.
		t.Reset(pr.health.Interval*9/10 + rand.N(pr.health.Interval/5))
	}
}

// enter waits for a slot of the Backend's and one of all; false if ctx ended.
func (p *Prober) enter(ctx context.Context, pr *probe) bool {
	select {
	case <-ctx.Done():
		return false
	case pr.share <- struct{}{}:
	}
	select {
	case <-ctx.Done():
		<-pr.share
		return false
	case p.slots <- struct{}{}:
		return true
	}
}

// Target is what is known of a target.
type Target struct {
	Host string
	Port uint16
	// Known tells whether it has been probed; until then it is taken for healthy.
	Known, Healthy bool
	// Since is when it became so, Checked the time of the last probe, Err what
	// was wrong with the last one that failed.
	Since, Checked time.Time
	Err            string
}

// Targets lists what is known of a Backend's targets as a Gateway reaches them,
// in order; nothing if they are not probed from there.
func (p *Prober) Targets(gateway, backend string) []Target {
	if p == nil {
		return nil
	}
	s := (*p.sets.Load())[user{gateway, backend}]
	if s == nil {
		return nil
	}
	out := make([]Target, len(s.probes))
	for i, pr := range s.probes {
		out[i] = pr.report()
	}
	return out
}

// Gateways lists the Gateways that probe a Backend, by name.
func (p *Prober) Gateways(backend string) []string {
	var out []string
	for u := range *p.sets.Load() {
		if u.backend == backend {
			out = append(out, u.gateway)
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}

// Close ends every probe and waits.
func (p *Prober) Close() error {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.wait.Wait()
	return nil
}
