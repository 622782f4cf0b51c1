// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

func (c *check) network(n *Network) {
	if len(n.Spec.CIDRs) == 0 {
		c.fail("spec.cidrs", `is missing; write the Network's prefixes, such as ["10.0.0.0/16"]`)
	}
	c.prefixes("spec.cidrs", n.Spec.CIDRs)
	if n.Spec.DNS != nil {
		for i, a := range n.Spec.DNS.Forward {
			if !open(a) {
				_, err := parseAddress(a)
				c.try(fmt.Sprintf("spec.dns.forward[%d]", i), err)
			}
		}
		c.unique("spec.dns.forward", n.Spec.DNS.Forward)
	}
}

// prefixes judges a list of prefixes that are to be routed and do not overlap.
func (c *check) prefixes(field string, cidrs []string) {
	var seen []netip.Prefix
	for i, s := range cidrs {
		at := fmt.Sprintf("%s[%d]", field, i)
		if open(s) {
			continue
		}
		p, err := ParsePrefix(s)
		if !c.try(at, err) {
			continue
		}
		if a := p.Addr(); p.Bits() == 0 || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || p.Contains(netip.IPv4Unspecified()) || p.Contains(netip.IPv6Unspecified()) {
			c.fail(at, "%s cannot be routed; choose a private prefix such as 10.0.0.0/16 or fd00:1::/48", p)
			continue
		}
		for j, q := range seen {
			if p.Overlaps(q) {
				c.fail(at, "%s overlaps %s at [%d]; keep the larger one", p, q, j)
			}
		}
		seen = append(seen, p)
	}
}

func (c *check) subnet(s *Subnet) {
	c.required("spec.network", s.Spec.Network, "name the Network that the Subnet is part of")
	if c.required("spec.cidr", s.Spec.CIDR, "write the Subnet's prefix, such as 10.0.1.0/24") && !open(s.Spec.CIDR) {
		p, err := ParsePrefix(s.Spec.CIDR)
		if c.try("spec.cidr", err) {
			if p.Addr().BitLen()-p.Bits() < 3 {
				c.fail("spec.cidr", "%s is too small: the first four addresses and the last are reserved; use a /%d or larger", p, p.Addr().BitLen()-3)
			}
			if n, ok := Get[*Network](c.s, s.Spec.Network); ok && !within(p, n.Spec.CIDRs) {
				c.fail("spec.cidr", "%s lies outside Network %q, which has %v", p, n.Metadata.Name, n.Spec.CIDRs)
			}
		}
	}
	c.groups("spec.securityGroup", s.Spec.Network, s.Spec.SecurityGroup)
}

// within reports whether p lies in one of cidrs.
func within(p netip.Prefix, cidrs []string) bool {
	return slices.ContainsFunc(cidrs, func(s string) bool {
		q, err := ParsePrefix(s)
		return err == nil && q.Bits() <= p.Bits() && q.Contains(p.Addr())
	})
}

// groups fails for each SecurityGroup that is not of the given Network. With
// one name, field is that of the name itself.
func (c *check) groups(field, network string, names ...string) {
	for _, name := range names {
		g, ok := Get[*SecurityGroup](c.s, name)
		if ok && network != "" && g.Spec.Network != network {
			c.fail(field, "SecurityGroup %q is of Network %q, not of %q; use a group of the same Network", name, g.Spec.Network, network)
		}
	}
}

// groupList is groups for a list.
func (c *check) groupList(network string, names []string) {
	for i, n := range names {
		c.groups(fmt.Sprintf("spec.securityGroups[%d]", i), network, n)
	}
	c.unique("spec.securityGroups", names)
}

func (c *check) host(h *Host) {
	if !c.required("spec.subnet", h.Spec.Subnet, "name the Subnet that the Host is in") {
		return
	}
	sub, ok := Get[*Subnet](c.s, h.Spec.Subnet)
	if ok {
		c.groupList(sub.Spec.Network, h.Spec.SecurityGroups)
		c.notDelegated("spec.subnet", sub, "")
		c.inSubnet("spec.address", h.Spec.Address, sub)
	}
	c.publicKey(h.Spec.PublicKey)
}

// notDelegated fails if sub is kept for another Gateway than the given one.
func (c *check) notDelegated(field string, sub *Subnet, gateway string) {
	if d := sub.Spec.DelegatedTo; d != "" && d != gateway {
		c.fail(field, "Subnet %q is delegated to Gateway %q and takes nothing else; use another Subnet", sub.Metadata.Name, d)
	}
}

// inSubnet judges an address that was asked for in a Subnet.
func (c *check) inSubnet(field, address string, sub *Subnet) {
	if address == "" || open(address) {
		return
	}
	a, err := parseAddress(address)
	if !c.try(field, err) {
		return
	}
	p, err := ParsePrefix(sub.Spec.CIDR)
	switch {
	case err != nil: // the Subnet's own error
	case !p.Contains(a):
		c.fail(field, "%s lies outside Subnet %q, which is %s", a, sub.Metadata.Name, p)
	case Reserved(p, a):
		c.fail(field, "%s is reserved: the first four addresses and the last of Subnet %q (%s) are; choose another or leave it out", a, sub.Metadata.Name, p)
	}
}

func (c *check) publicKey(key string) {
	if key == "" || open(key) {
		return
	}
	if b, err := base64.StdEncoding.DecodeString(key); err != nil || len(b) != 32 {
		c.fail("spec.publicKey", "is no WireGuard public key, 44 characters of base64; print it with wg pubkey")
	}
}

func (c *check) link(l *Link) {
	c.required("spec.network", l.Spec.Network, "name the Network that the Link joins")
	c.oneOf("spec.type", l.Spec.Type, DirectConnect, VPN)
	if len(l.Spec.CIDRs) == 0 {
		c.fail("spec.cidrs", `is missing; write the prefixes beyond the Link, such as ["192.168.0.0/24"]`)
	}
	c.prefixes("spec.cidrs", l.Spec.CIDRs)
	c.publicKey(l.Spec.PublicKey)
	if e := l.Spec.Endpoint; e != "" && !open(e) {
		host, p, err := net.SplitHostPort(e)
		_, okPort := port(p)
		if _, errAddr := netip.ParseAddr(host); err != nil || !okPort || errAddr != nil && checkHostName(host, false, false) != nil {
			c.fail("spec.endpoint", "%q is no remote; write host:port, such as vpn.example.com:51820", e)
		}
	}
}

func (c *check) peering(p *Peering) {
	if len(p.Spec.Networks) != 2 {
		c.fail("spec.networks", "want two Networks, got %d; write [a, b]", len(p.Spec.Networks))
		return
	}
	if p.Spec.Networks[0] == p.Spec.Networks[1] {
		c.fail("spec.networks", "Network %q cannot be peered with itself; name another one", p.Spec.Networks[0])
	}
}

// peered reports whether a Peering joins Networks a and b.
func peered(s *Set, a, b string) bool {
	for p := range each[*Peering](s) {
		n := p.Spec.Networks
		if len(n) == 2 && (n[0] == a && n[1] == b || n[0] == b && n[1] == a) {
			return true
		}
	}
	return false
}

func (c *check) securityGroup(g *SecurityGroup) {
	c.required("spec.network", g.Spec.Network, "name the Network that the SecurityGroup is for")
	c.oneOf("spec.defaults", g.Spec.Defaults, DefaultsStrict, DefaultsAzure, DefaultsBasic, DefaultsEnterprise)
	names := map[string]int{}
	for i, r := range g.Spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		if first, ok := names[r.Name]; ok && r.Name != "" {
			c.fail(at+".name", "the rule at [%d] is named %q already; names are unique within a group", first, r.Name)
		}
		names[r.Name] = i
		c.rule(g, r, at)
	}
	c.grantedRules(g)
}

// MaxPriority is the last priority that a Rule may have: those of the azure
// defaults come after.
const MaxPriority = 64999

func (c *check) rule(g *SecurityGroup, r Rule, at string) {
	c.oneOf(at+".direction", r.Direction, Inbound, Outbound)
	c.oneOf(at+".action", r.Action, Allow, Deny)
	c.oneOf(at+".protocol", r.Protocol, "tcp", "udp", "icmp", AnyProto)
	if r.Priority < 1 || r.Priority > MaxPriority {
		c.fail(at+".priority", "%d is out of range; choose 1 (judged first) to %d", r.Priority, MaxPriority)
	}
	if len(r.Ports) > 0 && r.Protocol == "icmp" {
		c.fail(at+".ports", "ICMP has no ports; remove them")
	}
	for i, s := range r.Ports {
		_, err := ParsePorts(s)
		c.try(fmt.Sprintf("%s.ports[%d]", at, i), err)
	}
	if r.Direction == Inbound && len(r.To) > 0 {
		c.fail(at+".to", "an inbound rule says from whom; write from")
	}
	if r.Direction == Outbound && len(r.From) > 0 {
		c.fail(at+".from", "an outbound rule says to whom; write to")
	}
	for i, s := range r.From {
		c.peer(g, s, fmt.Sprintf("%s.from[%d]", at, i))
	}
	for i, s := range r.To {
		c.peer(g, s, fmt.Sprintf("%s.to[%d]", at, i))
	}
}

func (c *check) peer(g *SecurityGroup, s, field string) {
	if open(s) {
		return
	}
	p, err := ParsePeer(s)
	if !c.try(field, err) || p.Group == "" {
		return
	}
	if g.Spec.Defaults == DefaultsEnterprise {
		c.fail(field, "a group with enterprise defaults cannot refer to a group; write its addresses as CIDRs")
		return
	}
	other, ok := Get[*SecurityGroup](c.s, p.Group)
	if ok && other.Spec.Network != g.Spec.Network && !peered(c.s, g.Spec.Network, other.Spec.Network) {
		c.fail(field, "SecurityGroup %q is of Network %q, which is not peered with %q; add a Peering or write CIDRs", p.Group, other.Spec.Network, g.Spec.Network)
	}
}
