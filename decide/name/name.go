// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package name decides what a host name means to whoever asks. The resolver and
// explain call the same function.
package name

import (
	"net/netip"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// The codes of verdicts.
const (
	Answered             = "dns/answered"
	NXDomain             = "dns/nxdomain"
	PrivateShadowsPublic = "dns/private-shadows-public"
	ResolvesPublic       = "dns/resolves-public"
)

// Status is what the resolver answers.
type Status uint8

// The statuses.
const (
	// Found: there are records of the type, or a CNAME that leads to a name
	// that is asked elsewhere.
	Found Status = iota
	// NoData: the name exists but has no record of the type.
	NoData
	// NotFound: the name does not exist.
	NotFound
	// Loop: the chain of CNAMEs is a circle, or too long.
	Loop
)

// maxChain is how many CNAMEs are followed.
const maxChain = 8

// Answer is one record set of an answer, with the name it stands under.
type Answer struct {
	Name string
	snapshot.RecordSet
	Zone *snapshot.Zone
}

// Verdict is what a name means.
type Verdict struct {
	Status Status
	// Code is Answered only if there is something to connect to: NoData and
	// Loop are NXDomain like NotFound. PrivateShadowsPublic and ResolvesPublic
	// are answers too, with a finding.
	Code string
	// Zone is the zone that had the last word; nil if no zone holds the name.
	Zone *snapshot.Zone
	// Name is the last name of the chain, the one that has the records or
	// lacks them.
	Name string
	// Answers are the CNAMEs in order, then the records of the type.
	Answers []Answer
	// Addrs are the addresses among the last records.
	Addrs []netip.Addr
	// Owner is the resource that the last records lead to.
	Owner model.Ref
	// Shadowed is the public zone that would have answered a name of the chain
	// if a private zone had not stood before it; ShadowedBy is that zone.
	Shadowed, ShadowedBy *snapshot.Zone
	// Forward says that Postern does not hold Name: a Network that lists
	// forwarders asks there. It never does for a name in one of its zones.
	Forward bool
}

// View returns what a host of n sees; links, peers and the internet, all nil,
// see the public view.
func View(s *snapshot.Snapshot, n *snapshot.Network) *snapshot.View {
	if n == nil || n.View == nil {
		return s.Public
	}
	return n.View
}

// Resolve decides what name means in view, which is View's answer. The final
// dot is optional and case does not matter.
func Resolve(s *snapshot.Snapshot, view *snapshot.View, name string, typ snapshot.RecordType) Verdict {
	v := Verdict{Name: Canonical(name)}
	seen := make([]string, 0, maxChain+1)
	for {
		seen = append(seen, v.Name)
		zone, sets, status := look(s, view, v.Name)
		v.Zone = zone
		if zone == nil {
			v.Status, v.Forward = NotFound, forwardable(v.Name)
			break
		}
		v.shadow(s, view)
		if status == NotFound {
			v.Status = NotFound
			break
		}
		set, cname := pick(sets, typ)
		if set == nil {
			v.Status = NoData
			break
		}
		v.Answers = append(v.Answers, Answer{Name: v.Name, RecordSet: *set, Zone: zone})
		if !cname {
			v.Status, v.Addrs, v.Owner = Found, set.Addrs, set.Owner
			break
		}
		v.Name = Canonical(set.Target)
		if len(seen) > maxChain || contains(seen, v.Name) {
			v.Status = Loop
			break
		}
	}
	v.code(s, view)
	return v
}

// code names the verdict.
func (v *Verdict) code(s *snapshot.Snapshot, view *snapshot.View) {
	switch {
	case v.Status != Found:
		v.Code = NXDomain
	case v.Shadowed != nil:
		v.Code = PrivateShadowsPublic
	case view != s.Public && v.public(s, view):
		v.Code = ResolvesPublic
	default:
		v.Code = Answered
	}
}

// public reports whether the name leads to a Gateway over the internet although
// the asker's Network has an Endpoint of that Gateway.
func (v *Verdict) public(s *snapshot.Snapshot, view *snapshot.View) bool {
	if v.Zone.Private {
		return false
	}
	for _, a := range v.Addrs {
		g := s.Internet.Gateways[a]
		if g == nil {
			continue
		}
		for _, e := range g.Endpoints {
			if e.Network != nil && e.Network.View == view {
				return true
			}
		}
	}
	return false
}

// shadow notes if v.Name is answered by a private zone that hides a public
// answer. The first such name of a chain is the one to tell.
func (v *Verdict) shadow(s *snapshot.Snapshot, view *snapshot.View) {
	if view == s.Public || !v.Zone.Private || v.Shadowed != nil {
		return
	}
	zone, sets, status := look(s, s.Public, v.Name)
	if zone != nil && status == Found && len(sets) > 0 && !same(v.Zone, zone, v.Name) {
		v.Shadowed, v.ShadowedBy = zone, v.Zone
	}
}

// same reports whether two zones hold the same addresses under a name: then
// nothing is hidden.
func same(a, b *snapshot.Zone, name string) bool {
	x, _ := find(a, name)
	y, _ := find(b, name)
	xs, ys := addresses(x), addresses(y)
	if len(xs) == 0 || len(xs) != len(ys) {
		return false
	}
	for a := range xs {
		if !ys[a] {
			return false
		}
	}
	return true
}

func addresses(sets []snapshot.RecordSet) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for i := range sets {
		for _, a := range sets[i].Addrs {
			out[a] = true
		}
	}
	return out
}

// look finds the zone that answers for name, and what stands there. A private
// zone of the view stands before the public ones, however long their match: it
// never falls through to them. But where it is a Domain's wildcard, whoever has
// the name itself stands before it.
func look(s *snapshot.Snapshot, view *snapshot.View, name string) (*snapshot.Zone, []snapshot.RecordSet, Status) {
	zone := longest(view, name)
	if view != s.Public && (zone == nil || zone.Alone && zone.Domain != name) {
		if p := longest(s.Public, name); zone == nil || p != nil && len(p.Domain) > len(zone.Domain) {
			zone = p
		}
	}
	if zone == nil {
		return nil, nil, NotFound
	}
	sets, status := find(zone, name)
	return zone, sets, status
}

// longest finds the zone of the view with the longest matching suffix, of those
// that claim the name.
func longest(view *snapshot.View, name string) *snapshot.Zone {
	if view == nil {
		return nil
	}
	for suffix := name; ; {
		if z := view.Zones[suffix]; z != nil && z.Claims(name) {
			return z
		}
		_, above, ok := strings.Cut(suffix, ".")
		if !ok {
			return view.Zones[""]
		}
		suffix = above
	}
}

// find looks a name up in its zone, wildcards included (RFC 4592): the one that
// stands directly below the closest name that exists.
func find(z *snapshot.Zone, name string) ([]snapshot.RecordSet, Status) {
	if sets, ok := z.Names[name]; ok || name == z.Domain {
		return sets, Found
	}
	for name != z.Domain {
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			break
		}
		if sets, ok := z.Names["*."+above]; ok {
			return sets, Found
		}
		if _, ok := z.Names[above]; ok {
			break
		}
		name = above
	}
	return nil, NotFound
}

// pick finds the records of a type, or the CNAME that stands for every type.
func pick(sets []snapshot.RecordSet, typ snapshot.RecordType) (set *snapshot.RecordSet, cname bool) {
	for i := range sets {
		switch sets[i].Type {
		case typ:
			return &sets[i], false
		case snapshot.TypeCNAME:
			set, cname = &sets[i], true
		}
	}
	return set, cname
}

// Canonical returns name in lower case without the final dot.
func Canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// local lists the top-level domains that mean something only where one stands
// (RFC 6761, 6762, 7686, 8375 and ICANN's reservation of internal).
var local = map[string]bool{
	"localhost": true, "local": true, "internal": true, "invalid": true, "test": true, "onion": true,
}

// forwardable tells which names may be asked of a forwarder. Reverse names are
// not: what they ask about are mostly private addresses, which is nobody
// else's business (RFC 6303).
func forwardable(name string) bool {
	if name == "" || !strings.Contains(name, ".") || strings.HasSuffix(name, ".in-addr.arpa") ||
		strings.HasSuffix(name, ".ip6.arpa") || strings.HasSuffix(name, ".home.arpa") {
		return false
	}
	return !local[name[strings.LastIndexByte(name, '.')+1:]]
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// Forwarders lists whom n asks for v.Name, in order. It is empty for a name that
// Postern holds, and for a Network without an internet gateway: a name leaves a
// Network only where packets may.
func (v *Verdict) Forwarders(n *snapshot.Network) []netip.AddrPort {
	if !v.Forward || n == nil || !n.InternetGateway {
		return nil
	}
	return n.Forward
}
