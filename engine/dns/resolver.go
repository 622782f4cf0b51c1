// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dns is the resolver of every Network and of the public view: bytes of
// a query in, bytes of an answer out. What a name means is decided by
// decide/name; this package speaks the protocol and asks forwarders.
package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"postern.dev/postern/decide/name"
	"postern.dev/postern/snapshot"
)

// Dial opens a connection to a forwarder from inside a Network; transport is
// udp or tcp. Whether the Network's packets get there is up to whoever dials.
type Dial func(ctx context.Context, network, transport string, server netip.AddrPort) (net.Conn, error)

// Config is what a Resolver needs beside a snapshot. The zero value answers
// from the snapshot alone.
type Config struct {
	// Dial reaches forwarders; nil never asks any.
	Dial Dial
	// Log takes what is wrong with the server, never what is wrong with a
	// query; nil discards.
	Log *slog.Logger
	// InFlight bounds the queries that wait for forwarders, 256 if zero. One
	// Network gets a quarter of them.
	InFlight int
	// Cache bounds the forwarded answers that are kept, 4096 if zero.
	Cache int
	// Timeout bounds one forwarded query over all forwarders, 5 s if zero.
	Timeout time.Duration
}

// Resolver answers DNS queries. It may be used from many goroutines, and owns
// none itself.
type Resolver struct {
	snap atomic.Pointer[snapshot.Snapshot]
	log  *slog.Logger
	out  *forwarder
}

// New returns a Resolver that answers from s.
func New(s *snapshot.Snapshot, c Config) *Resolver {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.InFlight == 0 {
		c.InFlight = 256
	}
	if c.Cache == 0 {
		c.Cache = 4096
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	r := &Resolver{log: c.Log, out: newForwarder(c)}
	r.snap.Store(s)
	return r
}

// Swap makes the Resolver answer from s from now on.
func (r *Resolver) Swap(s *snapshot.Snapshot) { r.snap.Store(s) }

// Sizes of messages.
const (
	headerSize = 12
	// udpSize is what fits every path without fragments (dnsflagday.net/2020).
	udpSize = 1232
)

// Answer answers one query of a host in network; the empty name stands for
// links, peers and the internet, which have the public view. It returns nil
// where silence is the answer: to what is no query at all, an answer to which
// could start a loop.
func (r *Resolver) Answer(ctx context.Context, network string, query []byte, tcp bool) (answer []byte) {
	if len(query) < headerSize || query[2]&0x80 != 0 {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("dns: a query made the resolver panic; please report it", "panic", p, "network", network)
			answer = failure(query, dns.RcodeServerFailure)
		}
	}()
	q := new(dns.Msg)
	if err := q.Unpack(query); err != nil {
		return failure(query, dns.RcodeFormatError)
	}
	m := r.reply(ctx, network, q)
	return pack(m, q, query, tcp)
}

// failure is an answer without a question section, for queries that cannot be
// read.
func failure(query []byte, rcode byte) []byte {
	a := make([]byte, headerSize)
	copy(a, query[:2])
	a[2] = 0x80 | query[2]&0x79 // answer; same opcode and RD
	a[3] = 0x80 | rcode         // recursion is available
	return a
}

// pack writes m so that it fits whoever asked.
func pack(m, q *dns.Msg, query []byte, tcp bool) []byte {
	size := dns.MaxMsgSize
	if !tcp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
		}
	}
	m.Truncate(size)
	m.Compress = true
	b, err := m.Pack()
	if err != nil || len(b) > size {
		return failure(query, dns.RcodeServerFailure)
	}
	return b
}

// reply decides what to answer to a query that could be read.
func (r *Resolver) reply(ctx context.Context, network string, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.Id, m.Response, m.Opcode = q.Id, true, q.Opcode
	m.RecursionDesired, m.RecursionAvailable, m.CheckingDisabled = q.RecursionDesired, true, q.CheckingDisabled
	m.Question = q.Question
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	if q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		m.Question = nil
		return m
	}
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		m.Question = nil
		return m
	}
	ask := q.Question[0]
	switch {
	case ask.Qclass != dns.ClassINET, ask.Qtype == dns.TypeANY, ask.Qtype == dns.TypeAXFR, ask.Qtype == dns.TypeIXFR,
		ask.Qtype == dns.TypeMAILA, ask.Qtype == dns.TypeMAILB:
		// ANY and transfers serve amplification and enumeration only (RFC 8482).
		m.Rcode = dns.RcodeRefused
		return m
	}
	s := r.snap.Load()
	var n *snapshot.Network
	if network != "" {
		if n = s.Networks[network]; n == nil {
			m.Rcode = dns.RcodeRefused
			return m
		}
	}
	(&asking{r: r, s: s, n: n, m: m}).answer(ctx, ask.Name, ask.Qtype)
	return m
}

// asking is one question in progress.
type asking struct {
	r *Resolver
	s *snapshot.Snapshot
	n *snapshot.Network // nil: the public view
	m *dns.Msg
	// rounds counts the returns from a forwarder's chain into Postern's names.
	rounds int
}

func (a *asking) answer(ctx context.Context, owner string, qtype uint16) {
	typ := snapshot.RecordType(dns.TypeToString[qtype])
	v := name.Resolve(a.s, name.View(a.s, a.n), owner, typ)
	at := dns.Fqdn(owner) // in the asker's own case
	for i := range v.Answers {
		if i > 0 {
			at = dns.Fqdn(v.Answers[i].Name)
		}
		rrs, err := records(at, &v.Answers[i].RecordSet)
		if err != nil {
			a.r.log.Error("dns: a zone holds a record that cannot be sent", "zone", v.Answers[i].Zone.Domain, "name", v.Answers[i].Name, "error", err)
			a.m.Rcode = dns.RcodeServerFailure
			return
		}
		a.m.Answer = append(a.m.Answer, rrs...)
	}
	if len(v.Answers) > 0 {
		at = dns.Fqdn(v.Name)
	}
	switch v.Status {
	case name.Found:
		a.m.Authoritative = a.rounds == 0
		return
	case name.Loop:
		a.m.Rcode = dns.RcodeServerFailure
		return
	case name.NotFound:
		if servers := v.Forwarders(a.n); len(servers) > 0 && a.r.out.dial != nil {
			a.forward(ctx, at, qtype, servers)
			return
		}
		a.m.Rcode = dns.RcodeNameError
	case name.NoData:
		if rr := a.apex(&v, at, qtype); rr != nil {
			a.m.Authoritative = a.rounds == 0
			a.m.Answer = append(a.m.Answer, rr)
			return
		}
	}
	if v.Zone != nil {
		a.m.Authoritative = a.rounds == 0
		a.m.Ns = []dns.RR{a.soa(v.Zone)}
	}
}

// apex makes up the SOA and NS records that a zone need not list.
func (a *asking) apex(v *name.Verdict, at string, qtype uint16) dns.RR {
	if v.Zone == nil || v.Name != v.Zone.Domain {
		return nil
	}
	switch qtype {
	case dns.TypeSOA:
		soa := a.soa(v.Zone)
		soa.Header().Name = at
		return soa
	case dns.TypeNS:
		return &dns.NS{Hdr: header(at, dns.TypeNS, zoneTTL), Ns: a.server()}
	}
	return nil
}

func (a *asking) server() string { return dns.Fqdn("ns." + a.s.Base) }

const (
	zoneTTL     = 300
	negativeTTL = 30 // new resources should be found soon
)

// soa is the start of authority of a zone; its serial is the snapshot's
// revision.
func (a *asking) soa(z *snapshot.Zone) dns.RR {
	for i := range z.Names[z.Domain] {
		if set := &z.Names[z.Domain][i]; set.Type == snapshot.TypeSOA {
			if rrs, err := records(dns.Fqdn(z.Domain), set); err == nil && len(rrs) == 1 {
				return rrs[0]
			}
		}
	}
	return &dns.SOA{
		Hdr: header(dns.Fqdn(z.Domain), dns.TypeSOA, negativeTTL),
		Ns:  a.server(), Mbox: dns.Fqdn("hostmaster." + a.s.Base),
		Serial: uint32(a.s.Revision), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}
}
