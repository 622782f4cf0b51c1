// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/engine/network/wg"
	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
)

// tunnel is a Host or a site that has joined. It sends whatever it is told to,
// also where a careful client would not: what is let through is the hub's to
// decide. Whatever it is sent it accepts, so that an open port is open.
type tunnel struct {
	host *join.Client // of a Host
	site *stack.Stack // of a Link: it has every address
	dev  *wg.Device
	dns  []netip.Addr

	mu    sync.Mutex
	open  map[uint16]io.Closer // ports of a Host that are open, TCP
	openU map[uint16]bool
	ends  []io.Closer
	conns map[net.Conn]bool // being served
	gone  bool
	wait  sync.WaitGroup
}

var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// join registers a key for a Host or Link and opens the tunnel.
func (l *lab) join(ctx context.Context, member model.Ref) (*tunnel, error) {
	have := l.hosts
	if member.Kind == model.KindLink {
		have = l.links
	}
	if t := have[member.Name]; t != nil {
		return t, nil
	}
	t, err := l.open(ctx, member)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", member, err)
	}
	have[member.Name] = t
	return t, nil
}

func (l *lab) open(ctx context.Context, member model.Ref) (*tunnel, error) {
	key, err := wgkey.Generate()
	if err != nil {
		return nil, err
	}
	public, err := key.Public()
	if err != nil {
		return nil, err
	}
	j, err := l.client.Join(ctx, member, wire.Join{PublicKey: public.String()})
	if err != nil {
		return nil, err
	}
	hub, err := wgkey.ParsePublic(j.Hub.PublicKey)
	if err != nil {
		return nil, err
	}
	t := &tunnel{open: map[uint16]io.Closer{}, openU: map[uint16]bool{}, conns: map[net.Conn]bool{}}
	for _, a := range j.DNS {
		t.dns = append(t.dns, netip.MustParseAddr(a))
	}
	if member.Kind == model.KindLink {
		if err := t.openSite(ctx, key, wg.Peer{PublicKey: hub, Endpoint: j.Hub.Endpoint, AllowedIPs: everything, Keepalive: time.Minute}); err != nil {
			return nil, err
		}
		if err := l.linkUp(ctx, member.Name); err != nil {
			return nil, errors.Join(err, t.close())
		}
		return t, nil
	}
	c := &quick.Config{
		Interface: quick.Interface{PrivateKey: key, DNS: t.dns},
		Peers:     []quick.Peer{{PublicKey: hub, Endpoint: j.Hub.Endpoint, AllowedIPs: everything}},
	}
	for _, a := range j.Addresses {
		c.Interface.Addresses = append(c.Interface.Addresses, netip.MustParsePrefix(a))
	}
	if t.host, err = join.Open(join.Options{Config: c}); err != nil {
		return nil, err
	}
	if err := t.host.Ready(ctx); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// linkUp waits until the hub takes a Link for up: it has answered the site's
// handshake, and counts it with the first packet after it.
func (l *lab) linkUp(ctx context.Context, name string) error {
	link, ok := model.Get[*model.Link](l.Resources(), name)
	if !ok {
		return fmt.Errorf("there is no Link/%s", name)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !l.Network().LinkUp(link.Spec.Network, name) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// openSite opens a tunnel whose stack takes and sends from any address.
func (t *tunnel) openSite(ctx context.Context, key wgkey.Private, hub wg.Peer) error {
	var err error
	if t.site, err = stack.New(stack.Options{Promiscuous: true}); err != nil {
		return err
	}
	t.site.ForwardTCP(func(r stack.TCPRequest) {
		if r.Dst().Port() == closedPort {
			r.Refuse()
			return
		}
		if c, err := r.Accept(); err == nil {
			t.serve(c)
		}
	})
	t.site.ForwardUDP(func(r stack.UDPRequest) {
		c, err := r.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(wait))
		buf := make([]byte, 2048)
		if n, err := c.Read(buf); err == nil {
			_, _ = c.Write(buf[:n]) // lost like any datagram
		}
	})
	t.dev, err = wg.New(wg.Options{PrivateKey: key, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Carrier: t.site})
	if err != nil {
		return errors.Join(err, t.site.Close())
	}
	if err := t.dev.SetPeer(hub); err != nil {
		return errors.Join(err, t.close())
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if st, ok := t.dev.Status(hub.PublicKey); ok && !st.LastHandshake.IsZero() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), t.close())
		}
	}
}

// dial opens a connection from an address of the tunnel; proto is tcp or udp.
func (t *tunnel) dial(ctx context.Context, proto string, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if t.host != nil {
		return t.host.Dial(ctx, proto, to.String())
	}
	local := netip.AddrPortFrom(from, 0)
	if proto == "udp" {
		c, err := t.site.DialUDP(local, to)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return t.site.DialTCP(ctx, local, to)
}

// accept opens a port of a Host, so that who is let through to it is heard.
func (t *tunnel) accept(proto string, port uint16) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if proto == "udp" {
		if t.openU[port] {
			return nil
		}
		c, err := t.host.ListenUDP(port)
		if err != nil {
			return err
		}
		t.openU[port] = true
		t.ends = append(t.ends, c)
		t.wait.Go(func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(buf[:n], from) // lost like any datagram
			}
		})
		return nil
	}
	if t.open[port] != nil {
		return nil
	}
	ln, err := t.host.Listen(port)
	if err != nil {
		return err
	}
	t.open[port] = ln
	t.wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.wait.Go(func() { t.serve(c) })
		}
	})
	return nil
}

// refuse closes a port of a Host, and what is open at it.
func (t *tunnel) refuse(port uint16) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	ln := t.open[port]
	if ln == nil {
		return nil
	}
	delete(t.open, port)
	for c := range t.conns {
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok && a.Port == int(port) {
			_ = c.Close() // whoever served it has had it
		}
	}
	return ln.Close()
}

// ports lists the ports of a Host that are open.
func (t *tunnel) ports() []uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.open))
}

func (t *tunnel) close() error {
	var errs []error
	t.mu.Lock()
	for _, e := range t.ends {
		errs = append(errs, e.Close())
	}
	for _, e := range t.open {
		errs = append(errs, e.Close())
	}
	for c := range t.conns {
		_ = c.Close() // whoever served it has had it
	}
	t.gone = true
	t.mu.Unlock()
	if t.host != nil {
		errs = append(errs, t.host.Close())
	}
	if t.dev != nil {
		errs = append(errs, t.site.Close(), t.dev.Close())
	}
	t.wait.Wait()
	return errors.Join(errs...)
}
