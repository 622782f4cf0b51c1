// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package join is the client that joins a Network without privilege: a WireGuard
// device and a TCP/IP stack in this process, names resolved by the Network's own
// resolver, and ways for programs that know nothing of it to use it: a SOCKS5
// proxy, local forwards, and local ports offered at the Host's address.
//
// What went wrong shows in the error: see Symptom.
package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/engine/network/wg"
)

const (
	// keepalive applies where the configuration names none: a Host that offers
	// ports must stay reachable through the NAT it sits behind.
	keepalive = 25 * time.Second
	// pollHandshake is how often Ready looks.
	pollHandshake = 20 * time.Millisecond
)

// Options configures a Client.
type Options struct {
	// Config says who this Host is and where the hub is.
	Config *quick.Config
	// Log hears of the tunnel's troubles and of connections that a forward could
	// not make. Nil is silence.
	Log *slog.Logger
	// MaxConns bounds the connections of each proxy and forward. Zero means 256.
	MaxConns int
	// DialTimeout bounds the dials of proxies and forwards. Zero means 15 s.
	DialTimeout time.Duration
}

// A Client is a joined Host. Its methods may be called concurrently.
type Client struct {
	opts  Options
	st    *stack.Stack
	dev   *wg.Device
	addrs []netip.Addr
	log   *slog.Logger

	mu       sync.Mutex
	closed   bool
	services map[*Service]struct{}
}

// Open joins. It does not wait for the hub: see Ready.
func Open(o Options) (*Client, error) {
	if o.Config == nil || len(o.Config.Interface.Addresses) == 0 {
		return nil, errors.New("join: the configuration has no Address")
	}
	if len(o.Config.Peers) == 0 {
		return nil, errors.New("join: the configuration has no [Peer]")
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 256
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 15 * time.Second
	}
	c := &Client{opts: o, log: o.Log, services: map[*Service]struct{}{}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.st, err = stack.New(stack.Options{MTU: o.Config.Interface.MTU}); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if err := c.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("join: %w", err), c.Close())
	}
	return c, nil
}

func (c *Client) configure() error {
	i := c.opts.Config.Interface
	for _, p := range i.Addresses {
		if err := c.st.AddAddress(p.Addr()); err != nil {
			return err
		}
		c.addrs = append(c.addrs, p.Addr())
	}
	var err error
	c.dev, err = wg.New(wg.Options{
		PrivateKey: i.PrivateKey,
		Listen:     netip.AddrPortFrom(netip.Addr{}, i.ListenPort),
		Carrier:    c.st,
		Log:        c.opts.Log,
	})
	if err != nil {
		return err
	}
	for _, p := range c.opts.Config.Peers {
		if p.Keepalive == 0 {
			p.Keepalive = keepalive
		}
		if err := c.dev.SetPeer(wg.Peer{
			PublicKey: p.PublicKey, PresharedKey: p.PresharedKey, Endpoint: p.Endpoint,
			AllowedIPs: p.AllowedIPs, Keepalive: p.Keepalive,
		}); err != nil {
			return err
		}
	}
	return nil
}

// Addresses returns the Host's own addresses.
func (c *Client) Addresses() []netip.Addr { return slices.Clone(c.addrs) }

// PublicKey returns the Host's public key.
func (c *Client) PublicKey() wg.Key { return c.dev.PublicKey() }

// Peers returns the status of the hub, and of other peers if the configuration
// names any.
func (c *Client) Peers() ([]wg.Status, error) { return c.dev.Peers() }

// Ready waits until a peer has answered. The error is ctx's when none does.
func (c *Client) Ready(ctx context.Context) error {
	tick := time.NewTicker(pollHandshake)
	defer tick.Stop()
	for {
		peers, err := c.dev.Peers()
		if err != nil {
			return err
		}
		for _, p := range peers {
			if !p.LastHandshake.IsZero() {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("join: no answer from the hub at %s (is the key registered, is UDP let through?): %w", c.endpoints(), ctx.Err())
		case <-tick.C:
		}
	}
}

func (c *Client) endpoints() (s string) {
	for i, p := range c.opts.Config.Peers {
		if i > 0 {
			s += ", "
		}
		s += p.Endpoint
	}
	return s
}

// family reports whether the Host has an address of a's family.
func (c *Client) family(a netip.Addr) bool {
	return slices.ContainsFunc(c.addrs, func(o netip.Addr) bool { return o.Is4() == a.Unmap().Is4() })
}

// Dial connects to "host:port" through the tunnel; network is tcp or udp, or one
// of these followed by 4 or 6. A name is resolved by the tunnel's resolver and its
// addresses are tried in turn.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	proto, want := network, byte(0)
	switch network {
	case "tcp4", "tcp6", "udp4", "udp6":
		proto, want = network[:3], network[3]
	case "tcp", "udp":
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	fail := func(err error) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: network, Err: err} }
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return fail(&net.AddrError{Err: "port is not within 1..65535", Addr: address})
	}
	addrs, err := c.lookup(ctx, host)
	if err != nil {
		return fail(err)
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool {
		return want == '4' && !a.Is4() || want == '6' && !a.Is6() || !c.family(a)
	})
	if len(addrs) == 0 {
		return fail(&NameError{Name: host, Kind: ErrNoData})
	}
	var errs []error
	for i, a := range addrs {
		to := netip.AddrPortFrom(a, uint16(port))
		var conn net.Conn
		if proto == "udp" {
			conn, err = c.st.DialUDP(netip.AddrPort{}, to)
		} else {
			conn, err = c.dialTCP(ctx, to, len(addrs)-i)
		}
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// dialTCP dials with a fair share of the time that is left.
func (c *Client) dialTCP(ctx context.Context, to netip.AddrPort, tries int) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok && tries > 1 {
		share, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(tries))
		defer cancel()
		ctx = share
	}
	return c.st.DialTCP(ctx, netip.AddrPort{}, to)
}

// lookup returns the addresses of a host, which may be a literal.
func (c *Client) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ans, err := c.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	return ans.Addrs, nil
}

// Listen listens on a port of the Host's own addresses; zero picks one.
func (c *Client) Listen(port uint16) (net.Listener, error) {
	return c.st.ListenTCP(netip.AddrPortFrom(netip.Addr{}, port))
}

// ListenUDP opens a UDP port at the Host's own addresses; zero picks one.
func (c *Client) ListenUDP(port uint16) (net.PacketConn, error) {
	u, err := c.st.ListenUDP(netip.AddrPortFrom(netip.Addr{}, port))
	if err != nil {
		return nil, err
	}
	return u, nil
}

// Close ends every proxy, forward and connection and waits.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	services := make([]*Service, 0, len(c.services))
	for s := range c.services {
		services = append(services, s)
	}
	c.mu.Unlock()
	var errs []error
	for _, s := range services {
		errs = append(errs, s.Close())
	}
	// The stack goes first, so that its resets still reach the hub.
	errs = append(errs, c.st.Close())
	if c.dev != nil {
		errs = append(errs, c.dev.Close())
	}
	return errors.Join(errs...)
}
