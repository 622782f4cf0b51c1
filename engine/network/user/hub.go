// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/engine/network/conntrack"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/engine/network/wg"
	"postern.dev/postern/snapshot"
)

// hub is the router, filter and resolver of one Network.
type hub struct {
	f     *Fabric
	name  string
	dev   *wg.Device
	stack *stack.Stack
	flows *table
	log   *slog.Logger

	ctx    context.Context // ends with close
	cancel context.CancelFunc

	shares shares
	nat    *conntrack.Share // of the segment's table
	errors *errorLimit

	// net is the Network as the newest snapshot has it.
	net atomic.Pointer[snapshot.Network]

	mu      sync.Mutex
	peers   map[string]peer // by public key
	sockets map[netip.Addr]*socketSet
	wait    sync.WaitGroup
}

// peer is what was told to the WireGuard device.
type peer struct {
	allowed []netip.Prefix
	remote  string
	link    string
}

func (f *Fabric) newHub(n *snapshot.Network) (*hub, error) {
	st, err := stack.New(stack.Options{})
	if err != nil {
		return nil, err
	}
	h := &hub{
		f: f, name: n.Name, stack: st, flows: f.newTable(),
		log:   f.opts.Log.With("network", n.Name),
		peers: map[string]peer{}, sockets: map[netip.Addr]*socketSet{},
		nat: conntrack.NewShare(max(f.opts.MaxFlows/networkShare, 2)), errors: newErrorLimit(f.opts.Now()),
	}
	h.ctx, h.cancel = context.WithCancel(f.ctx)
	h.net.Store(n)
	key, err := wg.ParsePrivateKey(n.Hub.PrivateKey.Reveal())
	if err != nil {
		h.cancel()
		return nil, errors.Join(fmt.Errorf("hub key of Network/%s: %w", n.Name, err), st.Close())
	}
	h.dev, err = wg.New(wg.Options{
		PrivateKey: key,
		Listen:     netip.AddrPortFrom(f.opts.Listen, uint16(n.Hub.Port)), //nolint:gosec // a port
		Carrier:    carrier{h},
		Log:        h.log,
	})
	if err != nil {
		h.cancel()
		return nil, errors.Join(fmt.Errorf("WireGuard hub of Network/%s on %s port %d: %w", n.Name, f.opts.Listen, n.Hub.Port, err), st.Close())
	}
	return h, nil
}

// close stops the hub and waits for what it runs.
func (h *hub) close() error {
	h.cancel()
	h.mu.Lock()
	for _, s := range h.sockets {
		s.close()
	}
	h.sockets = nil
	h.mu.Unlock()
	err := errors.Join(h.dev.Close(), h.stack.Close())
	h.wait.Wait()
	return err
}

// apply brings peers and sockets to what n says. Flows of interfaces that are
// still there live on.
func (h *hub) apply(n *snapshot.Network) error {
	h.net.Store(n)
	return errors.Join(h.applyPeers(n), h.applySockets(n))
}

func (h *hub) applyPeers(n *snapshot.Network) error {
	want := map[string]peer{}
	for _, i := range n.Interfaces {
		if i.PublicKey != "" {
			p := want[i.PublicKey]
			p.allowed = append(p.allowed, netip.PrefixFrom(i.Addr, i.Addr.BitLen()))
			want[i.PublicKey] = p
		}
	}
	for _, l := range n.Links {
		if l.PublicKey != "" {
			p := want[l.PublicKey]
			p.allowed = append(p.allowed, l.Prefixes...)
			p.remote, p.link = l.Remote, l.Name
			want[l.PublicKey] = p
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for key := range h.peers {
		if _, ok := want[key]; !ok {
			errs = append(errs, h.removePeer(key))
			delete(h.peers, key)
		}
	}
	for key, p := range want {
		if old, ok := h.peers[key]; ok && old.equal(p) {
			continue
		}
		if err := h.setPeer(key, p); err != nil {
			errs = append(errs, err)
			continue
		}
		h.peers[key] = p
	}
	return errors.Join(errs...)
}

func (h *hub) setPeer(key string, p peer) error {
	k, err := wg.ParseKey(key)
	if err != nil {
		return fmt.Errorf("public key %q in Network/%s: %w", key, h.name, err)
	}
	w := wg.Peer{PublicKey: k, AllowedIPs: p.allowed, Endpoint: p.remote}
	if _, err := netip.ParseAddrPort(p.remote); p.remote != "" && err != nil {
		// To look a name up takes time and may fail. Meanwhile the site can call.
		w.Endpoint = ""
		h.wait.Go(func() { h.find(key, p, w) })
	}
	return h.dev.SetPeer(w)
}

// findAgain is how often the name of a site that is silent is looked up.
const findAgain = 30 * time.Second

// find looks up where a site is, and again while it does not answer there, until
// the peer is changed or the hub closed.
func (h *hub) find(key string, p peer, w wg.Peer) {
	t := time.NewTicker(findAgain)
	defer t.Stop()
	for {
		if !h.linkUp(p.link) {
			at, err := h.dev.Resolve(h.ctx, p.remote)
			if err == nil {
				w.Endpoint = at.String()
				err = h.move(key, p, w)
			}
			if errors.Is(err, errChanged) || h.ctx.Err() != nil {
				return
			}
			if err != nil {
				h.f.complain("the site of a Link is not found; it is looked up again", "link", p.link, "endpoint", p.remote, "error", err)
			}
		}
		select {
		case <-h.ctx.Done():
			return
		case <-t.C:
		}
		if !h.holds(key, p) {
			return
		}
	}
}

// holds tells whether a peer is still as p says.
func (h *hub) holds(key string, p peer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, ok := h.peers[key]
	return ok && now.equal(p)
}

var errChanged = errors.New("the peer is another by now")

// move tells the device where a peer is, if the peer is still as p says.
func (h *hub) move(key string, p peer, w wg.Peer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now, ok := h.peers[key]; !ok || !now.equal(p) {
		return errChanged
	}
	return h.dev.SetPeer(w)
}

func (h *hub) removePeer(key string) error {
	k, err := wg.ParseKey(key)
	if err != nil {
		return err
	}
	return h.dev.RemovePeer(k)
}

func (p peer) equal(q peer) bool {
	if p.remote != q.remote || p.link != q.link || len(p.allowed) != len(q.allowed) {
		return false
	}
	has := make(map[netip.Prefix]bool, len(p.allowed))
	for _, a := range p.allowed {
		has[a] = true
	}
	for _, a := range q.allowed {
		if !has[a] {
			return false
		}
	}
	return true
}

// linkQuiet is how old a handshake may be on a link that is up. WireGuard renews
// one every two minutes while packets flow, keepalives included, and forgets its
// keys after three.
const linkQuiet = 200 * time.Second

// linkUp tells whether the site behind a link has lately completed a handshake
// with its present key. A site that is up keeps it fresh: the configuration that
// Postern hands out sends keepalives.
func (h *hub) linkUp(link string) bool {
	h.mu.Lock()
	key := ""
	for k, p := range h.peers {
		if p.link == link {
			key = k
		}
	}
	h.mu.Unlock()
	if key == "" {
		return false
	}
	k, err := wg.ParseKey(key)
	if err != nil {
		return false
	}
	st, ok := h.dev.Status(k)
	return ok && h.f.opts.Now().Sub(st.LastHandshake) < linkQuiet
}

// carrier is the hub as its WireGuard device sees it.
type carrier struct{ h *hub }

// ReadBatch gives the device packets for its peers: those forwarded to them,
// which were judged, and those that the hub's own stack sends, which are looked
// up here and may have to leave by another way.
func (c carrier) ReadBatch(bufs [][]byte, sizes []int, off int) (int, error) {
	var own [stack.BatchSize]bool
	bufs = bufs[:min(len(bufs), len(own))]
	n, err := c.h.stack.ReadOwn(bufs, sizes, own[:], off)
	if err != nil {
		return n, err
	}
	b := c.h.f.batches.Get().(*batch)
	for i := range n {
		if !own[i] {
			continue
		}
		p := bufs[i][off : off+sizes[i]]
		info, err := packet.Parse(p)
		if err != nil || !c.h.fromStack(p, &info, b) {
			sizes[i] = 0
		}
	}
	b.flush()
	c.h.f.batches.Put(b)
	return n, nil
}

// WriteBatch takes the packets that came out of the tunnels. WireGuard has
// checked that each source address is its peer's.
func (c carrier) WriteBatch(bufs [][]byte, off int) (int, error) {
	b := c.h.f.batches.Get().(*batch)
	for _, buf := range bufs {
		p := buf[off:]
		info, err := packet.Parse(p)
		if err != nil {
			continue
		}
		c.h.fromPeer(p[:info.Len], &info, b)
	}
	b.flush()
	c.h.f.batches.Put(b)
	return len(bufs), nil
}

// MTU is the largest packet of the tunnels.
func (c carrier) MTU() int { return c.h.stack.MTU() }

// Close ends ReadBatch.
func (c carrier) Close() error { return c.h.stack.Close() }
