// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet is the management plane's side of self-hosted gateways: what
// each is assigned, the streams on which changes reach them, and what was heard
// of them. A change is encoded once for all that need the same; a gateway has
// one frame under way, and what it has acknowledged is where the next begins.
package fleet

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/model"
)

const (
	// MaxGateways bounds the connections of gateways if no other bound is set.
	MaxGateways = 4096
	// history is how many Documents of a gateway are remembered as places to
	// resume from; who resumes from another is sent the whole of it.
	history = 5
	// keepEncoded is how long an encoded frame is kept for others that need it.
	keepEncoded = 5 * time.Second
	// ackTimeout is how long a gateway may take to read and compile a frame.
	ackTimeout = 2 * time.Minute
	// writeTimeout and writeRate bound how long a frame may take to be sent.
	writeTimeout = 30 * time.Second
	writeRate    = 64 << 10 // bytes a second
)

// Options are what a Fleet works with.
type Options struct {
	// Max bounds the connections of gateways; MaxGateways if 0. One gateway's
	// instances may have half of them.
	Max int
	// Sign signs a digest with the private CA's key; Documents are not signed if
	// it is nil.
	Sign func(digest []byte) ([]byte, error)
	// Judge says why a credential is no longer good, nil if it is. It is asked
	// often.
	Judge func(Credential) *configuration.Refuse
	// Standing tells how long a credential is good.
	Standing func(Credential) (expires time.Time, warning string)
	Now      func() time.Time
	Log      *slog.Logger
}

// Credential is what a gateway has shown.
type Credential struct {
	// For is the SelfHostedGateway.
	For string
	// Token is the id of the token, Key the key that it is signed with, and Sum
	// tells whether that is still the same.
	Token, Key string
	Sum        [sha256.Size]byte
	// Gateway is what the gateway called for its Gateway; empty if it called an
	// address.
	Gateway string
	// Endpoint is the host and port that it called, or address.
	Endpoint         string
	Created, Expires time.Time
}

// Fleet is all self-hosted gateways of a management plane. It is safe for
// concurrent use.
type Fleet struct {
	opts   Options
	places *limited.Parties[string]

	// mu comes before a Stream's.
	mu          sync.Mutex
	assignments *configuration.Assignments
	set         *model.Set
	gateways    map[string]*gateway
	instances   int
	closed      bool

	wait sync.WaitGroup // for the goroutines of streams
}

// gateway is one SelfHostedGateway that was asked for; under Fleet.mu.
type gateway struct {
	name string
	// states are the newest and some before it, the newest last; empty if it
	// cannot be assigned anything, for the reason that err gives.
	states    []*state
	err       error
	streams   map[*Stream]struct{}
	instances map[string]*instance
}

func (g *gateway) newest() *state {
	if len(g.states) == 0 {
		return nil
	}
	return g.states[len(g.states)-1]
}

// New returns an empty Fleet.
func New(o Options) *Fleet {
	if o.Max <= 0 {
		o.Max = MaxGateways
	}
	return &Fleet{opts: o, places: limited.NewParties[string](o.Max), gateways: map[string]*gateway{}}
}

// Publish tells what is assigned from now on. Who is connected is sent what is
// new to it.
func (f *Fleet) Publish(set *model.Set, facts configuration.Facts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.set == set || f.closed {
		return
	}
	f.set, f.assignments = set, configuration.Read(set, facts, f.assignments)
	for name, g := range f.gateways {
		if !set.Has(model.Ref{Kind: model.KindSelfHosted, Name: name}) {
			for s := range g.streams {
				s.end(&configuration.Refuse{Code: configuration.RefuseDeleted, Message: deleted(name)})
			}
			f.instances -= len(g.instances)
			delete(f.gateways, name)
			continue
		}
		f.renew(g)
		for s := range g.streams {
			s.kick()
		}
	}
}

func deleted(name string) string {
	return fmt.Sprintf("there is no SelfHostedGateway %q any more", name)
}

// renew makes the newest state of g.
func (f *Fleet) renew(g *gateway) {
	d, err := f.assignments.Document(g.name)
	if g.err = err; err != nil {
		// What was assigned is served on; a condition says what is wrong.
		f.opts.Log.Error("the configuration of a self-hosted gateway cannot be made; it keeps what it has", "gateway", g.name, "error", err)
		return
	}
	hash, at := d.Hash(), f.opts.Now()
	if n := g.newest(); n != nil {
		if n.hash == hash {
			return
		}
		if at.Before(n.at) {
			at = n.at // the clock was set back; gateways take nothing that seems older
		}
	}
	g.states = append(g.states, &state{doc: d, hash: hash, at: at, sign: f.opts.Sign, now: f.opts.Now})
	if len(g.states) > history {
		g.states = slices.Delete(g.states, 0, len(g.states)-history)
	}
}

// gateway finds or begins a gateway; under mu.
func (f *Fleet) gateway(name string) (*gateway, error) {
	if g := f.gateways[name]; g != nil {
		return g, nil
	}
	ref := model.Ref{Kind: model.KindSelfHosted, Name: name}
	if f.set == nil || f.closed {
		return nil, &model.Error{Kind: model.Unavailable, Msg: "the management plane does not serve self-hosted gateways at the moment"}
	}
	if !f.set.Has(ref) {
		return nil, &model.Error{Kind: model.NotFound, Ref: ref, Msg: "it does not exist"}
	}
	g := &gateway{name: name, streams: map[*Stream]struct{}{}, instances: map[string]*instance{}}
	f.renew(g)
	f.gateways[name] = g
	return g, nil
}

// Current is what a gateway is assigned.
type Current struct {
	Revision int64
	Hash     string
	state    *state
}

// Encode returns the signed Document. It is not to be changed.
func (c Current) Encode() ([]byte, error) { return c.state.body() }

// Current returns what a gateway is assigned.
func (f *Fleet) Current(name string) (Current, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.gateway(name)
	if err != nil {
		return Current{}, err
	}
	n := g.newest()
	if n == nil {
		return Current{}, &model.Error{Kind: model.Unavailable, Ref: model.Ref{Kind: model.KindSelfHosted, Name: name}, Msg: "its configuration cannot be made; look at its conditions", Err: g.err}
	}
	return Current{Revision: n.doc.Revision, Hash: n.hash, state: n}, nil
}

// Enter takes a place for a connection of a gateway; leave gives it back.
func (f *Fleet) Enter(name string) (leave func(), ok bool) {
	if !f.places.Enter(name, max(f.opts.Max/2, 1)) {
		return nil, false
	}
	return sync.OnceFunc(func() { f.places.Leave(name) }), true
}

// Recheck ends the streams whose credential is no longer good.
func (f *Fleet) Recheck() {
	for _, s := range f.streams() {
		if r := f.opts.Judge(s.credential); r != nil {
			s.end(r)
		}
	}
}

// Tick does what time asks for: pings, time-outs, expired credentials, and
// forgetting. It is called about once a second.
func (f *Fleet) Tick() {
	now := f.opts.Now()
	for _, s := range f.streams() {
		s.tick(now)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.gateways {
		for _, s := range g.states {
			s.forget(now)
		}
		f.forget(g, now)
	}
}

func (f *Fleet) streams() []*Stream {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*Stream
	for _, g := range f.gateways {
		for s := range g.streams {
			out = append(out, s)
		}
	}
	return out
}

// Connected is how many streams are open.
func (f *Fleet) Connected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, g := range f.gateways {
		n += len(g.streams)
	}
	return n
}

// Close tells every gateway that the management plane ends, closes the streams
// and waits for them. They come back one after another.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	all := f.streams()
	for _, s := range all {
		s.end(&configuration.Refuse{
			Code: configuration.RefuseClosing, Message: "the management plane ends or restarts",
			RetryAfter: Spread(len(all)),
		})
	}
	f.wait.Wait()
}

// Subscribe serves a gateway on c, whose hash tells what it has already, until
// either side ends it. It returns at once; c is the Fleet's from then on.
func (f *Fleet) Subscribe(c net.Conn, sub Subscription) error {
	s, err := f.begin(c, sub)
	if err != nil {
		return err
	}
	// Recheck knows the stream from now on. What ended its credential before that
	// may have come after it was judged.
	if r := f.opts.Judge(sub.Credential); r != nil {
		s.end(r)
	} else {
		s.kick()
	}
	return nil
}

// begin begins a stream, and sends nothing yet.
func (f *Fleet) begin(c net.Conn, sub Subscription) (*Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.gateway(sub.Credential.For)
	if err != nil {
		return nil, err
	}
	if f.closed {
		return nil, &model.Error{Kind: model.Unavailable, Msg: "the management plane ends"}
	}
	s := &Stream{
		fleet: f, gateway: g, conn: c, credential: sub.Credential, instance: sub.Instance,
		leave: sub.Leave, acked: sub.Hash, greet: true, standing: true, heard: f.opts.Now(), pinged: f.opts.Now(),
	}
	g.streams[s] = struct{}{}
	f.connected(s, 1)
	f.wait.Go(func() { s.receive(sub.Begun) })
	return s, nil
}
