// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"errors"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

func TestLookupFindsWhatTheHostsOfANetworkFind(t *testing.T) {
	u := &upstream{handle: func(_ string, q *dns.Msg) []*dns.Msg {
		name, m := q.Question[0].Name, reply(q)
		switch {
		case name == "broken.example.net.":
			m.Rcode = dns.RcodeServerFailure
		case name != "cdn.example.net.":
			m.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeAAAA:
			m = reply(q, "cdn.example.net. 60 IN AAAA 2001:db8::7")
		case q.Question[0].Qtype == dns.TypeA:
			m = reply(q, "cdn.example.net. 60 IN A 203.0.113.7")
		}
		return []*dns.Msg{m}
	}}
	r := New(world(), Config{Dial: u.dial})
	t.Cleanup(u.done.Wait)
	for _, x := range []struct {
		network, host string
		want          []string
		certain       bool // that there is none
	}{
		{"app", "pub0000000." + region, []string{"10.0.1.20", "10.0.2.20"}, false},
		{"", "pub0000000." + region, []string{"198.18.0.10"}, false},
		{"app", "WWW.shop.example", []string{"10.0.1.20", "10.0.2.20"}, false},
		{"app", "cdn.shop.example", []string{"203.0.113.7", "2001:db8::7"}, false},
		{"app", "nobody.example.net", nil, true},
		{"app", "broken.example.net", nil, false},
		{"shut", "cdn.example.net", nil, true},
		{"app", "txt.shop.example", nil, true},
		{"app", "nobody.shop.example", nil, true},
	} {
		got, err := r.Lookup(t.Context(), x.network, x.host)
		if !slices.Equal(got, addrs(x.want...)) || (err == nil) != (len(x.want) > 0) || errors.Is(err, ErrNoAddress) != x.certain {
			t.Errorf("%s in %q: %v, %v", x.host, x.network, got, err)
		}
	}
}
