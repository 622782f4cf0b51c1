// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/internal/crew"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/snapshot"
)

// public offers the Gateways' published ports on real sockets, and HTTP/3 beside
// https. All Gateways share the one address; the name in the TLS handshake tells
// them apart.
type public struct {
	i         *Instance
	open      *limited.Parties[netip.Addr] // connections, by source
	each      int                          // how many a source may have
	ctx       context.Context              // ends with close
	cancel    context.CancelFunc
	mu        sync.Mutex
	quic      datagrams
	listeners map[uint16]net.Listener // by published port
	failures  map[uint16]error        // why a published port has no listener
	purpose   map[uint16]string       // what a published port is for
	wait      sync.WaitGroup
	crew      crew.Crew // serves the connections
}

// MaxPublic is how many connections real sockets have at a time unless the Options
// say otherwise; one address has at most a quarter of them. Each costs a file,
// which the store and the networks need too.
const MaxPublic = 16384

func newPublic(i *Instance) *public {
	in, each := i.opts.PublicConnections, i.opts.PublicConnectionsEach
	if in == 0 {
		in = MaxPublic
	}
	if each == 0 {
		each = max(in/4, 1)
	}
	p := &public{i: i, open: limited.NewParties[netip.Addr](in), each: each, listeners: map[uint16]net.Listener{}, failures: map[uint16]error{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.quic.p = p
	return p
}

// apply opens the sockets of ports that are published now and closes those of
// ports that no longer are. A socket that cannot be opened is tried again with
// the next change, and with each retry.
func (p *public) apply(s *snapshot.Snapshot) {
	want, purpose := map[uint16]bool{}, map[uint16]string{}
	for _, g := range s.Gateways {
		for port := range ports(g) {
			if !p.leave(g, port) {
				want[port] = true
			}
		}
	}
	for port := range want {
		purpose[port] = served(s, port)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.purpose = purpose
	for port, l := range p.listeners {
		if !want[port] {
			if err := l.Close(); err != nil {
				p.i.opts.Log.Warn("close a published port", "port", port, "error", err)
			}
			p.i.opts.Log.Info("a published port is no longer served", "address", p.real(port), "port", port)
			delete(p.listeners, port)
		}
	}
	for port := range p.failures {
		if !want[port] {
			delete(p.failures, port)
		}
	}
	for port := range want {
		if p.listeners[port] != nil {
			continue
		}
		if err := p.listen(port); err != nil {
			p.failures[port] = fmt.Errorf("published port %d is not served: %w; free it, or move it with --public-ports", port, err)
			p.i.opts.Log.Error("a published port is not served; free it, or move it with --public-ports", "port", port, "error", err)
		}
	}
	p.quic.apply(overQUIC(s))
}

// retry tries again to open the sockets that could not be opened.
func (p *public) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port := range p.failures {
		_ = p.listen(port) // else the failure stays as it is
	}
	p.quic.retry()
}

// failure says why ports that a Gateway publishes are not served, by TCP or UDP.
func (p *public) failure(g *snapshot.Gateway) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, port := range slices.Sorted(ports(g)) {
		errs = append(errs, p.failures[port])
	}
	if speaksQUIC(g) {
		errs = append(errs, p.quic.failed)
	}
	return errors.Join(errs...)
}

// ports are those that a Gateway publishes at either of its public addresses: one
// real address stands for both.
func ports(g *snapshot.Gateway) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for port := range g.PublicPorts {
			if !yield(port) {
				return
			}
		}
		for port := range g.ConfigurationPorts {
			if _, both := g.PublicPorts[port]; !both && !yield(port) {
				return
			}
		}
	}
}

// served names the components that Gateways publish at a port, whichever of them.
func served(s *snapshot.Snapshot, port uint16) string {
	var out []string
	for _, g := range s.Gateways {
		for _, at := range []map[uint16]snapshot.Components{g.PublicPorts, g.ConfigurationPorts} {
			for _, c := range at[port] {
				if !slices.Contains(out, string(c)) {
					out = append(out, string(c))
				}
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// real is where a published port listens.
func (p *public) real(port uint16) netip.AddrPort {
	if moved, ok := p.i.opts.PublicPorts[port]; ok {
		port = moved
	}
	return netip.AddrPortFrom(p.i.opts.Public, port)
}

// leave tells whether a port that a Gateway publishes is left to the management
// API, which listens there by itself and serves nothing else.
func (p *public) leave(g *snapshot.Gateway, port uint16) bool {
	if p.i.listener == nil || len(g.ConfigurationPorts[port]) > 0 {
		return false
	}
	for _, c := range g.PublicPorts[port] {
		if c != snapshot.ComponentManagement {
			return false
		}
	}
	at, want := p.i.listener.Addr().(*net.TCPAddr).AddrPort(), p.real(port)
	return at.Port() == want.Port() && (at.Addr().Unmap() == want.Addr() || at.Addr().IsUnspecified() || want.Addr().IsUnspecified())
}

func (p *public) listen(port uint16) error {
	cfg := net.ListenConfig{}
	if port == 80 {
		cfg.KeepAlive = -1 // in clear there are but requests, and no wait for one is without end
	}
	l, err := cfg.Listen(p.ctx, "tcp", p.real(port).String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.listeners[port] = l
	delete(p.failures, port)
	p.i.opts.Log.Info("a published port is served", "address", l.Addr(), "port", port, "for", p.purpose[port])
	p.wait.Go(func() { p.serve(l, port) })
	return nil
}

// everybodys is the address that connections to real sockets are said to have
// called. No Gateway can have it: the real one may be the publicAddress of one,
// which would then be taken for the one that was called, on the segment, where
// groups have judged.
var everybodys = netip.IPv4Unspecified()

// acceptAgain is how long to wait after a connection could not be accepted, for
// want of files for instance.
const acceptAgain = 100 * time.Millisecond

func (p *public) serve(l net.Listener, port uint16) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.i.opts.Log.Error("a connection to a published port could not be accepted", "port", port, "error", err)
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(acceptAgain):
			}
			continue
		}
		o := &snapshot.Origin{
			Local:  netip.AddrPortFrom(everybodys, port),
			Socket: p.real(port).Port(), SocketTLS: p.real(443).Port(),
		}
		if port == portQUIC {
			o.AltSvc = p.quic.altSvc()
		}
		if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			a := t.AddrPort()
			o.Source = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		if !p.open.Enter(o.Source.Addr(), p.each) {
			_ = c.Close() // too many are open; there is nobody to tell
			continue
		}
		p.crew.Go(func() {
			defer p.open.Leave(o.Source.Addr())
			p.i.serveConn(p.ctx, c, o)
		})
	}
}

func (p *public) close() error {
	p.cancel()
	p.mu.Lock()
	var errs []error
	for _, l := range p.listeners {
		errs = append(errs, l.Close())
	}
	p.mu.Unlock()
	p.wait.Wait()
	p.crew.Wait()
	return errors.Join(errs...)
}
