// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// ErrNoAddress is why a name leads nowhere.
var ErrNoAddress = errors.New("the name has no address")

// Lookup returns the addresses of a name as the hosts of a Network find them, or
// as the internet does if network is empty: those of IPv4 first, each in the
// order of its records. Forwarders are asked where a Network has them. The error
// wraps ErrNoAddress where it is certain that there is none.
func (r *Resolver) Lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	var out []netip.Addr
	failed := 0
	for _, typ := range [...]uint16{dns.TypeA, dns.TypeAAAA} {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(host), typ)
		m := r.reply(ctx, network, q)
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			failed = m.Rcode
			continue
		}
		for _, rr := range m.Answer {
			switch a := rr.(type) {
			case *dns.A:
				out = appendAddr(out, a.A)
			case *dns.AAAA:
				out = appendAddr(out, a.AAAA)
			}
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case failed != 0:
		return nil, fmt.Errorf("dns: %s: %s", host, dns.RcodeToString[failed])
	}
	return nil, fmt.Errorf("dns: %s: %w", host, ErrNoAddress)
}

func appendAddr(to []netip.Addr, ip []byte) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok {
		return append(to, a.Unmap())
	}
	return to
}
