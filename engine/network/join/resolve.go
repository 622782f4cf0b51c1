// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsPort = 53
	// ednsSize is the largest answer asked for over UDP: what fits every path.
	ednsSize = 1232
	// queryTimeout bounds one attempt; the tunnel may have to shake hands first.
	queryTimeout = 2 * time.Second
	rounds       = 3
	// maxChain bounds the aliases that are followed.
	maxChain = 16
)

// Answer is what a name resolved to.
type Answer struct {
	Name string
	// Addrs are the IPv4 addresses, then the IPv6 addresses, in the resolver's order.
	Addrs []netip.Addr
	// Chain are the aliases (CNAME) that were followed, in order.
	Chain []string
	// TTL is how long the answer may be kept.
	TTL time.Duration
	// Server is the resolver that answered.
	Server netip.Addr
}

// Resolve asks the tunnel's resolver for the addresses of a name, which is taken
// as it stands: no search domain is appended. The error is a *NameError.
func (c *Client) Resolve(ctx context.Context, name string) (*Answer, error) {
	fail := func(kind, cause error) (*Answer, error) {
		return nil, &NameError{Name: name, Kind: kind, Cause: cause}
	}
	if len(c.opts.Config.Interface.DNS) == 0 {
		return fail(ErrNoResolver, nil)
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.ContainsAny(name, " \\") {
		return fail(ErrNXDomain, errors.New("not a name"))
	}
	type result struct {
		ans *Answer
		err error
	}
	ask := func(qtype uint16) chan result {
		done := make(chan result, 1)
		go func() {
			ans, err := c.query(ctx, name, qtype)
			done <- result{ans, err}
		}()
		return done
	}
	ca, caaaa := ask(dns.TypeA), ask(dns.TypeAAAA)
	ra, raaaa := <-ca, <-caaaa
	switch {
	case ra.err == nil && raaaa.err == nil:
		ans := ra.ans
		if len(ans.Addrs) == 0 && len(raaaa.ans.Addrs) > 0 {
			ans.Chain = raaaa.ans.Chain
		}
		ans.Addrs = append(ans.Addrs, raaaa.ans.Addrs...)
		ans.TTL = min(ans.TTL, raaaa.ans.TTL)
		if len(ans.Addrs) == 0 {
			return fail(ErrNoData, nil)
		}
		return ans, nil
	case ra.err == nil && len(ra.ans.Addrs) > 0:
		return ra.ans, nil // some resolvers fail for a type they do not know
	case raaaa.err == nil && len(raaaa.ans.Addrs) > 0:
		return raaaa.ans, nil
	case ra.err != nil:
		return nil, ra.err
	}
	return nil, raaaa.err
}

// query asks every resolver in turn for one type.
func (c *Client) query(ctx context.Context, name string, qtype uint16) (*Answer, error) {
	var last error
	for range rounds {
		for _, server := range c.opts.Config.Interface.DNS {
			m, err := c.exchange(ctx, server, name, qtype)
			if err != nil {
				last = err
				if ctx.Err() != nil {
					return nil, &NameError{Name: name, Kind: ErrNameTimeout, Cause: ctx.Err()}
				}
				continue
			}
			return digest(name, qtype, server, m)
		}
	}
	kind := ErrServer
	if Symptom(last) == "timeout" {
		kind = ErrNameTimeout
	}
	return nil, &NameError{Name: name, Kind: kind, Cause: last}
}

// exchange asks one resolver over UDP, and over TCP if the answer was cut.
func (c *Client) exchange(ctx context.Context, server netip.Addr, name string, qtype uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(ednsSize, false)
	to := netip.AddrPortFrom(server, dnsPort)
	u, err := c.st.DialUDP(netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	m, err := converse(ctx, u, q)
	if err != nil || !m.Truncated {
		return m, err
	}
	t, err := c.st.DialTCP(ctx, netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	return converse(ctx, t, q)
}

// converse sends q and returns the answer to it, passing over anything else that
// arrives. It closes conn.
func converse(ctx context.Context, conn net.Conn, q *dns.Msg) (m *dns.Msg, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() { _ = conn.Close() }()
	defer func() {
		// The library parses what a stranger sent.
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("unreadable answer: %v", r)
		}
	}()
	co := &dns.Conn{Conn: conn, UDPSize: ednsSize}
	if err := co.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		m, err := co.ReadMsg()
		if err != nil {
			var ne net.Error
			if _, packets := conn.(net.PacketConn); packets && !errors.As(err, &ne) && !errors.Is(err, io.EOF) {
				continue // a datagram that is no DNS message
			}
			return nil, err
		}
		if m.Id == q.Id && m.Response && len(m.Question) == 1 &&
			strings.EqualFold(m.Question[0].Name, q.Question[0].Name) && m.Question[0].Qtype == q.Question[0].Qtype {
			return m, nil
		}
	}
}

// digest reads the answer to a question.
func digest(name string, qtype uint16, server netip.Addr, m *dns.Msg) (*Answer, error) {
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		return nil, &NameError{Name: name, Kind: ErrNXDomain}
	default:
		return nil, &NameError{Name: name, Kind: ErrServer, Cause: errors.New(dns.RcodeToString[m.Rcode])}
	}
	const day = 24 * time.Hour
	ans := &Answer{Name: name, Server: server, TTL: day}
	at := dns.Fqdn(name)
	ttl := func(h *dns.RR_Header) { ans.TTL = min(ans.TTL, time.Duration(h.Ttl)*time.Second) }
	for range maxChain {
		next := ""
		for _, rr := range m.Answer {
			if !strings.EqualFold(rr.Header().Name, at) {
				continue
			}
			switch rr := rr.(type) {
			case *dns.CNAME:
				next = rr.Target
				ttl(&rr.Hdr)
			case *dns.A:
				if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && qtype == dns.TypeA {
					ans.Addrs = append(ans.Addrs, a)
					ttl(&rr.Hdr)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok && qtype == dns.TypeAAAA {
					ans.Addrs = append(ans.Addrs, a.Unmap())
					ttl(&rr.Hdr)
				}
			}
		}
		if next == "" || len(ans.Addrs) > 0 {
			return ans, nil
		}
		ans.Chain = append(ans.Chain, strings.TrimSuffix(next, "."))
		at = next
	}
	return nil, &NameError{Name: name, Kind: ErrServer, Cause: fmt.Errorf("more than %d aliases", maxChain)}
}
