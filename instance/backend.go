// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/dns"
	"postern.dev/postern/engine/network/user"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// backendRoots are trusted for backends: the system's, and the private CA, which
// issues for what Postern itself serves.
func backendRoots(private []byte) *x509.CertPool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without any
	}
	roots.AppendCertsFromPEM(private)
	return roots
}

// dialBackend opens a connection to a backend as a Gateway: to the first of its
// addresses that lets itself be dialled. If none does, the error is that of the
// first.
func (i *Instance) dialBackend(ctx context.Context, gateway, network, host string, port uint16) (net.Conn, error) {
	s := i.Snapshot()
	var src flow.Source
	// A Gateway that reaches nothing there asks for no name either.
	if g, n := s.Gateways[gateway], s.Networks[network]; g != nil && (n != nil || network == "") {
		var ok bool
		if src, ok = flow.Dials(g, n); !ok || src.Confined() {
			return nil, &request.DialError{Code: request.CodeNoWay, Host: host, Err: user.ErrNoAddress}
		}
	}
	addrs, err := i.lookup(ctx, network, host)
	if err != nil {
		return nil, err
	}
	addrs = src.OwnFamily(addrs)
	var first error
	for n, a := range addrs {
		c, err := i.dialShare(ctx, gateway, network, netip.AddrPortFrom(a, port), len(addrs)-n)
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
	return nil, first
}

// dialShare dials one of several addresses that are left in its share of the
// time.
func (i *Instance) dialShare(ctx context.Context, gateway, network string, to netip.AddrPort, left int) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer stop()
	}
	c, err := i.network.DialGateway(ctx, gateway, network, to)
	if errors.Is(err, user.ErrNoAddress) {
		err = &request.DialError{Code: request.CodeNoWay, Host: to.Addr().String(), Err: err}
	}
	return c, err
}

// lookup finds the addresses of a backend: in its Network's view, or, outside
// Networks, among Postern's public names and else as this machine does.
func (i *Instance) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	s := i.Snapshot()
	if network == "" && name.Resolve(s, s.Public, host, "").Zone == nil {
		list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
			err = &request.DialError{Code: request.CodeNoName, Host: host, Err: err}
		}
		for n := range list {
			list[n] = list[n].Unmap()
		}
		return list, err
	}
	list, err := i.dns.Lookup(ctx, network, host)
	if err != nil && (errors.Is(err, dns.ErrNoAddress) || ctx.Err() == nil) {
		err = &request.DialError{Code: request.CodeNoName, Host: host, Err: err}
	}
	return list, err
}

// lookUp asks for the name of a backend as a Gateway does before it dials, for an
// explanation.
func (i *Instance) lookUp(ctx context.Context, _ *snapshot.Gateway, d *request.Destination) (addrs []netip.Addr, code, reason string) {
	network, asked := "", "The server's own resolver"
	if d.Network != nil {
		network = d.Network.Name
		asked = "The resolver of " + model.Ref{Kind: model.KindNetwork, Name: network}.String()
	}
	addrs, err := i.lookup(ctx, network, d.Host)
	if err == nil && len(addrs) > 0 {
		return addrs, name.Answered, asked + " answers for " + d.Host + " just now."
	}
	if failed, ok := errors.AsType[*net.DNSError](err); ctx.Err() != nil || ok && failed.IsTimeout {
		return nil, "", "" // how it goes on is not known
	}
	return nil, request.CodeNoName, asked + " finds no address of " + d.Host + " just now; look whether the name is right, and who answers for it."
}

// probeTimeout bounds one attempt to reach a backend for an explanation.
const probeTimeout = 2 * time.Second

// probe tries once whether a connection to a backend comes about as a Gateway
// would open it.
func (i *Instance) probe(ctx context.Context, g *snapshot.Gateway, d *request.Destination, to netip.AddrPort) (code, reason string, seen *request.Response) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	network := ""
	if d.Network != nil {
		network = d.Network.Name
	}
	c, err := i.dialShare(ctx, g.Name, network, to, 1)
	if err != nil {
		code, reason = unreached(ctx, to, err)
		return code, reason, nil
	}
	defer func() { _ = c.Close() }() // its purpose is fulfilled
	if !d.Secure() {
		return request.CodeBackendOK, fmt.Sprintf("%s accepted a connection just now.", to), nil
	}
	t := tls.Client(c, &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: i.roots, ServerName: d.Host, NextProtos: d.ALPN(),
		InsecureSkipVerify: d.Insecure, //nolint:gosec // as the operation's tlsConfig asks
	})
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return request.CodeBackendTimeout, fmt.Sprintf("%s accepted a connection, but no TLS handshake came about within %s.", to, probeTimeout), nil
		}
		return request.CodeBackendTLS, fmt.Sprintf("The TLS handshake with %s failed: %s.", net.JoinHostPort(d.Host, strconv.Itoa(int(to.Port()))), err), request.SecureFailed(err)
	}
	return request.CodeBackendOK, fmt.Sprintf("%s completed a TLS handshake as %s just now.", to, d.Host), nil
}

// unreached tells of a connection that did not come about.
func unreached(ctx context.Context, to netip.AddrPort, err error) (code, reason string) {
	if code, _, ok := request.DialFailed(err); ok {
		return code, fmt.Sprintf("The connection to %s was not opened: %s.", to, err)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return request.CodeBackendRefused, fmt.Sprintf("%s refused a connection just now.", to)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return request.CodeBackendTimeout, fmt.Sprintf("%s did not answer within %s.", to, probeTimeout)
	}
	return request.CodeBackendRefused, fmt.Sprintf("No connection to %s comes about: %s.", to, err)
}
