// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// cacheKey names a forwarded question. Networks share nothing: their
// forwarders may differ in what they say.
type cacheKey struct {
	network string
	server  netip.AddrPort
	name    string
	qtype   uint16
}

// cached is an answer and how long it holds.
type cached struct {
	found  *found
	at     time.Time
	expiry time.Time
}

// cache keeps forwarded answers for their TTL. When it is full, entries that
// the map happens to yield first make room, expired ones before others.
type cache struct {
	mu      sync.Mutex
	limit   int
	entries map[cacheKey]cached
}

func newCache(limit int) *cache {
	return &cache{limit: limit, entries: map[cacheKey]cached{}}
}

// get returns an answer whose TTLs have run down since it was put.
func (c *cache) get(key cacheKey, now time.Time) (*found, bool) {
	c.mu.Lock()
	e, ok := c.entries[key]
	if ok && !now.Before(e.expiry) {
		delete(c.entries, key)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil, false
	}
	age := uint32(now.Sub(e.at) / time.Second)
	return &found{rcode: e.found.rcode, answer: aged(e.found.answer, age), negative: aged(e.found.negative, age)}, true
}

func aged(rrs []dns.RR, age uint32) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		h := out[i].Header()
		h.Ttl -= min(age, h.Ttl)
	}
	return out
}

// The longest that answers are kept.
const (
	maxTTL         = 5 * time.Minute
	maxNegativeTTL = time.Minute
)

// put keeps an answer for as long as its shortest TTL says.
func (c *cache) put(key cacheKey, f *found, now time.Time) {
	ttl := maxTTL
	if len(f.answer) == 0 || f.rcode != dns.RcodeSuccess {
		ttl = maxNegativeTTL
		if len(f.negative) == 0 {
			return // nothing says how long it holds (RFC 2308, section 5)
		}
	}
	for _, rr := range f.answer {
		ttl = min(ttl, seconds(rr.Header().Ttl))
	}
	for _, rr := range f.negative {
		ttl = min(ttl, seconds(rr.Header().Ttl))
		if soa, ok := rr.(*dns.SOA); ok {
			ttl = min(ttl, seconds(soa.Minttl))
		}
	}
	if ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.entries[key]; !known && len(c.entries) >= c.limit {
		c.evict(now)
	}
	c.entries[key] = cached{found: f, at: now, expiry: now.Add(ttl)}
}

// evict makes room for one. It looks at a few entries only, so that a full
// cache costs no more than an empty one.
func (c *cache) evict(now time.Time) {
	var victim cacheKey
	looked := 0
	for k, e := range c.entries {
		victim = k
		if looked++; looked == 8 || !now.Before(e.expiry) {
			break
		}
	}
	delete(c.entries, victim)
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
