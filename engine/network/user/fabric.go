// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// Options say what the engine hands connections and queries to.
type Options struct {
	// Listen is the address of the hubs' UDP sockets; each Network's port
	// stands in its snapshot.
	Listen netip.Addr
	// Serve takes a connection to an Endpoint, or to a Gateway's node or public
	// address, and closes it when it is done. It must return once the engine is closed
	// and the connection fails.
	Serve func(net.Conn, *snapshot.Origin)
	// Resolve answers a DNS query that the resolver of a Network was asked. A
	// nil answer drops the query.
	Resolve func(ctx context.Context, network string, o *snapshot.Origin, query []byte, tcp bool) []byte
	// Own lists the server's own addresses as they are now, which are not
	// dialled for others; nil takes those of the snapshot.
	Own func() ([]netip.Addr, error)
	// Trace, if set, sees each decision about a new flow. It must not block
	// and must not keep the verdict.
	Trace func(*flow.Verdict)
	// MaxFlows bounds the entries of each flow table; 0 is 262,144. One Host may
	// hold an eighth of them, one Link or, on the segment, one Network a quarter,
	// one Gateway half.
	MaxFlows int
	// MaxConns bounds the connections that Serve has at a time; 0 is 16,384. One
	// Host may hold an eighth of them, one Link or Gateway half.
	MaxConns int
	Log      *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Fabric is the network engine: all hubs and the internet segment.
type Fabric struct {
	opts    Options
	snap    atomic.Pointer[snapshot.Snapshot]
	segment *segment
	batches sync.Pool
	conns   sync.WaitGroup
	wait    sync.WaitGroup
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	// age counts the configurations: a flow that was judged by an older one than
	// the table's is judged again.
	age        atomic.Uint64
	serving    *limited.Parties[model.Ref] // connections that Serve has
	egress     *limited.Parties[model.Ref] // flows beyond the segment
	complained atomic.Int64

	apply  sync.Mutex // one Apply at a time; taken before mu
	failed bool       // the last one did, in part; under apply
	mu     sync.RWMutex
	hubs   map[string]*hub
	// failures are of the last Apply or Retry; never changed in place.
	failures map[string]error
}

// sweepEvery is how often expired flows are forgotten.
const sweepEvery = 10 * time.Second

// New starts the engine without any Network.
func New(o Options) (*Fabric, error) {
	if o.MaxFlows == 0 {
		o.MaxFlows = 1 << 18
	}
	if o.MaxConns == 0 {
		o.MaxConns = 1 << 14
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Fabric{
		opts: o, hubs: map[string]*hub{}, batches: newBatches(),
		serving: limited.NewParties[model.Ref](o.MaxConns), egress: limited.NewParties[model.Ref](maxEgress),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.snap.Store(&snapshot.Snapshot{})
	var err error
	if f.segment, err = f.newSegment(); err != nil {
		f.cancel()
		return nil, err
	}
	f.wait.Go(f.sweep)
	return f, nil
}

func (f *Fabric) newTable() *table { return conntrack.New[action](f.opts.MaxFlows, f.opts.Now) }

// Apply makes the engine carry what s declares. Established flows live on where
// both ends and the way between them remain, whatever has become of the rules.
// What fails is reported, by Network in Failures; the rest is applied.
func (f *Fabric) Apply(s *snapshot.Snapshot) error {
	f.apply.Lock()
	defer f.apply.Unlock()
	return f.bring(s)
}

// Retry tries again what the last Apply or Retry could not bring up.
func (f *Fabric) Retry() error {
	f.apply.Lock()
	defer f.apply.Unlock()
	if !f.failed || f.ctx.Err() != nil {
		return nil
	}
	return f.bring(f.snap.Load())
}

// Failures says, by its name, why a Network is not wholly up. It must not be
// changed.
func (f *Fabric) Failures() map[string]error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.failures
}

// bring makes the engine carry what s declares.
func (f *Fabric) bring(s *snapshot.Snapshot) error {
	var errs []error
	failures := map[string]error{}
	f.snap.Store(s)
	for _, h := range f.list() {
		if s.Networks[h.name] == nil {
			f.mu.Lock()
			delete(f.hubs, h.name)
			f.mu.Unlock()
			errs = append(errs, h.close())
		}
	}
	for name, n := range s.Networks {
		h := f.hub(name)
		if h != nil && h.changed(n) {
			f.mu.Lock()
			delete(f.hubs, name)
			f.mu.Unlock()
			errs = append(errs, h.close())
			h = nil
		}
		if h == nil {
			var err error
			if h, err = f.newHub(n); err != nil {
				failures[name] = err
				continue
			}
			f.mu.Lock()
			f.hubs[name] = h
			f.mu.Unlock()
		}
		if err := h.apply(n); err != nil {
			failures[name] = err
		}
	}
	f.mu.Lock()
	f.failures = failures
	f.mu.Unlock()
	for _, err := range failures {
		errs = append(errs, err)
	}
	f.review(s)
	errs = append(errs, f.segment.applySockets(s))
	err := errors.Join(errs...)
	f.failed = err != nil
	return err
}

// changed tells whether the hub has another key or port than n says.
func (h *hub) changed(n *snapshot.Network) bool {
	old := h.net.Load().Hub
	return old.Port != n.Hub.Port || old.PrivateKey.Reveal() != n.Hub.PrivateKey.Reveal()
}

func (f *Fabric) hub(name string) *hub {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.hubs[name]
}

func (f *Fabric) list() []*hub {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]*hub, 0, len(f.hubs))
	for _, h := range f.hubs {
		out = append(out, h)
	}
	return out
}

// HubAddr is the UDP address on which a Network's hub listens.
func (f *Fabric) HubAddr(network string) (netip.AddrPort, bool) {
	h := f.hub(network)
	if h == nil {
		return netip.AddrPort{}, false
	}
	return h.dev.Addr(), true
}

// LinkUp tells whether the site behind a Link has completed a handshake with
// its present key in the last minutes.
func (f *Fabric) LinkUp(network, link string) bool {
	h := f.hub(network)
	return h != nil && h.linkUp(link)
}

// sweep forgets expired flows until the engine is closed.
func (f *Fabric) sweep() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-t.C:
			for _, h := range f.list() {
				h.flows.Sweep()
			}
			f.segment.flows.Sweep()
		}
	}
}

// Close stops the engine and waits for everything that it runs.
func (f *Fabric) Close() error {
	f.apply.Lock()
	defer f.apply.Unlock()
	f.cancel()
	var errs []error
	for _, h := range f.list() {
		errs = append(errs, h.close())
	}
	f.mu.Lock()
	f.hubs = map[string]*hub{}
	f.mu.Unlock()
	errs = append(errs, f.segment.close())
	f.conns.Wait()
	f.wait.Wait()
	return errors.Join(errs...)
}
