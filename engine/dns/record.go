// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"postern.dev/postern/snapshot"
)

func header(owner string, typ uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: typ, Class: dns.ClassINET, Ttl: ttl}
}

// records writes a record set under a name.
func records(owner string, set *snapshot.RecordSet) ([]dns.RR, error) {
	var out []dns.RR
	switch set.Type {
	case snapshot.TypeA:
		for _, a := range set.Addrs {
			out = append(out, &dns.A{Hdr: header(owner, dns.TypeA, set.TTL), A: a.AsSlice()})
		}
	case snapshot.TypeAAAA:
		for _, a := range set.Addrs {
			out = append(out, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, set.TTL), AAAA: a.AsSlice()})
		}
	case snapshot.TypeCNAME:
		out = append(out, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME, set.TTL), Target: dns.Fqdn(set.Target)})
	default:
		for _, v := range set.Values {
			rr, err := parse(set.Type, v)
			if err != nil {
				return nil, err
			}
			*rr.Header() = header(owner, rr.Header().Rrtype, set.TTL)
			out = append(out, rr)
		}
	}
	return out, nil
}

// parse reads the presentation form of one record's data. dns.NewRR would do,
// but follows $INCLUDE into the file system.
func parse(typ snapshot.RecordType, value string) (dns.RR, error) {
	if strings.ContainsAny(value, "\r\n") {
		return nil, fmt.Errorf("%s record %q spans several lines", typ, value)
	}
	p := dns.NewZoneParser(strings.NewReader(". 0 IN "+string(typ)+" "+value+"\n"), ".", "")
	rr, ok := p.Next()
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("%s record %q: %w", typ, value, err)
	}
	if !ok || dns.TypeToString[rr.Header().Rrtype] != string(typ) {
		return nil, fmt.Errorf("%s record %q cannot be read", typ, value)
	}
	return rr, nil
}
