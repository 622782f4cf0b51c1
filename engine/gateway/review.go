// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"net/netip"
	"slices"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/engine/gateway/health"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Review closes the pooled connections to backends whose flow the snapshot no
// longer allows: security groups let what is established live on, and a pooled
// connection is established for whoever calls next. Calls under way finish.
func (e *Engine) Review() {
	if s := e.snapshot.Load(); s != nil {
		e.runner.Review(func(gateway, network, host string, c net.Conn) bool { return stands(s, gateway, network, host, c) })
	}
}

// stands tells whether a connection of a Gateway could be dialled again as it is.
func stands(s *snapshot.Snapshot, gateway, network, host string, c net.Conn) bool {
	g := s.Gateways[gateway]
	if g == nil {
		return false
	}
	var n *snapshot.Network
	if network != "" {
		if n = s.Networks[network]; n == nil {
			return false
		}
	}
	src, ok := flow.Dials(g, n)
	if !ok {
		return false
	}
	local, remote := addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
	if !remote.IsValid() || n != nil && local.Addr() != src.Addr || !leads(s, n, host, remote.Addr()) {
		return false
	}
	v := flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: remote.Addr(), Port: remote.Port()}, false)
	return v.Allowed()
}

// leads tells whether host still leads to a. Of a name that is not Postern's it
// is not known.
func leads(s *snapshot.Snapshot, n *snapshot.Network, host string, a netip.Addr) bool {
	if literal, err := netip.ParseAddr(host); err == nil {
		return literal.Unmap() == a
	}
	typ := snapshot.TypeA
	if a.Is6() {
		typ = snapshot.TypeAAAA
	}
	v := name.Resolve(s, name.View(s, n), host, typ)
	return v.Forward || v.Status == name.Found && slices.Contains(v.Addrs, a)
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// Probing lists the Gateways that probe a Backend, by name.
func (e *Engine) Probing(backend string) []string { return e.health.Gateways(backend) }

// Health lists what is known of the targets of a Backend as a Gateway reaches
// them; nothing if it does not probe them.
func (e *Engine) Health(gateway, backend string) []health.Target {
	return e.health.Targets(gateway, backend)
}
