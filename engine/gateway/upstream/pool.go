// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package upstream calls backends over HTTP/1.1. It takes an exchange's request, sends it re-made from its parsed form,
// and leaves the backend's response in the exchange, body unread, so that the client's pace is the backend's.
package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/gateway/h1/grammar"
)

// Target is where a call goes. Connections are shared between calls with equal targets only.
type Target struct {
	Scheme string // "http" or "https"
	// From is the caller's word for who dials: connections of one are never used for another.
	From string
	Host string // a name or an address, without brackets; also the TLS server name
	Port uint16
	// Zone is the caller's word for where it is dialled from: a Network, an identity. It keeps connections apart that
	// must not be shared, and the dial function may read it.
	Zone string
}

// String returns the target as a URL, without its zone.
func (t Target) String() string { return t.Scheme + "://" + t.authority() }

// authority is the Host field for the target: the port is left out where it is the scheme's own.
func (t Target) authority() string {
	h := t.Host
	if strings.IndexByte(h, ':') >= 0 {
		h = "[" + h + "]"
	}
	if t.Scheme == "http" && t.Port == 80 || t.Scheme == "https" && t.Port == 443 {
		return h
	}
	return h + ":" + strconv.Itoa(int(t.Port))
}

// Timeouts bound a call. A zero field takes its default, a negative one is no bound.
type Timeouts struct {
	Connect time.Duration // resolving, connecting and the TLS handshake [10 s]
	Head    time.Duration // from the request's end to the response's head [29 s]
	Total   time.Duration // from the call to the end of the response's body [29 s]
	Idle    time.Duration // a pooled connection's rest [30 s]
	Tunnel  time.Duration // silence of a connection that was upgraded [10 min]
	Stream  time.Duration // silence of a call that is a stream, in place of Total [5 min]
}

// WithDefaults fills in what is zero.
func (t Timeouts) WithDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Connect, 10*time.Second)
	set(&t.Head, 29*time.Second)
	set(&t.Total, 29*time.Second)
	set(&t.Idle, 30*time.Second)
	set(&t.Tunnel, 10*time.Minute)
	set(&t.Stream, 5*time.Minute)
	return t
}

// Config is what a Pool is made of. Only Dial is needed.
type Config struct {
	// Dial opens a connection to a target, in clear: TLS is the pool's.
	Dial func(ctx context.Context, t Target) (net.Conn, error)
	// TLS returns the client configuration for an https target. ServerName and NextProtos are filled in where empty.
	// Without it the system's roots are trusted.
	TLS func(t Target) *tls.Config
	// Limits bound responses. Fields defaults to 64 KiB here, and Body to no limit.
	Limits           grammar.Limits
	Timeouts         Timeouts
	MaxIdle          int // pooled connections [1024]
	MaxIdlePerTarget int // [64]
}

// Pool keeps connections to backends.
type Pool struct {
	cfg     Config
	idle    atomic.Int64 // pooled connections of all targets
	buckets atomic.Pointer[map[Target]*bucket]

	reviews atomic.Uint64 // how often Review was called

	mu     sync.Mutex // guards the members below and the writing of buckets; taken before a bucket's lock
	closed bool
	open   map[*conn]struct{} // every connection, pooled or in use

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// bucket holds the pooled connections of one target, the one used last at the end.
type bucket struct {
	pool      *Pool
	target    Target
	authority string
	epoch     atomic.Uint64 // connections of an earlier epoch are not pooled again
	touched   atomic.Int64  // Unix seconds of the last call
	gone      atomic.Bool   // no longer in the pool's table

	mu   sync.Mutex
	idle []*conn
}

// New returns a pool. Close ends it.
func New(cfg Config) *Pool {
	if cfg.Limits.Fields == 0 {
		cfg.Limits.Fields = 64 << 10
	}
	if cfg.Limits.Body == 0 {
		cfg.Limits.Body = -1
	}
	cfg.Limits = cfg.Limits.WithDefaults()
	cfg.Timeouts = cfg.Timeouts.WithDefaults()
	if cfg.MaxIdle == 0 {
		cfg.MaxIdle = 1024
	}
	if cfg.MaxIdlePerTarget == 0 {
		cfg.MaxIdlePerTarget = 64
	}
	p := &Pool{cfg: cfg, open: make(map[*conn]struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.buckets.Store(&map[Target]*bucket{})
	p.done.Go(p.reap)
	return p
}

// bucket returns the target's bucket; the table is copied when a target is new.
func (p *Pool) bucket(t Target) *bucket {
	if b := (*p.buckets.Load())[t]; b != nil {
		return b
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.buckets.Load()
	if b := old[t]; b != nil {
		return b
	}
	next := make(map[Target]*bucket, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	b := &bucket{pool: p, target: t, authority: t.authority()}
	b.touched.Store(time.Now().Unix())
	next[t] = b
	p.buckets.Store(&next)
	return b
}

// take returns a pooled connection that is fit for use, or nil. A request that cannot be repeated needs one that is
// known to be alive; where lazy says that it will go out in one swap, that will look.
func (p *Pool) take(b *bucket, now time.Time, repeatable, lazy bool) *conn {
	for {
		b.mu.Lock()
		n := len(b.idle)
		if n == 0 {
			b.mu.Unlock()
			return nil
		}
		c := b.idle[n-1]
		b.idle[n-1] = nil
		b.idle = b.idle[:n-1]
		b.mu.Unlock()
		p.idle.Add(-1)
		rest := now.Sub(c.since)
		if t := p.cfg.Timeouts.Idle; t >= 0 && rest >= t {
			c.discard()
			continue
		}
		if lazy && c.swaps() {
			return c
		}
		switch c.alive() {
		case yes:
			return c
		case unknown:
			if repeatable || rest < time.Second {
				return c
			}
			p.restore(c) // those below have rested longer
			return nil
		}
		c.discard()
	}
}

// put pools a connection that was last used at now, if that is known, or closes it where there is no room.
func (p *Pool) put(c *conn, now time.Time) {
	if c.since = now; now.IsZero() {
		c.since = time.Now()
	}
	p.restore(c)
}

func (p *Pool) restore(c *conn) {
	b := c.b
	if p.idle.Add(1) > int64(p.cfg.MaxIdle) {
		p.idle.Add(-1)
		c.discard()
		return
	}
	b.mu.Lock()
	ok := !b.gone.Load() && c.epoch == b.epoch.Load() && !c.condemned.Load() && len(b.idle) < p.cfg.MaxIdlePerTarget
	if ok {
		b.idle = append(b.idle, c)
	}
	b.mu.Unlock()
	if !ok {
		p.idle.Add(-1)
		c.discard()
	}
}

// Idle reports how many connections are pooled.
func (p *Pool) Idle() int { return int(p.idle.Load()) }

// Open reports how many connections are open, pooled or in use.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// CloseWhere closes the pooled connections of every target for which drop is true. Calls under way finish; their
// connections are closed instead of pooled.
func (p *Pool) CloseWhere(drop func(Target) bool) {
	for t, b := range *p.buckets.Load() {
		if drop(t) {
			b.epoch.Add(1)
			p.purge(b, func(*conn) bool { return true })
		}
	}
}

// Review closes the pooled connections for which drop is true; it sees them as they were dialled. Calls under way
// finish; the connections among theirs for which drop is true, and those that are being dialled now, are closed instead
// of pooled.
func (p *Pool) Review(drop func(Target, net.Conn) bool) {
	p.reviews.Add(1)
	p.mu.Lock()
	all := make([]*conn, 0, len(p.open))
	for c := range p.open {
		all = append(all, c)
	}
	p.mu.Unlock()
	touched := make(map[*bucket]bool)
	for _, c := range all {
		if drop(c.b.target, c.under) {
			c.condemned.Store(true)
			touched[c.b] = true
		}
	}
	for b := range touched {
		p.purge(b, func(c *conn) bool { return c.condemned.Load() })
	}
}

// purge closes the pooled connections that drop names.
func (p *Pool) purge(b *bucket, drop func(*conn) bool) {
	b.mu.Lock()
	var out []*conn
	kept := b.idle[:0]
	for _, c := range b.idle {
		if drop(c) {
			out = append(out, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(b.idle[len(kept):])
	b.idle = kept
	b.mu.Unlock()
	p.idle.Add(-int64(len(out)))
	for _, c := range out {
		c.discard()
	}
}

// Close closes every connection, also those in use, gives up those that are being dialled, and waits for the pool's own
// work to end.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.done.Wait()
		return nil
	}
	p.closed = true
	p.cancel()
	for c := range p.open {
		c.nc.Close() // its owner, or the purge below, will find out
	}
	p.mu.Unlock()
	p.CloseWhere(func(Target) bool { return true })
	p.done.Wait()
	return nil
}

// register enters a new connection; false means that the pool is closed.
func (p *Pool) register(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *Pool) unregister(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// restful is for how long a pooled connection has to have rested to be without memory.
const restful = time.Second

// reap closes connections that have rested too long, and forgets targets that nobody calls.
func (p *Pool) reap() {
	every := p.cfg.Timeouts.Idle / 2
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
			p.sweep(now)
		}
	}
}

func (p *Pool) sweep(now time.Time) {
	idle := p.cfg.Timeouts.Idle
	var stale []*bucket
	for _, b := range *p.buckets.Load() {
		b.mu.Lock()
		for _, c := range b.idle {
			if now.Sub(c.since) >= restful {
				c.strip()
			}
		}
		b.mu.Unlock()
		if idle >= 0 {
			p.purge(b, func(c *conn) bool { return now.Sub(c.since) >= idle })
		}
		if now.Unix()-b.touched.Load() > int64(max(idle, time.Minute).Seconds()) {
			stale = append(stale, b)
		}
	}
	if len(stale) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[Target]*bucket)
	for t, b := range *p.buckets.Load() {
		next[t] = b
	}
	for _, b := range stale {
		b.mu.Lock()
		if len(b.idle) == 0 {
			b.gone.Store(true) // a call that still holds it closes its connection instead of pooling it
			delete(next, b.target)
		}
		b.mu.Unlock()
	}
	p.buckets.Store(&next)
}
