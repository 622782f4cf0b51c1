// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"net/netip"
	"strings"
)

// FieldForwardedFor is the field in which proxies in front of a Gateway tell for
// whom they ask. It is believed of those that the Gateway trusts, and of nobody
// else; no other field is.
const FieldForwardedFor = "X-Forwarded-For"

// MaxProxies bounds the trusted proxies that one request can have passed.
const MaxProxies = 32

// Source is the address that the caller is known by: to policies, texts and
// logs. It is that of the connection, which the network vouches for; if that is a
// proxy which the Gateway trusts, it is the nearest address behind it that is not
// of another one.
func (a *Arrival) Source() netip.Addr {
	at := a.Origin.Source.Addr().Unmap()
	if !a.proxied() {
		return at
	}
	w := walk{a: a, at: at}
	for w.next() {
	}
	return w.at
}

// Hops appends the addresses that the request came by to list, the nearest first:
// that of the connection, the trusted proxies behind it, and last the Source.
func (a *Arrival) Hops(list []netip.Addr) []netip.Addr {
	w := walk{a: a, at: a.Origin.Source.Addr().Unmap()}
	list = append(list, w.at)
	if !a.proxied() {
		return list
	}
	for w.next() {
		list = append(list, w.at)
	}
	return list
}

// Trusted reports whether the connection comes from a proxy that the Gateway
// trusts. Those in Networks and behind Links are not: the network itself knows
// who they are.
func (a *Arrival) Trusted() bool {
	o := a.Origin
	return a.Gateway != nil && len(a.Gateway.TrustedProxies) > 0 && a.Endpoint == nil && o.Network == "" && o.Link == "" &&
		a.trusts(o.Source.Addr().Unmap())
}

// proxied reports whether what the request says of its way counts.
func (a *Arrival) proxied() bool { return len(a.ForwardedFor) > 0 && a.Trusted() }

func (a *Arrival) trusts(ip netip.Addr) bool {
	for _, p := range a.Gateway.TrustedProxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// walk goes back from proxy to proxy.
type walk struct {
	a     *Arrival
	at    netip.Addr
	field int    // the next one, from the last
	rest  string // of the field before it
	steps int
}

// next moves to the address before this one, if this one is believed and names
// one.
func (w *walk) next() bool {
	if w.steps == MaxProxies || !w.a.trusts(w.at) {
		return false
	}
	w.steps++
	for w.rest == "" {
		if w.field == len(w.a.ForwardedFor) {
			return false
		}
		w.field++
		w.rest = w.a.ForwardedFor[len(w.a.ForwardedFor)-w.field]
	}
	entry := w.rest
	if i := strings.LastIndexByte(w.rest, ','); i >= 0 {
		entry, w.rest = w.rest[i+1:], w.rest[:i]
	} else {
		w.rest = ""
	}
	ip, ok := address(strings.Trim(entry, " \t"))
	if ok {
		w.at = ip
	} else {
		w.steps = MaxProxies // what stands before it would be anybody's word
	}
	return ok
}

// address reads an address, which some proxies write with a port.
func address(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
			ip, err = netip.ParseAddr(s[1 : n-1])
		} else {
			var p netip.AddrPort
			p, err = netip.ParseAddrPort(s)
			ip = p.Addr()
		}
	}
	return ip.Unmap(), err == nil && ip.Zone() == ""
}
