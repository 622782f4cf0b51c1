// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/model"
)

// View is the set of zones that one kind of asker sees. A name is answered by
// the zone with the longest matching suffix.
type View struct {
	// Zones are keyed by their domain: lower case, without the final dot.
	Zones map[string]*Zone
}

// Zone answers the names at and below one domain.
type Zone struct {
	Domain string
	// Owner is the resource that brought the zone: a Zone, an Endpoint (its
	// private DNS), a Gateway, a Domain; zero for the public base zone.
	Owner model.Ref
	// Private zones never fall through to the public one.
	Private bool
	// Alone zones hold their Names and nothing else, a wildcard one label deep:
	// what else lies below their domain is left to the zones that hold it. Those
	// that are made for a Gateway's own names and for Domains are.
	Alone bool
	// Names holds the record sets by full name, lower case, without the
	// final dot. A first label "*" is a wildcard for any names below that do
	// not exist. A name that only has names below it stands here too, with no
	// record sets, so that no wildcard answers for it (RFC 4592, section 2.2.2);
	// Add sees to that.
	Names map[string][]RecordSet
}

// Add adds a record set at name, and the names between it and the zone's
// domain. Both name and domain are in lower case without the final dot. Records
// of a type that the name has already join those. Only builders call it.
func (z *Zone) Add(name string, set RecordSet) {
	if z.Names == nil {
		z.Names = map[string][]RecordSet{}
	}
	sets := z.Names[name]
	at := slices.IndexFunc(sets, func(s RecordSet) bool { return s.Type == set.Type })
	if at < 0 {
		z.Names[name] = append(sets, set)
	} else {
		sets[at].Addrs = append(slices.Clip(sets[at].Addrs), set.Addrs...)
		sets[at].Values = append(slices.Clip(sets[at].Values), set.Values...)
	}
	for name != z.Domain {
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			return
		}
		name = above
		if _, known := z.Names[name]; known {
			return
		}
		z.Names[name] = nil
	}
}

// Claims reports whether z answers for name, which is its domain or below it.
func (z *Zone) Claims(name string) bool {
	if !z.Alone || len(z.Names[name]) > 0 {
		return true
	}
	_, above, ok := strings.Cut(name, ".")
	return ok && above == z.Domain && len(z.Names["*."+above]) > 0
}

// RecordType is a DNS record type by its usual name.
type RecordType string

// The record types that zones hold.
const (
	TypeA     RecordType = "A"
	TypeAAAA  RecordType = "AAAA"
	TypeCNAME RecordType = "CNAME"
	TypeTXT   RecordType = "TXT"
	TypeSRV   RecordType = "SRV"
	TypeMX    RecordType = "MX"
	TypePTR   RecordType = "PTR"
	TypeNS    RecordType = "NS"
	TypeSOA   RecordType = "SOA"
)

// RecordSet is the records of one name and type.
type RecordSet struct {
	Type   RecordType
	TTL    uint32
	Addrs  []netip.Addr // A, AAAA
	Target string       // CNAME: lower case, without the final dot
	Values []string     // other types, in presentation form
	// Owner is the resource that the record leads to or stems from.
	Owner model.Ref
}
