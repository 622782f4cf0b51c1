// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package selfhosted

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/selfhosted/setting"
	"postern.dev/postern/snapshot"
)

// names resolves and dials. Names below the base domain are asked of a server
// of their own, if there is one.
type names struct {
	own    *net.Resolver // nil without a server of their own
	domain atomic.Pointer[string]
	inner  func(ctx context.Context, network, address string) (net.Conn, error) // nil: this machine
}

func newNames(s *setting.Settings, dial func(ctx context.Context, network, address string) (net.Conn, error)) *names {
	n := &names{inner: dial}
	// Until there is a configuration, the endpoint tells the base domain.
	_, rest, _ := strings.Cut(s.Endpoint.Host, ".")
	kind, base, ok := strings.Cut(rest, ".")
	if !ok || kind != "configuration" && kind != "management" {
		base = ""
	}
	n.setBase(base)
	if s.Resolver != "" {
		n.own = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.connect(ctx, network, s.Resolver, nil)
		}}
	}
	return n
}

func (n *names) base() string { return *n.domain.Load() }

func (n *names) setBase(base string) { n.domain.Store(&base) }

// below reports whether a name is the resolver's. Where the base domain is not
// known, all are.
func (n *names) below(host string) bool {
	base := n.base()
	return base == "" || strings.HasSuffix(strings.TrimSuffix(strings.ToLower(host), "."), "."+base)
}

// lookup finds the addresses of a name.
func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	r := net.DefaultResolver
	if n.own != nil && n.below(host) {
		r = n.own
		host = strings.TrimSuffix(host, ".") + "." // no search domains
	}
	list, err := r.LookupNetIP(ctx, "ip", host)
	for i := range list {
		list[i] = list[i].Unmap()
	}
	return list, err
}

// dial connects to a name or an address.
func (n *names) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dialChecked(ctx, network, address, nil)
}

// dialChecked connects to the first address that check allows and that lets
// itself be dialled.
func (n *names) dialChecked(ctx context.Context, network, address string, check func(netip.AddrPort) error) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if n.inner != nil && n.own == nil {
		// Names are the other network's affair.
		return n.connect(ctx, network, address, check)
	}
	addrs, err := n.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var first error
	for i, a := range addrs {
		share, cancel := ctx, context.CancelFunc(func() {})
		if end, ok := ctx.Deadline(); ok && len(addrs)-i > 1 {
			share, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(len(addrs)-i))
		}
		c, err := n.connect(share, network, net.JoinHostPort(a.String(), port), check)
		cancel()
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if first == nil {
		first = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	return nil, first
}

// connect opens one connection. What is dialled is checked at the last moment.
func (n *names) connect(ctx context.Context, network, address string, check func(netip.AddrPort) error) (net.Conn, error) {
	if n.inner != nil {
		if at, err := netip.ParseAddrPort(address); check != nil && err == nil {
			if err := check(at); err != nil {
				return nil, err
			}
		}
		return n.inner(ctx, network, address)
	}
	d := net.Dialer{KeepAlive: 30 * time.Second}
	if check != nil {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return check(at)
		}
	}
	return d.DialContext(ctx, network, address)
}

// dialBackend connects to a backend from where the process stands.
func (g *Gateway) dialBackend(ctx context.Context, _, network, host string, port uint16) (net.Conn, error) {
	if network != "" {
		return nil, fmt.Errorf("%w: a self-hosted gateway has no way into Network/%s", upstream.ErrUnreachable, network)
	}
	s := g.snapshot()
	if s == nil {
		s = &snapshot.Snapshot{}
	}
	c, err := g.names.dialChecked(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))), func(at netip.AddrPort) error {
		if !flow.Egress(&s.Internet, at.Addr()) {
			return fmt.Errorf("%w: %s is link-local, and such are not dialled for APIs", upstream.ErrUnreachable, at.Addr())
		}
		return nil
	})
	if missing, ok := errors.AsType[*net.DNSError](err); ok {
		if missing.IsNotFound {
			return nil, &request.DialError{Code: request.CodeNoName, Host: host, Err: err}
		}
		return nil, fmt.Errorf("%w: %w", upstream.ErrDNS, err)
	}
	return c, err
}
