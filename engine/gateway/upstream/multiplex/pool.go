// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package multiplex calls backends over HTTP/2: in clear, by prior knowledge, or under TLS, by ALPN. Many calls share a
// connection, so that it is not the calls but the connections that are pooled; what a call is told, what bounds it and
// how it fails are as in package upstream.
package multiplex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/upstream"
)

// The schemes of targets, beside https.
const (
	H2C   = "h2c"   // HTTP/2 in clear
	GRPC  = "grpc"  // the same, every call a stream
	GRPCS = "grpcs" // that under TLS
)

// secure tells whether a target is called under TLS.
func secure(t upstream.Target) bool { return t.Scheme == "https" || t.Scheme == GRPCS }

// ErrOldVersion is the reason of calls to an https target that does not speak HTTP/2. It has seen nothing of them.
var ErrOldVersion = errors.New("multiplex: the target does not speak HTTP/2")

var errNoRoom = fmt.Errorf("multiplex: the backend takes connections, and no calls on them: %w", io.ErrUnexpectedEOF)

const (
	// maxStreams bounds the calls that share a connection, whatever its backend would take.
	maxStreams = 100
	// window is what a backend may send of one response ahead of the client that reads it.
	window = 256 << 10
	// maxDials bounds the connections that a call waits for: a backend may close each at once, or be all too busy.
	maxDials = 8
	// oldFor is how long a target that did not speak HTTP/2 is not asked again.
	oldFor = time.Minute
)

// Pool keeps connections to backends.
type Pool struct {
	cfg upstream.Config
	tr  *http.Transport

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	done   sync.WaitGroup // reaping, dials and calls

	mu      sync.Mutex // guards the members below and all of the buckets
	closed  bool
	reviews uint64
	buckets map[upstream.Target]*bucket
}

// bucket holds the connections to one target.
type bucket struct {
	target  upstream.Target
	conns   []*conn
	dialing *dialing // nil: none is being dialled
	touched time.Time
	old     time.Time // until when the target is taken not to speak HTTP/2
}

// conn is one connection.
type conn struct {
	cc    *http.ClientConn
	under net.Conn // as it was dialled: beneath TLS
	// Guarded by the pool's lock.
	calls     int
	since     time.Time // when the last call ended
	condemned bool      // no call follows
}

// dialing is a connection that comes about. Those who wait for it share its failure.
type dialing struct {
	done chan struct{}
	f    *upstream.Failure
}

// New returns a pool. Close ends it.
func New(cfg upstream.Config) *Pool {
	if cfg.Limits.Fields == 0 {
		cfg.Limits.Fields = 64 << 10
	}
	cfg.Limits = cfg.Limits.WithDefaults()
	cfg.Timeouts = cfg.Timeouts.WithDefaults()
	p := &Pool{cfg: cfg, buckets: make(map[upstream.Target]*bucket)}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.tr = transport(&p.cfg)
	p.done.Go(p.reap)
	return p
}

// bucket returns the target's bucket. The pool's lock is held.
func (p *Pool) bucket(t upstream.Target) *bucket {
	b := p.buckets[t]
	if b == nil {
		b = &bucket{target: t}
		p.buckets[t] = b
	}
	b.touched = time.Now()
	return b
}

// begin counts a call; false means that the pool is closed. Each call that has begun ends with done.Done.
func (p *Pool) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.done.Add(1)
	return true
}

// take returns a connection with room for a call, which is reserved. Where there is none it waits for the one that is
// being dialled, or dials it: never two of a target at a time.
func (p *Pool) take(ctx context.Context, t upstream.Target) (c *conn, reused bool, f *upstream.Failure) {
	for range maxDials {
		p.mu.Lock()
		b := p.bucket(t)
		if time.Now().Before(b.old) {
			p.mu.Unlock()
			return nil, false, fail(t, upstream.Securing, ErrOldVersion)
		}
		if c := b.reserve(); c != nil {
			reused = c.calls > 1 || !c.since.IsZero()
			p.mu.Unlock()
			return c, reused, nil
		}
		d := b.dialing
		if d == nil && !p.closed {
			d = &dialing{done: make(chan struct{})}
			b.dialing = d
			reviews := p.reviews
			p.done.Go(func() { p.dial(b, d, reviews) })
		}
		p.mu.Unlock()
		if d == nil {
			return nil, false, fail(t, upstream.Connecting, upstream.ErrClosed)
		}
		select {
		case <-d.done:
			if d.f != nil {
				f := *d.f
				return nil, false, &f
			}
		case <-ctx.Done():
			return nil, false, fail(t, upstream.Connecting, context.Cause(ctx))
		}
	}
	return nil, false, fail(t, upstream.Connecting, errNoRoom)
}

// reserve finds a connection with room, the one used last first, and forgets those that have ended.
func (b *bucket) reserve() *conn {
	b.prune(func(c *conn) bool { return c.calls == 0 && (c.condemned || c.ended()) })
	for i := len(b.conns) - 1; i >= 0; i-- {
		c := b.conns[i]
		if c.condemned || c.calls >= maxStreams || c.ended() || c.cc.Reserve() != nil {
			continue
		}
		c.calls++
		return c
	}
	return nil
}

// ended tells whether a connection takes no calls any more: it is closed, or the backend has said goodbye.
func (c *conn) ended() bool {
	return c.cc.Err() != nil || c.cc.InFlight() == 0 && c.cc.Available() == 0
}

// prune closes the connections that drop names.
func (b *bucket) prune(drop func(*conn) bool) {
	kept := b.conns[:0]
	for _, c := range b.conns {
		if drop(c) {
			c.close()
		} else {
			kept = append(kept, c)
		}
	}
	clear(b.conns[len(kept):])
	b.conns = kept
}

func (c *conn) close() {
	_ = c.cc.Close() // nothing is owed to the peer any more
}

// release gives a call's place back.
func (p *Pool) release(t upstream.Target, c *conn, spoilt bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.calls--
	c.since = time.Now()
	c.condemned = c.condemned || spoilt
	if b := p.buckets[t]; b != nil {
		b.prune(func(c *conn) bool { return c.calls == 0 && (c.condemned || c.ended()) })
	}
}

// Open reports how many connections are open.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, b := range p.buckets {
		n += len(b.conns)
	}
	return n
}

// Review closes the connections without calls for which drop is true; it sees them as they were dialled. Those with
// calls under way, and those that are being dialled now, take no further calls and are closed after the last.
func (p *Pool) Review(drop func(upstream.Target, net.Conn) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reviews++
	for t, b := range p.buckets {
		for _, c := range b.conns {
			c.condemned = c.condemned || drop(t, c.under)
		}
		b.prune(func(c *conn) bool { return c.calls == 0 && c.condemned })
	}
}

// Close gives up what is being dialled and every call under way, closes all connections, and waits.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.cancel(upstream.ErrClosed)
	for _, b := range p.buckets {
		for _, c := range b.conns {
			c.condemned = true
			c.close()
		}
	}
	p.mu.Unlock()
	p.done.Wait()
	return nil
}

// reap closes connections that have rested too long, and forgets targets that nobody calls.
func (p *Pool) reap() {
	idle := p.cfg.Timeouts.Idle
	every := idle / 2
	if every <= 0 {
		every = 30 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.sweep(now, idle)
		}
	}
}

func (p *Pool) sweep(now time.Time, idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, b := range p.buckets {
		b.prune(func(c *conn) bool {
			return c.calls == 0 && (c.condemned || c.ended() || idle >= 0 && now.Sub(c.since) >= idle)
		})
		if len(b.conns) == 0 && b.dialing == nil && now.Sub(b.touched) > max(idle, oldFor) {
			delete(p.buckets, t)
		}
	}
}
