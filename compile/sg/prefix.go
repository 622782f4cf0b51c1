// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg

import (
	"net/netip"
	"slices"
)

var anywhere = []netip.Prefix{
	netip.PrefixFrom(netip.IPv4Unspecified(), 0),
	netip.PrefixFrom(netip.IPv6Unspecified(), 0),
}

// canonical masks p and writes an IPv4 prefix as one, however it was given.
func canonical(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// aggregate returns the fewest prefixes that hold the same addresses, sorted.
func aggregate(in []netip.Prefix) []netip.Prefix {
	ps := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		if p.IsValid() {
			ps = append(ps, canonical(p))
		}
	}
	slices.SortFunc(ps, comparePrefix)
	out := ps[:0]
	for _, p := range ps {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // sorted: what overlaps and stands before is wider
		}
		out = append(out, p)
		for n := len(out); n > 1; n = len(out) {
			wide, ok := joined(out[n-2], out[n-1])
			if !ok {
				break
			}
			out = append(out[:n-2], wide)
		}
	}
	return out
}

// joined returns the prefix that is exactly the halves a and b.
func joined(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() == 0 || a.Addr().Is4() != b.Addr().Is4() {
		return netip.Prefix{}, false
	}
	wide := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return wide, a != b && wide.Contains(b.Addr())
}

// complement returns every address that is in none of ps, which are aggregated.
func complement(ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, root := range anywhere {
		out = outside(root, ps, out)
	}
	return out
}

func outside(root netip.Prefix, ps, out []netip.Prefix) []netip.Prefix {
	var within []netip.Prefix
	for _, p := range ps {
		if !p.Overlaps(root) {
			continue
		}
		if p.Bits() <= root.Bits() {
			return out
		}
		within = append(within, p)
	}
	if len(within) == 0 {
		return append(out, root)
	}
	low := netip.PrefixFrom(root.Addr(), root.Bits()+1)
	return outside(upper(low), within, outside(low, within, out))
}

// upper returns the other half beside the lower half low.
func upper(low netip.Prefix) netip.Prefix {
	b := low.Addr().AsSlice()
	i := low.Bits() - 1
	b[i/8] |= 0x80 >> (i % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, low.Bits())
}

// comparePrefix sorts by family and address, wider prefixes first.
func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
