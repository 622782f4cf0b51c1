// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"postern.dev/postern/decide/name"
)

// forwarder asks for names that Postern does not hold.
type forwarder struct {
	dial    Dial
	timeout time.Duration
	cache   *cache

	mu        sync.Mutex
	inFlight  map[string]int // by Network
	total     int
	limit     int
	limitEach int
}

func newForwarder(c Config) *forwarder {
	return &forwarder{
		dial: c.Dial, timeout: c.Timeout, cache: newCache(c.Cache),
		inFlight: map[string]int{}, limit: c.InFlight, limitEach: max(c.InFlight/4, 1),
	}
}

// enter takes a place for a query, if there is one; leave gives it back.
func (f *forwarder) enter(network string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.total >= f.limit || f.inFlight[network] >= f.limitEach {
		return false
	}
	f.total++
	f.inFlight[network]++
	return true
}

func (f *forwarder) leave(network string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total--
	if f.inFlight[network]--; f.inFlight[network] == 0 {
		delete(f.inFlight, network)
	}
}

// maxRounds is how often a chain may come back from a forwarder into names that
// Postern holds.
const maxRounds = 4

// forward asks the Network's forwarders and adds what they answer. A CNAME
// among it that leads to a name of Postern's is chased here, in the asker's own
// view: only that view knows what is private in it.
func (a *asking) forward(ctx context.Context, owner string, qtype uint16, servers []netip.AddrPort) {
	if a.rounds++; a.rounds > maxRounds {
		a.m.Rcode = dns.RcodeServerFailure
		return
	}
	f := a.r.out
	key := cacheKey{network: a.n.Name, server: servers[0], name: strings.ToLower(owner), qtype: qtype}
	found, ok := f.cache.get(key, time.Now())
	if !ok {
		var err error
		if found, err = f.ask(ctx, a.n.Name, owner, qtype, servers); err != nil {
			// Forwarders that are away are the Network's own matter: SERVFAIL
			// tells whoever asked.
			a.r.log.Debug("dns: no forwarder answered", "network", a.n.Name, "error", err)
			a.m.Rcode = dns.RcodeServerFailure
			return
		}
		f.cache.put(key, found, time.Now())
	}
	a.m.Authoritative = false
	next := owner
	for _, rr := range found.chain(owner) {
		a.m.Answer = append(a.m.Answer, rr)
		c, ok := rr.(*dns.CNAME)
		if !ok || qtype == dns.TypeCNAME {
			continue
		}
		next = c.Target
		v := name.Resolve(a.s, name.View(a.s, a.n), next, "")
		if len(v.Answers) > 0 || v.Zone != nil || !v.Forward {
			a.answer(ctx, next, qtype)
			a.m.Authoritative = false
			return
		}
	}
	a.m.Rcode = found.rcode
	a.m.Ns = append(a.m.Ns, found.negative...)
}

// found is what a forwarder answered, cut down to what was asked.
type found struct {
	rcode    int
	answer   []dns.RR
	negative []dns.RR // the SOA of an answer without records
}

// chain returns the records that lead from owner on, in order: CNAMEs first,
// then what the last of them has. Records of other names are left out; who
// answers one question does not get to say more.
func (f *found) chain(owner string) []dns.RR {
	var out []dns.RR
	at := owner
	for range len(f.answer) + 1 {
		next := ""
		for _, rr := range f.answer {
			if !strings.EqualFold(rr.Header().Name, at) {
				continue
			}
			rr = dns.Copy(rr)
			if len(out) == 0 || strings.EqualFold(at, owner) {
				rr.Header().Name = owner
			}
			out = append(out, rr)
			if c, ok := rr.(*dns.CNAME); ok {
				next = c.Target
				break
			}
		}
		if next == "" || len(out) > maxForwarded {
			break
		}
		at = next
	}
	return out
}

// maxForwarded bounds the records taken over from one answer.
const maxForwarded = 256

var errBusy = errors.New("too many queries wait for forwarders already")

// ask asks one server after the other until one answers.
func (f *forwarder) ask(ctx context.Context, network, owner string, qtype uint16, servers []netip.AddrPort) (*found, error) {
	if !f.enter(network) {
		return nil, errBusy
	}
	defer f.leave(network)
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var errs []error
	for i, s := range servers {
		// What is left of the time is shared by those not asked yet.
		end, _ := ctx.Deadline()
		one, stop := context.WithTimeout(ctx, time.Until(end)/time.Duration(len(servers)-i))
		m, err := f.exchange(one, network, owner, qtype, s)
		stop()
		if err == nil {
			return reduce(m, qtype), nil
		}
		errs = append(errs, fmt.Errorf("forwarder %s: %w", s, err))
	}
	return nil, errors.Join(errs...)
}

// exchange asks one server over UDP, and over TCP where the answer is cut.
func (f *forwarder) exchange(ctx context.Context, network, owner string, qtype uint16, server netip.AddrPort) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(owner), qtype)
	q.SetEdns0(udpSize, false)
	m, err := f.over(ctx, "udp", network, q, server)
	if err == nil && m.Truncated {
		m, err = f.over(ctx, "tcp", network, q, server)
	}
	if err != nil {
		return nil, err
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("it answered %s", dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

func (f *forwarder) over(ctx context.Context, transport, network string, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	c, err := f.dial(ctx, network, transport, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	b, err := q.Pack()
	if err != nil {
		return nil, err
	}
	if transport == "tcp" {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	for range maxStray {
		b, err := read(c, transport)
		if err != nil {
			return nil, err
		}
		m := new(dns.Msg)
		// What does not answer this very question may be forged or late: wait on.
		if err := m.Unpack(b); err == nil && answers(m, q) {
			return m, nil
		}
	}
	return nil, errors.New("it sent only messages that answer something else")
}

// maxStray bounds the messages that are looked at while waiting for one answer.
const maxStray = 16

func read(c net.Conn, transport string) ([]byte, error) {
	if transport == "udp" {
		b := make([]byte, udpSize+1)
		n, err := c.Read(b)
		return b[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

func answers(m, q *dns.Msg) bool {
	return m.Response && m.Id == q.Id && len(m.Question) == 1 && m.Question[0].Qtype == q.Question[0].Qtype &&
		m.Question[0].Qclass == q.Question[0].Qclass && strings.EqualFold(m.Question[0].Name, q.Question[0].Name)
}

// reduce keeps of an answer what belongs to the question.
func reduce(m *dns.Msg, qtype uint16) *found {
	f := &found{rcode: m.Rcode}
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Class == dns.ClassINET && (h.Rrtype == qtype || h.Rrtype == dns.TypeCNAME) && len(f.answer) < maxForwarded {
			f.answer = append(f.answer, rr)
		}
	}
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeSOA && len(f.negative) == 0 {
			f.negative = append(f.negative, rr)
		}
	}
	return f
}
