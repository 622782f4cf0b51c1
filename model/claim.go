// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// What may be claimed; the text is for messages.
const (
	claimID         = "the id"
	claimAddress    = "the address"
	claimPublic     = "the public address"
	claimKey        = "the public key"
	claimHost       = "the host name"
	claimPrivateDNS = "private DNS for region"
	claimPeering    = "the Peering of"
	claimPath       = "the path"
	claimZone       = "the zone"
)

// claimants lists the kinds that claim something; an id is claimed within its
// kind.
var claimants = map[string][]Kind{
	claimAddress:    {KindHost, KindGateway, KindEndpoint},
	claimPublic:     {KindNetwork, KindGateway},
	claimKey:        {KindHost, KindLink},
	claimHost:       {KindGateway, KindDomain},
	claimPrivateDNS: {KindEndpoint},
	claimPeering:    {KindPeering},
	claimPath:       {KindAPI},
	claimZone:       {KindZone},
}

// claim is something that only one resource may have.
type claim struct {
	what  string
	scope string // a Network, a Gateway, or a kind: where it is unique
	value string
}

// claimant is who makes a claim, and in which field.
type claimant struct {
	o     Object
	field string
}

// claimsOf calls f with all that o claims.
func claimsOf(o Object, s *Set, f func(c claim, field string)) {
	h := o.Base()
	id := func() {
		if h.Status.ID != "" {
			f(claim{claimID, string(o.Kind()), h.Status.ID}, "status.id")
		}
	}
	address := func(a, subnet, field string) {
		if sub, ok := Get[*Subnet](s, subnet); ok && a != "" {
			f(claim{claimAddress, sub.Spec.Network, canonical(a)}, field)
		}
	}
	public := func(a, field string) {
		if a != "" {
			f(claim{claimPublic, "", canonical(a)}, field)
		}
	}
	key := func(network, spec string) {
		if k := either(spec, h.Status.PublicKey); k != "" {
			f(claim{claimKey, network, k}, "spec.publicKey")
		}
	}
	id()
	switch o := o.(type) {
	case *Network:
		public(h.Status.PublicAddress, "status.publicAddress")
	case *Host:
		a := either(literal(o.Spec.Address), first(h.Status.Addresses))
		address(a, o.Spec.Subnet, "spec.address")
		if sub, ok := Get[*Subnet](s, o.Spec.Subnet); ok {
			key(sub.Spec.Network, o.Spec.PublicKey)
		}
	case *Link:
		key(o.Spec.Network, o.Spec.PublicKey)
	case *Gateway:
		if o.Spec.Subnet != "" {
			address(either(literal(o.Spec.PrivateAddress), first(h.Status.Addresses)), o.Spec.Subnet, "spec.privateAddress")
		}
		if o.Spec.Outbound != nil {
			address(h.Status.OutboundAddress, o.Spec.Outbound.Subnet, "spec.outbound")
		}
		public(either(literal(o.Spec.PublicAddress), h.Status.PublicAddress), "spec.publicAddress")
		public(h.Status.ConfigurationAddress, "status.configurationAddress")
		if h.Status.Host != "" {
			f(claim{claimHost, "", h.Status.Host}, "metadata.name")
		}
	case *Endpoint:
		for i, a := range h.Status.Addresses {
			if i < len(o.Spec.Subnets) {
				address(a, o.Spec.Subnets[i], fmt.Sprintf("spec.subnets[%d]", i))
			}
		}
		if on(o.Spec.PrivateDNS) {
			g, ok := Get[*Gateway](s, o.Spec.Gateway)
			if n := networkOf(o, s); ok && n != "" {
				f(claim{claimPrivateDNS, n, g.Spec.Region}, "spec.privateDNS")
			}
		}
	case *Peering:
		if n := o.Spec.Networks; len(n) == 2 && n[0] != n[1] {
			f(claim{claimPeering, "", min(n[0], n[1]) + " and " + max(n[0], n[1])}, "spec.networks")
		}
	case *API:
		if o.Spec.Path != "" {
			f(claim{claimPath, o.Spec.Gateway, strings.Trim(o.Spec.Path, "/")}, "spec.path")
		}
	case *Domain:
		f(claim{claimHost, "", o.Metadata.Name}, "metadata.name")
	case *Zone:
		for i, n := range o.Spec.Networks {
			f(claim{claimZone, n, strings.ToLower(o.Spec.Domain)}, fmt.Sprintf("spec.networks[%d]", i))
		}
	}
}

// message says that other has what is claimed.
func (c claim) message(other Object) string {
	who := RefOf(other)
	switch c.what {
	case claimPrivateDNS:
		return fmt.Sprintf("%s has private DNS for region %q in Network %q already; set privateDNS: false on one of them", who, c.value, c.scope)
	case claimPeering:
		return fmt.Sprintf("%s joins %s already; remove one", who, c.value)
	case claimZone:
		return fmt.Sprintf("%s is a Zone for %q in Network %q already; put the records into one of them", who, c.value, c.scope)
	case claimPath:
		return fmt.Sprintf("%s has the path %q on Gateway %q already; choose another", who, "/"+c.value, c.scope)
	case claimAddress:
		return fmt.Sprintf("%s has the address %s in Network %q already; choose another or leave it out", who, c.value, c.scope)
	case claimID:
		return fmt.Sprintf("%s has the id %s already; remove status.id to have one made", who, c.value)
	default:
		return fmt.Sprintf("%s has %s %s already; choose another", who, c.what, c.value)
	}
}

// claims fails for each claim of one of these that another resource makes too.
func (c *check) claims(these map[Ref]bool) {
	wanted := make(map[claim][]claimant, len(these))
	for r := range these {
		if e := c.s.byKind[r.Kind][r.Name]; e != nil {
			claimsOf(e.Object, c.s, func(x claim, field string) {
				wanted[x] = append(wanted[x], claimant{e.Object, field})
			})
		}
	}
	kinds, values := map[Kind]bool{}, map[string]bool{}
	for x := range wanted {
		values[x.value] = true // a cheaper question than that for the claim
		if x.what == claimID {
			kinds[Kind(x.scope)] = true
		}
		for _, k := range claimants[x.what] {
			kinds[k] = true
		}
	}
	for k := range kinds {
		for name, e := range c.s.byKind[k] {
			if these[Ref{k, name}] {
				continue
			}
			claimsOf(e.Object, c.s, func(x claim, field string) {
				if values[x.value] && wanted[x] != nil {
					wanted[x] = append(wanted[x], claimant{e.Object, field})
				}
			})
		}
	}
	for x, who := range wanted {
		if len(who) < 2 {
			continue
		}
		slices.SortFunc(who, func(a, b claimant) int { return c.seniority(a.o, b.o) })
		for _, w := range who[1:] {
			if w.o != who[0].o {
				c.failAt(w.o, w.field, "%s", x.message(who[0].o))
			}
		}
	}
}

// compareObjects orders as Objects lists.
func compareObjects(a, b Object) int {
	if d := slices.Index(Kinds, a.Kind()) - slices.Index(Kinds, b.Kind()); d != 0 {
		return d
	}
	return compareNames(a, b)
}

// networks fails for each pair of Subnets, and of Links and what they lead
// beyond, that overlap within one Network.
func (c *check) networks(these map[Ref]bool) {
	affected := map[string]bool{}
	for r := range these {
		switch o := c.s.Object(r).(type) {
		case *Network:
			affected[r.Name] = true
		case *Subnet:
			affected[o.Spec.Network] = true
		case *Link:
			affected[o.Spec.Network] = true
		}
	}
	if len(affected) == 0 {
		return
	}
	subnets, links := map[string][]claimedPrefix{}, map[string][]claimedPrefix{}
	for s := range each[*Subnet](c.s) {
		if affected[s.Spec.Network] {
			subnets[s.Spec.Network] = c.appendPrefix(subnets[s.Spec.Network], s, "spec.cidr", s.Spec.CIDR)
		}
	}
	for l := range each[*Link](c.s) {
		if !affected[l.Spec.Network] {
			continue
		}
		for i, s := range l.Spec.CIDRs {
			links[l.Spec.Network] = c.appendPrefix(links[l.Spec.Network], l, fmt.Sprintf("spec.cidrs[%d]", i), s)
		}
	}
	for name := range affected {
		c.overlaps(subnets[name])
		c.overlaps(links[name])
		n, ok := Get[*Network](c.s, name)
		if !ok {
			continue
		}
		for _, l := range links[name] {
			for _, s := range n.Spec.CIDRs {
				if p, err := ParsePrefix(s); err == nil && p.Overlaps(l.prefix) {
					c.failAt(l.o, l.field, "%s overlaps %s of Network %q; a Link leads beyond its Network", l.prefix, p, name)
				}
			}
		}
	}
}

// claimedPrefix is a prefix and who has it.
type claimedPrefix struct {
	o      Object
	field  string
	prefix netip.Prefix
}

func (c *check) appendPrefix(to []claimedPrefix, o Object, field, cidr string) []claimedPrefix {
	cidr, err := ExpandString(cidr, c.s)
	if err != nil {
		return to
	}
	if p, err := ParsePrefix(cidr); err == nil {
		return append(to, claimedPrefix{o, field, p})
	}
	return to
}

// overlaps fails for each prefix that overlaps one of another resource. Sorted
// by address, a prefix overlaps one before it only if that one contains it, so
// it is enough to keep those still open.
func (c *check) overlaps(list []claimedPrefix) {
	slices.SortFunc(list, func(a, b claimedPrefix) int {
		if d := a.prefix.Addr().Compare(b.prefix.Addr()); d != 0 {
			return d
		}
		if d := a.prefix.Bits() - b.prefix.Bits(); d != 0 {
			return d
		}
		return compareObjects(a.o, b.o)
	})
	var stack []claimedPrefix
	for _, x := range list {
		for len(stack) > 0 && !stack[len(stack)-1].prefix.Overlaps(x.prefix) {
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 0 {
			y := stack[len(stack)-1]
			late, early := x, y
			if c.seniority(late.o, early.o) < 0 {
				late, early = early, late
			}
			if late.o != early.o {
				c.failAt(late.o, late.field, "%s overlaps %s of %s; choose another prefix", late.prefix, early.prefix, RefOf(early.o))
			}
		}
		stack = append(stack, x)
	}
}

// canonical brings an address into its one form; what is none stays as it is.
func canonical(a string) string {
	if x, err := netip.ParseAddr(a); err == nil {
		return x.String()
	}
	return a
}

// literal is v unless it holds a placeholder.
func literal(v string) string {
	if open(v) {
		return ""
	}
	return v
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
