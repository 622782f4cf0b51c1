// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	"postern.dev/postern/snapshot"
)

// Egress reports whether the server's own stack may dial a. It is asked when a
// flow leaves the internet segment, and again at dial time for what a name
// resolved to: a tunnel host or whoever publishes an API must not use the
// server as a relay into where it stands.
func Egress(in *snapshot.Internet, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return false
	}
	if contains(in.Egress, a) {
		return true
	}
	for _, own := range in.Own {
		if own == a {
			return false
		}
	}
	if contains(in.Prefixes, a) || !unicast(a) || contains(special, a) {
		return false
	}
	if v4, ok := embedded(a); ok {
		return Egress(in, v4)
	}
	return true
}

// unicast reports whether a can be the address of one machine.
func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() && a != broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// special is what the registries of special-purpose addresses (RFC 6890) keep
// from being reached globally.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"240.0.0.0/4",
	"::/96", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
	teredo = netip.MustParsePrefix("2001::/32")
)

// embedded returns the IPv4 address that a translator or tunnel on the way
// would send to.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixTo4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(a):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	}
	return netip.Addr{}, false
}
