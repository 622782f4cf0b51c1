// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package registry holds what is stored as resources, at the newest revision:
// it admits changes, follows those of other writers, compiles what it holds and
// publishes the snapshot. Writers never wait for a compilation that is not
// theirs: while one runs, changes gather, and the next takes the newest state.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/store"
)

// Input is what a snapshot is compiled from.
type Input struct {
	Set      *model.Set
	Revision int64
	Hub      func(network string) snapshot.Hub
}

// Output is what came out: the snapshot, and the conditions of what is not
// simply ready.
type Output struct {
	Snapshot   *snapshot.Snapshot
	Conditions map[model.Ref][]model.Condition
}

// Options are what a Registry works with.
type Options struct {
	Store store.Store
	// Admission says how changes are judged.
	Admission model.Options
	// Check judges what is changed beyond that, such as policies and OpenAPI
	// documents: what would not compile is refused before it is stored. It may
	// be nil.
	Check func(next *model.Set, changed []model.Ref) error
	// Compile makes the snapshot.
	Compile func(Input) Output
	// Publish hands a snapshot to the engines; when it returns, requests that
	// begin are served by it.
	Publish func(*snapshot.Snapshot)
	// Engines says what the engines could not bring up of a resource at this
	// moment. It may be nil.
	Engines func(model.Ref) []model.Condition
	// Ports is where the Networks' hubs listen.
	Ports Ports
	// Now is the clock; nil is the system's.
	Now func() time.Time
	Log *slog.Logger
}

// Published is what is being served.
type Published struct {
	Output
	// Revision is the store revision that the snapshot takes account of; that
	// of the snapshot itself is older where only tokens have changed since.
	Revision int64
	engines  func(model.Ref) []model.Condition
	// of is the head that the snapshot was made of.
	of *Head
	// failure says why the state at Revision is not served.
	failure error
}

// ConditionsOf returns all that is known of a resource's state, that it is ready
// included.
func (p *Published) ConditionsOf(r model.Ref) []model.Condition {
	out := p.conditions(r)
	for _, c := range out {
		if c.Type == "Ready" {
			return out
		}
	}
	return append([]model.Condition{{Type: "Ready", Status: true}}, out...)
}

// Set is the resources that the snapshot was made of.
func (p *Published) Set() *model.Set { return p.of.Set }

// NotReady returns the condition that keeps a resource from being served.
func (p *Published) NotReady(r model.Ref) *model.Condition { return NotReady(p.conditions(r)) }

// NotReady returns the condition, of those of a resource, that keeps it from being
// served.
func NotReady(cs []model.Condition) *model.Condition {
	for _, c := range cs {
		if c.Type == "Ready" && !c.Status {
			return &c
		}
	}
	return nil
}

// conditions are those of the snapshot and then those of the engines.
func (p *Published) conditions(r model.Ref) []model.Condition {
	out := p.Conditions[r]
	if p.engines == nil {
		return out
	}
	return append(slices.Clip(out), p.engines(r)...)
}

// Registry is the state of one management plane. It is safe for concurrent
// use.
type Registry struct {
	opts Options

	head      atomic.Pointer[Head]
	published atomic.Pointer[Published]
	trouble   atomic.Pointer[error] // why the store does not answer

	// write is held, as a token in the channel, by the one change of this
	// process that is being made; changes of other processes show as conflicts.
	write chan struct{}
	dirty chan struct{} // a head is newer than what is published

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when head or published moves
	behind  time.Time     // since when something is stored that is not served

	stop context.CancelFunc
	done sync.WaitGroup
}

// Open loads what is stored, publishes it, and follows the store until Close.
func Open(ctx context.Context, o Options) (*Registry, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Registry{
		opts: o, write: make(chan struct{}, 1), dirty: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	docs, revision, err := o.Store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the store: %w", err)
	}
	h := newHead(docs, revision)
	r.complain(h)
	r.head.Store(h)
	r.compile(h)
	follow, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.done.Go(func() { r.follow(follow) })
	r.done.Go(func() { r.compileAll(follow) })
	if err := r.repairHubs(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// repairHubs gives every hub a port of the present range; it changes nothing
// when they have one.
func (r *Registry) repairHubs(ctx context.Context) error {
	h := r.head.Load()
	for _, n := range model.All[*model.Network](h.Set) {
		hub, err := h.hub(n.Metadata.Name)
		if err != nil {
			return err
		}
		if r.opts.Ports.contain(hub.Port) && hub.PublicKey == n.Status.PublicKey && !hub.PrivateKey.IsZero() {
			continue
		}
		if _, err := r.Update(ctx, false, func(*Head) (*Edit, error) { return &Edit{}, nil }); err != nil {
			return fmt.Errorf("give the hubs their ports: %w", err)
		}
		return nil
	}
	return nil
}

// Close stops following the store and waits for what runs. The store stays
// open.
func (r *Registry) Close() error {
	r.stop()
	r.done.Wait()
	return nil
}

// Head returns the newest state known here.
func (r *Registry) Head() *Head { return r.head.Load() }

// Published returns what is being served.
func (r *Registry) Published() *Published { return r.published.Load() }

// Changed returns a channel that is closed when Head or Published moves. Ask for
// it before looking at these.
func (r *Registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Trouble says why the store does not answer; nil if it does.
func (r *Registry) Trouble() error {
	if p := r.trouble.Load(); p != nil {
		return *p
	}
	return nil
}

func (r *Registry) setTrouble(err error) {
	if err == nil {
		r.trouble.Store(nil)
		return
	}
	r.trouble.Store(&err)
}

// complain logs the resources that this build cannot read: they are not served,
// everything else is.
func (r *Registry) complain(h *Head) {
	for k, err := range h.broken {
		r.opts.Log.Error("a stored resource is left out: this build cannot read it; apply it again", "resource", k.String(), "error", err)
	}
}

// follow moves the head with the store's events.
func (r *Registry) follow(ctx context.Context) {
	const first, last = 100 * time.Millisecond, 5 * time.Second
	pause := first
	for ctx.Err() == nil {
		events, err := r.opts.Store.Watch(ctx, r.head.Load().Revision)
		if err == nil {
			for e := range events {
				pause = first
				r.setTrouble(nil)
				r.advance(e)
			}
			err = store.NewError(store.ErrUnavailable, "the watch has ended", nil)
		}
		if ctx.Err() != nil {
			return
		}
		r.setTrouble(err)
		if errors.Is(err, store.ErrClosed) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, last)
		}
	}
}

func (r *Registry) advance(e store.Event) {
	h, matters := r.head.Load().after(e)
	if len(h.broken) > 0 && matters {
		r.complain(h)
	}
	r.mu.Lock()
	r.head.Store(h)
	r.lag(r.opts.Now())
	r.mu.Unlock()
	select {
	case r.dirty <- struct{}{}:
	default:
	}
	r.wake()
}

// lag notes that something is stored that is not served, if it is, and since when.
// It is called with mu.
func (r *Registry) lag(since time.Time) {
	p := r.published.Load()
	if r.behind.IsZero() && (p.failure != nil || r.head.Load().Revision != p.Revision) {
		r.behind = since
	}
}

// Behind returns since when something is stored that is not served: it is being
// compiled, or cannot be. It is the zero time if all is served.
func (r *Registry) Behind() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.behind
}

// compileAll publishes the newest head whenever there is one that is not
// published.
func (r *Registry) compileAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.dirty:
			r.compile(r.head.Load())
		}
	}
}

func (r *Registry) compile(h *Head) {
	began, was := r.opts.Now(), r.published.Load()
	p := &Published{Revision: h.Revision, engines: r.opts.Engines, of: h}
	if was != nil && was.failure == nil && h.compilesAs(was.of) {
		p.Output, p.of = was.Output, was.of
	} else if out, err := r.run(h); err != nil {
		r.opts.Log.Error("a snapshot could not be made; the last one is still served", "revision", h.Revision, "error", err)
		p.failure = err
		if was != nil {
			p.Output, p.of = was.Output, was.of
		} else {
			p.Output = Output{Snapshot: &snapshot.Snapshot{}}
		}
	} else {
		p.Output = out
		r.opts.Publish(out.Snapshot)
	}
	r.mu.Lock()
	r.published.Store(p)
	if p.failure == nil {
		r.behind = time.Time{}
	}
	r.lag(began) // what is newer came since
	r.mu.Unlock()
	r.wake()
}

// run compiles h. A panic there must not end a server that serves.
func (r *Registry) run(h *Head) (out Output, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.opts.Log.Error("compile panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("compile revision %d: internal error", h.Revision)
		}
	}()
	return r.opts.Compile(Input{Set: h.Set, Revision: h.Revision, Hub: func(network string) snapshot.Hub {
		hub, err := h.hub(network)
		if err != nil {
			r.opts.Log.Error("a Network is served without its hub; restore a backup", "error", err)
		}
		return hub
	}}), nil
}

func (r *Registry) wake() {
	r.mu.Lock()
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// await waits until ok holds.
func (r *Registry) await(ctx context.Context, ok func() bool) error {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
