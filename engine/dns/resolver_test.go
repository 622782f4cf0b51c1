// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"postern.dev/postern/snapshot"
)

const region = "execute-api.eu-1.postern.internal"

func addrs(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// world has a public zone, and the Networks app, which may ask a forwarder, and
// shut, which has one but no internet gateway.
func world() *snapshot.Snapshot {
	set := func(typ snapshot.RecordType, ss ...string) snapshot.RecordSet {
		return snapshot.RecordSet{Type: typ, TTL: 60, Addrs: addrs(ss...)}
	}
	public := &snapshot.Zone{Domain: "postern.internal"}
	public.Add("edge.postern.internal", set(snapshot.TypeA, "198.18.0.10"))
	public.Add("pub0000000."+region, set(snapshot.TypeA, "198.18.0.10"))
	shop := &snapshot.Zone{Domain: "shop.example"}
	shop.Add("www.shop.example", snapshot.RecordSet{Type: snapshot.TypeCNAME, TTL: 60, Target: "pub0000000." + region})
	shop.Add("cdn.shop.example", snapshot.RecordSet{Type: snapshot.TypeCNAME, TTL: 60, Target: "cdn.example.net"})
	shop.Add("loop.shop.example", snapshot.RecordSet{Type: snapshot.TypeCNAME, TTL: 60, Target: "loop.shop.example"})
	shop.Add("txt.shop.example", snapshot.RecordSet{Type: snapshot.TypeTXT, TTL: 60, Values: []string{`"a b" c`}})
	shop.Add("mail.shop.example", snapshot.RecordSet{Type: snapshot.TypeMX, TTL: 60, Values: []string{"10 edge.postern.internal."}})
	shop.Add("_http._tcp.shop.example", snapshot.RecordSet{Type: snapshot.TypeSRV, TTL: 60, Values: []string{"1 2 443 edge.postern.internal."}})
	shop.Add("evil.shop.example", snapshot.RecordSet{Type: snapshot.TypeTXT, TTL: 60, Values: []string{"x\n$INCLUDE /etc/passwd"}})
	var crowd []string
	for i := range 100 {
		crowd = append(crowd, fmt.Sprintf("10.9.0.%d", i))
	}
	shop.Add("crowd.shop.example", set(snapshot.TypeA, crowd...))
	hidden := &snapshot.Zone{Domain: region, Private: true}
	hidden.Add("*."+region, set(snapshot.TypeA, "10.0.1.20", "10.0.2.20"))
	view := &snapshot.View{Zones: map[string]*snapshot.Zone{region: hidden}}
	forward := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("192.0.2.54:53")}
	return &snapshot.Snapshot{
		Revision: 17, Base: "postern.internal",
		Public: &snapshot.View{Zones: map[string]*snapshot.Zone{"postern.internal": public, "shop.example": shop}},
		Networks: map[string]*snapshot.Network{
			"app":  {Name: "app", View: view, InternetGateway: true, Forward: forward},
			"shut": {Name: "shut", View: view, Forward: forward},
		},
	}
}

// ask sends "name type" and returns the answer read back.
func ask(t testing.TB, r *Resolver, network, question string, tcp bool, change ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	n, typ, _ := strings.Cut(question, " ")
	q := new(dns.Msg)
	q.SetQuestion(n, dns.StringToType[typ])
	for _, c := range change {
		c(q)
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := r.Answer(context.Background(), network, b, tcp)
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%s: the answer cannot be read: %v", question, err)
	}
	if m.Id != q.Id || !m.Response {
		t.Errorf("%s: the answer belongs to another query", question)
	}
	return m
}

// brief writes an answer as its code, the data of its records, and ns for an
// authority section.
func brief(m *dns.Msg) string {
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	for _, rr := range m.Ns {
		out = append(out, "/"+dns.TypeToString[rr.Header().Rrtype])
	}
	return strings.Join(out, " ")
}

func TestAnswers(t *testing.T) {
	r := New(world(), Config{})
	f := func(network, question, want string) {
		t.Helper()
		if got := brief(ask(t, r, network, question, true)); got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
	f("", "edge.postern.internal. A", "NOERROR 198.18.0.10")
	f("", "edge.postern.internal. AAAA", "NOERROR /SOA")
	f("", "nobody.postern.internal. A", "NXDOMAIN /SOA")
	f("", "priv000000."+region+". A", "NXDOMAIN /SOA")
	f("app", "priv000000."+region+". A", "NOERROR 10.0.1.20 10.0.2.20")
	f("app", "priv000000."+region+". AAAA", "NOERROR /SOA")
	f("", "www.shop.example. A", "NOERROR pub0000000."+region+". 198.18.0.10")
	f("app", "www.shop.example. A", "NOERROR pub0000000."+region+". 10.0.1.20 10.0.2.20")
	f("app", "www.shop.example. CNAME", "NOERROR pub0000000."+region+".")
	f("", "postern.internal. SOA", "NOERROR ns.postern.internal. hostmaster.postern.internal. 17 3600 600 86400 30")
	f("", "postern.internal. NS", "NOERROR ns.postern.internal.")
	f("", "txt.shop.example. TXT", `NOERROR "a b" "c"`)
	f("", "mail.shop.example. MX", "NOERROR 10 edge.postern.internal.")
	f("", "_http._tcp.shop.example. SRV", "NOERROR 1 2 443 edge.postern.internal.")
	f("", "evil.shop.example. TXT", "SERVFAIL")
	f("", "loop.shop.example. A", "SERVFAIL loop.shop.example.")
	f("", "edge.postern.internal. ANY", "REFUSED")
	f("", "postern.internal. AXFR", "REFUSED")
	f("", "20.1.0.10.in-addr.arpa. PTR", "NXDOMAIN")
	f("app", "example.com. A", "NXDOMAIN") // nobody to ask
	f("gone", "edge.postern.internal. A", "REFUSED")
	f("", ". A", "NXDOMAIN")
}

func TestAnswersKeepTheCaseOfTheQuestion(t *testing.T) {
	r := New(world(), Config{})
	for _, q := range []string{"eDGe.pOSTERN.internal.", "WWW.shop.example."} {
		m := ask(t, r, "", q+" A", false)
		if m.Question[0].Name != q || m.Answer[0].Header().Name != q {
			t.Errorf("%s is answered as %s, %s", q, m.Question[0].Name, m.Answer[0].Header().Name)
		}
	}
}

func TestAnswersFitTheDatagram(t *testing.T) {
	r := New(world(), Config{})
	f := func(tcp bool, advertised uint16, size int, truncated bool) {
		t.Helper()
		q := new(dns.Msg)
		q.SetQuestion("crowd.shop.example.", dns.TypeA)
		if advertised > 0 {
			q.SetEdns0(advertised, false)
		}
		b, _ := q.Pack()
		out := r.Answer(context.Background(), "", b, tcp)
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(out) > size || m.Truncated != truncated || !truncated && len(m.Answer) != 100 {
			t.Errorf("tcp %v, %d advertised: %d bytes, truncated %v, %d records", tcp, advertised, len(out), m.Truncated, len(m.Answer))
		}
		if (m.IsEdns0() != nil) != (advertised > 0) {
			t.Error("EDNS is answered with EDNS, and only that")
		}
	}
	f(false, 0, 512, true)
	f(false, 100, 512, true)
	f(false, 1232, 1232, true)
	f(false, 65535, 1232, true)
	f(true, 0, 65535, false)
	f(true, 1232, 65535, false)
}

func TestOddQueriesAreTurnedDown(t *testing.T) {
	r := New(world(), Config{})
	f := func(want string, change func(*dns.Msg)) {
		t.Helper()
		if got := brief(ask(t, r, "", "edge.postern.internal. A", false, change)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f("NOTIMP", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate })
	f("NOTIMP", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
	f("REFUSED", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	f("FORMERR", func(m *dns.Msg) { m.Question = nil })
	f("FORMERR", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
	// BADVERS has the number of BADSIG (RFC 6891, section 9).
	f("BADSIG", func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) })

	silent := func(what string, b []byte) {
		t.Helper()
		if out := r.Answer(context.Background(), "", b, false); out != nil {
			t.Errorf("%s is answered", what)
		}
	}
	silent("nothing", nil)
	silent("half a header", make([]byte, 11))
	silent("an answer", []byte{0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0})

	out := r.Answer(context.Background(), "", []byte{7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63}, false)
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil || m.Id != 0x0708 || m.Rcode != dns.RcodeFormatError || !m.RecursionDesired {
		t.Errorf("a query that breaks off gets %v, %v", m, err)
	}
}

func TestPanicAnswersServerFailure(t *testing.T) {
	r := New(world(), Config{Dial: func(context.Context, string, string, netip.AddrPort) (net.Conn, error) { panic("broken") }})
	if m := ask(t, r, "app", "example.com. A", false); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a panic gives %s", dns.RcodeToString[m.Rcode])
	}
	if r.out.total != 0 {
		t.Error("the place of a query that panicked is lost")
	}
}

func TestSwapChangesTheAnswers(t *testing.T) {
	r := New(world(), Config{})
	s := world()
	s.Public.Zones["postern.internal"].Names["edge.postern.internal"][0].Addrs = addrs("198.18.0.99")
	r.Swap(s)
	if got := brief(ask(t, r, "", "edge.postern.internal. A", false)); got != "NOERROR 198.18.0.99" {
		t.Error(got)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, q := range []string{"edge.postern.internal.", "x." + region + ".", "cdn.shop.example.", "."} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeCNAME, dns.TypeSOA, dns.TypeANY, dns.TypeTXT} {
			m := new(dns.Msg)
			m.SetQuestion(q, typ)
			plain, _ := m.Pack()
			f.Add(plain, true)
			m.SetEdns0(1400, true)
			edns, _ := m.Pack()
			f.Add(edns, false)
		}
	}
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, false)
	r := New(world(), Config{Dial: func(context.Context, string, string, netip.AddrPort) (net.Conn, error) {
		return nil, net.ErrClosed
	}})
	f.Fuzz(func(t *testing.T, query []byte, tcp bool) {
		before := string(query)
		for _, network := range []string{"", "app", "gone"} {
			out := r.Answer(context.Background(), network, query, tcp)
			if string(query) != before {
				t.Fatal("the query was changed")
			}
			if out == nil {
				if len(query) >= headerSize && query[2]&0x80 == 0 {
					t.Fatal("a query is left without an answer")
				}
				continue
			}
			m := new(dns.Msg)
			if err := m.Unpack(out); err != nil {
				t.Fatalf("the answer cannot be read: %v", err)
			}
			if m.Id != uint16(query[0])<<8|uint16(query[1]) || !m.Response {
				t.Fatal("the answer belongs to another query")
			}
			if !tcp && len(out) > udpSize {
				t.Fatalf("a datagram of %d bytes", len(out))
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	r := New(world(), Config{})
	q := new(dns.Msg)
	q.SetQuestion("priv000000."+region+".", dns.TypeA)
	query, _ := q.Pack()
	b.ReportAllocs()
	for b.Loop() {
		r.Answer(context.Background(), "app", query, false)
	}
}

func TestSwappingWhileAnswering(t *testing.T) {
	r := New(world(), Config{})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				r.Swap(world())
			}
		}
	}()
	for range 200 {
		if got := brief(ask(t, r, "app", "www.shop.example. A", false)); got != "NOERROR pub0000000."+region+". 10.0.1.20 10.0.2.20" {
			t.Error(got)
		}
	}
	close(stop)
	<-done
}

func TestTypesThatNobodyKnowsHaveNoData(t *testing.T) {
	r := New(world(), Config{})
	for _, typ := range []uint16{dns.TypeHTTPS, dns.TypeCAA, 4711, 0} {
		m := ask(t, r, "", "www.shop.example. A", true, func(m *dns.Msg) { m.Question[0].Qtype = typ })
		if got := brief(m); got != "NOERROR pub0000000."+region+". /SOA" {
			t.Errorf("type %d: %s", typ, got)
		}
	}
}
