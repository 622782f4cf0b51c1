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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// upstream is a forwarder on pipes. Its handler returns the messages to send
// for a query; none leaves it unanswered.
type upstream struct {
	mu      sync.Mutex
	asked   []string
	handle  func(transport string, q *dns.Msg) []*dns.Msg
	refused map[string]bool // by server
	done    sync.WaitGroup
}

func (u *upstream) dial(_ context.Context, network, transport string, server netip.AddrPort) (net.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, fmt.Sprint(network, " ", transport, " ", server))
	if u.refused[server.String()] {
		return nil, errors.New("no route")
	}
	near, far := net.Pipe()
	u.done.Go(func() {
		defer far.Close()
		b := make([]byte, 2048)
		n, err := far.Read(b)
		if err != nil {
			return
		}
		b = b[:n]
		if transport == "tcp" {
			b = b[2:]
		}
		q := new(dns.Msg)
		if err := q.Unpack(b); err != nil {
			return
		}
		for _, m := range u.handle(transport, q) {
			out, err := m.Pack()
			if err != nil {
				return
			}
			if transport == "tcp" {
				out = append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)
			}
			if _, err := far.Write(out); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, far) // until the asker hangs up
	})
	return near, nil
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

// reply answers q with records in zone-file form.
func reply(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// inBubble runs f with a Resolver whose forwarder is handle.
func inBubble(t *testing.T, handle func(string, *dns.Msg) []*dns.Msg, f func(*testing.T, *Resolver, *upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{handle: handle, refused: map[string]bool{}}
		f(t, New(world(), Config{Dial: u.dial, InFlight: 8, Cache: 4}), u)
		u.done.Wait()
	})
}

func always(records ...string) func(string, *dns.Msg) []*dns.Msg {
	return func(_ string, q *dns.Msg) []*dns.Msg { return []*dns.Msg{reply(q, records...)} }
}

func wants(t *testing.T, r *Resolver, network, question, want string) {
	t.Helper()
	if got := brief(ask(t, r, network, question, false)); got != want {
		t.Errorf("%s in %q: %s, want %s", question, network, got, want)
	}
}

func TestForwardsWhatPosternDoesNotHold(t *testing.T) {
	inBubble(t, always("example.com. 60 IN A 93.184.216.34"), func(t *testing.T, r *Resolver, u *upstream) {
		wants(t, r, "app", "example.com. A", "NOERROR 93.184.216.34")
		if u.asked[0] != "app udp 192.0.2.53:53" {
			t.Error(u.asked)
		}
		n := u.count()
		wants(t, r, "shut", "example.com. A", "NXDOMAIN") // no internet gateway
		wants(t, r, "", "example.com. A", "NXDOMAIN")     // the public view asks nobody
		wants(t, r, "app", "nobody.postern.internal. A", "NXDOMAIN /SOA")
		wants(t, r, "app", "printer.local. A", "NXDOMAIN")
		wants(t, r, "app", "9.9.9.9.in-addr.arpa. PTR", "NXDOMAIN")
		if u.count() != n {
			t.Errorf("names leaked to the forwarder: %v", u.asked[n:])
		}
	})
}

func TestForwardedAnswersAreKeptForTheirTTL(t *testing.T) {
	inBubble(t, always("example.com. 60 IN A 93.184.216.34"), func(t *testing.T, r *Resolver, u *upstream) {
		ask(t, r, "app", "example.com. A", false)
		time.Sleep(25 * time.Second) // in a bubble: no time passes outside
		m := ask(t, r, "app", "EXAMPLE.com. A", false)
		if u.count() != 1 || m.Answer[0].Header().Ttl != 35 || m.Answer[0].Header().Name != "EXAMPLE.com." {
			t.Errorf("asked %d times, answered %v", u.count(), m.Answer)
		}
		time.Sleep(35 * time.Second)
		if ask(t, r, "app", "example.com. A", false); u.count() != 2 {
			t.Errorf("asked %d times after the TTL", u.count())
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	handle := func(_ string, q *dns.Msg) []*dns.Msg {
		return []*dns.Msg{reply(q, q.Question[0].Name+" 60 IN A 1.2.3.4")}
	}
	inBubble(t, handle, func(t *testing.T, r *Resolver, u *upstream) {
		for i := range 50 {
			ask(t, r, "app", fmt.Sprintf("n%d.example.com. A", i), false)
		}
		if n := len(r.out.cache.entries); n != 4 {
			t.Errorf("%d entries, want the limit of 4", n)
		}
	})
}

func TestAbsentNamesAreKeptAsTheirSOASays(t *testing.T) {
	handle := func(_ string, q *dns.Msg) []*dns.Msg {
		m := reply(q, "com. 900 IN SOA a. b. 1 2 3 4 20")
		m.Rcode = dns.RcodeNameError
		return []*dns.Msg{m}
	}
	inBubble(t, handle, func(t *testing.T, r *Resolver, u *upstream) {
		wants(t, r, "app", "nope.com. A", "NXDOMAIN /SOA")
		wants(t, r, "app", "nope.com. A", "NXDOMAIN /SOA")
		time.Sleep(20 * time.Second)
		wants(t, r, "app", "nope.com. A", "NXDOMAIN /SOA")
		if u.count() != 2 {
			t.Errorf("asked %d times, want twice", u.count())
		}
	})
}

func TestCutAnswersAreAskedForOverTCP(t *testing.T) {
	handle := func(transport string, q *dns.Msg) []*dns.Msg {
		m := reply(q)
		if m.Truncated = transport == "udp"; !m.Truncated {
			m = reply(q, "example.com. 60 IN A 93.184.216.34")
		}
		return []*dns.Msg{m}
	}
	inBubble(t, handle, func(t *testing.T, r *Resolver, u *upstream) {
		wants(t, r, "app", "example.com. A", "NOERROR 93.184.216.34")
		if u.count() != 2 {
			t.Error(u.asked)
		}
	})
}

func TestForgedAnswersAreIgnored(t *testing.T) {
	handle := func(_ string, q *dns.Msg) []*dns.Msg {
		id, other := reply(q, "example.com. 60 IN A 6.6.6.6"), reply(q, "example.com. 60 IN A 6.6.6.6")
		id.Id++
		other.Question[0].Name = "example.org."
		query := q.Copy()
		return []*dns.Msg{id, other, query, reply(q, "example.com. 60 IN A 93.184.216.34", "bank.example. 60 IN A 6.6.6.6")}
	}
	inBubble(t, handle, func(t *testing.T, r *Resolver, u *upstream) {
		wants(t, r, "app", "example.com. A", "NOERROR 93.184.216.34")
	})
}

func TestSilentForwarderGivesWayToTheNext(t *testing.T) {
	inBubble(t, always("example.com. 60 IN A 93.184.216.34"), func(t *testing.T, r *Resolver, u *upstream) {
		u.refused["192.0.2.53:53"] = true
		wants(t, r, "app", "example.com. A", "NOERROR 93.184.216.34")
	})
	inBubble(t, func(string, *dns.Msg) []*dns.Msg { return nil }, func(t *testing.T, r *Resolver, u *upstream) {
		start := time.Now()
		wants(t, r, "app", "example.com. A", "SERVFAIL")
		if d := time.Since(start); d != 5*time.Second || u.count() != 2 {
			t.Errorf("gave up after %v and %d tries", d, u.count())
		}
	})
	inBubble(t, func(_ string, q *dns.Msg) []*dns.Msg {
		m := reply(q)
		m.Rcode = dns.RcodeRefused
		return []*dns.Msg{m}
	}, func(t *testing.T, r *Resolver, u *upstream) {
		wants(t, r, "app", "example.com. A", "SERVFAIL")
	})
}

func TestChainsCrossBetweenPosternAndForwarders(t *testing.T) {
	handle := func(_ string, q *dns.Msg) []*dns.Msg {
		switch q.Question[0].Name {
		case "cdn.example.net.":
			return []*dns.Msg{reply(q, "cdn.example.net. 60 IN CNAME edge.example.net.", "edge.example.net. 60 IN A 93.184.216.34")}
		case "api.example.net.":
			// The public answer leads to a name that the Network has a private
			// zone for: that zone answers.
			return []*dns.Msg{reply(q, "api.example.net. 60 IN CNAME pub0000000."+region+".", "pub0000000."+region+". 60 IN A 6.6.6.6")}
		case "pingpong.example.net.":
			return []*dns.Msg{reply(q, "pingpong.example.net. 60 IN CNAME cdn.shop.example.")}
		}
		return []*dns.Msg{reply(q)}
	}
	inBubble(t, handle, func(t *testing.T, r *Resolver, u *upstream) {
		wants(t, r, "app", "cdn.shop.example. A", "NOERROR cdn.example.net. edge.example.net. 93.184.216.34")
		wants(t, r, "app", "api.example.net. A", "NOERROR pub0000000."+region+". 10.0.1.20 10.0.2.20")
		wants(t, r, "app", "pingpong.example.net. A", "NOERROR cdn.shop.example. cdn.example.net. edge.example.net. 93.184.216.34")
	})
}

func TestEndlessChainsEnd(t *testing.T) {
	handle := func(_ string, q *dns.Msg) []*dns.Msg {
		return []*dns.Msg{reply(q, q.Question[0].Name+" 60 IN CNAME cdn.shop.example.")}
	}
	inBubble(t, handle, func(t *testing.T, r *Resolver, u *upstream) {
		if m := ask(t, r, "app", "cdn.shop.example. A", false); m.Rcode != dns.RcodeServerFailure {
			t.Error(brief(m))
		}
	})
	circle := always("a.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.example.")
	inBubble(t, circle, func(t *testing.T, r *Resolver, u *upstream) {
		if m := ask(t, r, "app", "a.example. A", false); len(m.Answer) > 3 {
			t.Error(brief(m))
		}
	})
}

func TestOneNetworkCannotTakeEveryPlace(t *testing.T) {
	f := newForwarder(Config{InFlight: 8})
	first, second, third := f.enter("a"), f.enter("a"), f.enter("a")
	if !first || !second || third {
		t.Error("a Network gets a quarter of the places")
	}
	for _, n := range []string{"b", "b", "c", "c", "d", "d"} {
		if !f.enter(n) {
			t.Errorf("no place for %s", n)
		}
	}
	if f.enter("e") {
		t.Error("more places than there are")
	}
	f.leave("a")
	if !f.enter("e") {
		t.Error("a place that was given back is lost")
	}
}
