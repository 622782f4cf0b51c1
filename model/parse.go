// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// ParsePorts reads "443", "8000-8100", "8080/8080" or "80/9000".
func ParsePorts(s string) (Ports, error) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		a, b, ranged = strings.Cut(s, "/")
	}
	if !ranged {
		b = a
	}
	first, ok1 := port(a)
	last, ok2 := port(b)
	if !ok1 || !ok2 {
		return Ports{}, fmt.Errorf(`%q is no range of ports; write "443", "8000-8100" or "8080/8080" with numbers from 1 to 65535`, s)
	}
	if first > last {
		return Ports{}, fmt.Errorf(`%q is reversed; write "%d-%d"`, s, last, first)
	}
	return Ports{first, last}, nil
}

// ParseRange reads "8080/8080" or "80/9000": start/end, and nothing else.
func ParseRange(s string) (Ports, error) {
	a, b, ranged := strings.Cut(s, "/")
	first, ok1 := port(a)
	last, ok2 := port(b)
	switch {
	case !ranged:
		if p, err := ParsePorts(s); err == nil {
			return Ports{}, fmt.Errorf(`%q is not written start/end; write "%d/%d"`, s, p.First, p.Last)
		}
		fallthrough
	case !ok1 || !ok2:
		return Ports{}, fmt.Errorf(`%q is no range of ports; write start/end with numbers from 1 to 65535, such as "8080/8080" or "80/9000"`, s)
	case first > last:
		return Ports{}, fmt.Errorf(`%q is reversed; write "%d/%d"`, s, last, first)
	}
	return Ports{first, last}, nil
}

func port(s string) (uint16, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}

// The tags that a Rule's peer may name.
const (
	TagInternet          = "Internet"
	TagVirtualNetwork    = "VirtualNetwork"
	TagAPIManagement     = "ApiManagement"
	TagAzureLoadBalancer = "AzureLoadBalancer"
)

// Tags lists the tags that a Rule's peer may name.
var Tags = []string{TagInternet, TagVirtualNetwork, TagAPIManagement, TagAzureLoadBalancer}

// Peer is whom a Rule speaks of: exactly one of the fields is set.
type Peer struct {
	Prefix netip.Prefix
	Group  string // a SecurityGroup, or <gateway>-managed
	Tag    string
}

// ManagedSuffix ends the name of a Gateway's managed group: the Gateway's name
// stands before it.
const ManagedSuffix = "-managed"

// ParsePeer reads a CIDR, an address (alone), group:NAME or tag:NAME.
func ParsePeer(s string) (Peer, error) {
	if name, ok := strings.CutPrefix(s, "group:"); ok {
		if err := checkLabel(name); err != nil {
			return Peer{}, fmt.Errorf("%q: the group's name %w", s, err)
		}
		return Peer{Group: name}, nil
	}
	if tag, ok := strings.CutPrefix(s, "tag:"); ok {
		for _, t := range Tags {
			if t == tag {
				return Peer{Tag: tag}, nil
			}
		}
		return Peer{}, fmt.Errorf("%q: unknown tag%s", s, hint(tag, Tags))
	}
	if a, err := parseAddress(s); err == nil {
		return Peer{Prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := ParsePrefix(s)
	if err != nil {
		if !strings.ContainsAny(s, "./:") {
			return Peer{}, fmt.Errorf(`%q is no peer; write a CIDR, "group:NAME" or "tag:NAME"`, s)
		}
		return Peer{}, err
	}
	return Peer{Prefix: p}, nil
}

// ParsePrefix reads a CIDR without bits beyond its length.
func ParsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is no CIDR; write one like 10.0.0.0/16", s)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 CIDR in IPv6 form; write it as IPv4", s)
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("%q has bits set beyond its length; write %s", s, m)
	}
	return p, nil
}

// parseAddress reads an address without zone.
func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is no IP address; write one like 10.0.0.4", s)
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone; write it without", s)
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("%q is an IPv4 address in IPv6 form; write %s", s, a.Unmap())
	}
	return a, nil
}

// lastAddress returns the highest address of p.
func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// reservedAtStart is how many addresses at the start of a Subnet are kept for
// Postern: network, router, resolver, and one to spare; as is the last one.
const reservedAtStart = 4

// Reserved reports whether a, in a Subnet with prefix p, is one of the first
// four addresses or the last.
func Reserved(p netip.Prefix, a netip.Addr) bool {
	if a == lastAddress(p) {
		return true
	}
	x := p.Masked().Addr()
	for range reservedAtStart {
		if x == a {
			return true
		}
		x = x.Next()
	}
	return false
}
