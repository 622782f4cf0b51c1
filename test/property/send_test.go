// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"postern.dev/postern/decide/flow"
	decide "postern.dev/postern/decide/request"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// outcome is what really became of a request.
type outcome struct {
	kind   answer.SymptomKind
	status int
	body   string
	addrs  []string // of an answer
	// flow is what the network engine decided about the packets, if it saw them.
	flow *decision
	// request is what the gateway recorded, if it answered.
	request string
	id      string
	// component of a Gateway is what answered.
	component snapshot.Component
	err       error // what the caller saw, as the caller says it
}

// unreachable is what a caller sees that has no address of the family it would
// need. It is none of the contract's symptoms.
const unreachable answer.SymptomKind = "unreachable"

// caller sends requests from one source.
type caller struct {
	l      *lab
	t      *tunnel // nil on the internet
	src    netip.Addr
	linked []netip.Prefix // a site's prefixes
	// gateway dials from its address in network, or from outside if that is "".
	gateway, network string
	near             *tunnel // of a Host there
}

// caller finds or makes the source of a question.
func (l *lab) caller(ctx context.Context, from string) (*caller, error) {
	kind, rest, _ := strings.Cut(from, "/")
	c := &caller{l: l}
	var err error
	switch kind {
	case "host":
		if c.t, err = l.join(ctx, model.Ref{Kind: model.KindHost, Name: rest}); err != nil {
			return nil, err
		}
		c.src = c.t.host.Addresses()[0]
		return c, nil
	case "link":
		name, addr, _ := strings.Cut(rest, "/")
		if c.src, err = netip.ParseAddr(addr); err != nil {
			return nil, fmt.Errorf("from %q: %w", from, err)
		}
		if c.t, err = l.join(ctx, model.Ref{Kind: model.KindLink, Name: name}); err != nil {
			return nil, err
		}
		if link := l.Snapshot().Links[name]; link != nil {
			c.linked = link.Prefixes
		}
		return c, nil
	case "internet":
		c.src, err = netip.ParseAddr(rest)
		return c, err
	case "gateway":
		return l.gatewayCaller(ctx, rest)
	}
	return nil, fmt.Errorf("from %q: no source", from)
}

// gatewayCaller is a Gateway that calls from where it is first of all: its node,
// its outbound integration or its public address. It finds names as the Hosts of
// the Network there do.
func (l *lab) gatewayCaller(ctx context.Context, name string) (*caller, error) {
	s := l.Snapshot()
	g := s.Gateways[name]
	c := &caller{l: l, gateway: name}
	is := g.Interfaces()
	if len(is) == 0 {
		src, _ := flow.Dials(g, nil)
		c.src = src.Addr
		return c, nil
	}
	c.src, c.network = is[0].Addr, is[0].Network.Name
	for _, host := range slices.Sorted(maps.Keys(s.Hosts)) {
		if s.Hosts[host].Network == is[0].Network {
			t, err := l.join(ctx, model.Ref{Kind: model.KindHost, Name: host})
			c.near = t
			return c, err
		}
	}
	return c, nil
}

// send carries out the request of a question.
func (l *lab) send(ctx context.Context, q answer.Question) (*outcome, error) {
	expand := func(s string) string {
		out, e := model.ExpandString(s, l.Resources())
		if e != nil {
			return s
		}
		return out
	}
	u, err := url.Parse(expand(q.URL))
	if err != nil {
		return nil, err
	}
	c, err := l.caller(ctx, expand(q.From))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	addrs, failed := c.resolve(ctx, u.Hostname())
	if failed != nil {
		return failed, nil
	}
	if u.Scheme == "dns" {
		o := &outcome{kind: answer.Answered}
		for _, a := range addrs {
			o.addrs = append(o.addrs, a.String())
		}
		return o, nil
	}
	port, err := portOf(u)
	if err != nil {
		return nil, err
	}
	proto := "tcp"
	if u.Scheme == "udp" {
		proto = "udp"
	}
	if err := l.openPorts(ctx, addrs, proto, port); err != nil {
		return nil, err
	}
	// A caller tries the addresses of its own family in turn, and tells of the
	// first if none will do.
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.Is4() != c.src.Is4() })
	first := &outcome{kind: unreachable}
	for i, a := range addrs {
		conn, o := c.connect(ctx, proto, netip.AddrPortFrom(a, port))
		if conn == nil {
			if i == 0 {
				first = o
			}
			continue
		}
		defer l.hold(conn)
		switch u.Scheme {
		case "http", "https":
			if o.flow != nil && o.flow.beyond() {
				return o, nil // what answers there is not Postern's
			}
			r, err := request(u, q, expand)
			if err != nil {
				return nil, err
			}
			l.exchange(ctx, conn, r, q, o)
		}
		return o, nil
	}
	return first, nil
}

// holds is how many connections stay open while the world changes under them.
const holds = 4

// hold closes the oldest connection that is held instead of this one.
func (l *lab) hold(c net.Conn) {
	l.held = append(l.held, c)
	if len(l.held) > holds {
		_ = l.held[0].Close() // the other side may have closed it
		l.held = l.held[1:]
	}
}

func portOf(u *url.URL) (uint16, error) {
	text := u.Port()
	switch {
	case text != "":
	case u.Scheme == "http":
		text = "80"
	case u.Scheme == "https":
		text = "443"
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err
}

// resolve finds the addresses of a name as the caller does: a Host asks the
// resolver of its Network through its tunnel, a site too, and the internet asks
// for public names.
func (c *caller) resolve(ctx context.Context, name string) ([]netip.Addr, *outcome) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	t := c.t
	if c.network != "" {
		if t = c.near; t == nil {
			return nil, &outcome{kind: unreachable, err: errGone}
		}
	}
	if t != nil && t.host != nil {
		got, err := t.host.Resolve(ctx, name)
		switch {
		case err == nil:
			return got.Addrs, nil
		case errors.Is(err, join.ErrNXDomain), errors.Is(err, join.ErrNoData), errors.Is(err, join.ErrServer):
			// A name that leads in a circle of CNAMEs is none.
			return nil, &outcome{kind: answer.NXDomain, err: err}
		}
		return nil, &outcome{kind: answer.SymptomKind(join.Symptom(err)), err: err}
	}
	var addrs []netip.Addr
	for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(name), typ)
		raw, err := q.Pack()
		if err != nil {
			return nil, &outcome{kind: answer.NXDomain, err: err}
		}
		m := new(dns.Msg)
		if err := m.Unpack(c.l.Resolve(ctx, raw)); err != nil {
			return nil, &outcome{kind: answer.Reset, err: err}
		}
		if m.Rcode != dns.RcodeSuccess {
			return nil, &outcome{kind: answer.NXDomain, err: errors.New(dns.RcodeToString[m.Rcode])}
		}
		for _, rr := range m.Answer {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A.To4()
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok {
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) == 0 {
		return nil, &outcome{kind: answer.NXDomain, err: errors.New("no address")}
	}
	return addrs, nil
}

// openPorts lets the Hosts that have one of the addresses listen: whether they
// do is not Postern's to know, and explain takes it for granted.
func (l *lab) openPorts(ctx context.Context, addrs []netip.Addr, proto string, port uint16) error {
	s := l.Snapshot()
	for name, i := range s.Hosts {
		if !slices.Contains(addrs, i.Addr) {
			continue
		}
		t, err := l.join(ctx, model.Ref{Kind: model.KindHost, Name: name})
		if err != nil {
			return err
		}
		if err := t.accept(proto, port); err != nil {
			return err
		}
	}
	return nil
}

// silence is how long to listen for what no engine will ever see: packets that
// WireGuard itself drops.
const silence = 300 * time.Millisecond

// connect opens a connection. The connection is nil if there is none; then the
// outcome says why.
func (c *caller) connect(ctx context.Context, proto string, to netip.AddrPort) (net.Conn, *outcome) {
	kind := sg.TCP
	if proto == "udp" {
		kind = sg.UDP
	}
	w := c.l.trace.watch(c.src, to.Addr(), kind, to.Port())
	defer c.l.trace.forget(w)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.foreign() {
		ctx, cancel = context.WithTimeout(ctx, silence)
		defer cancel()
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-w.seen:
			if d := c.l.trace.of(w); d.outcome == flow.Drop || d.link != "" && !c.l.Network().LinkUp(d.network, d.link) {
				cancel()
			}
		case <-stop:
		}
	}()
	defer func() { close(stop); <-done }()
	var conn net.Conn
	var err error
	switch {
	case c.t == nil && proto == "udp":
		return nil, &outcome{kind: unreachable, err: errors.New("datagrams are not sent from the internet")}
	case c.gateway != "":
		conn, err = c.l.Network().DialGateway(ctx, c.gateway, c.network, to)
		if u, ok := errors.AsType[*flow.Undelivered](err); ok {
			o := &outcome{kind: answer.Timeout, err: err, flow: c.l.trace.of(w)}
			if u.Verdict.Outcome == flow.Refuse {
				o.kind = answer.Refused
			}
			return nil, o
		}
	case c.t == nil:
		conn, err = c.l.Network().DialInternet(ctx, c.src, to)
	default:
		conn, err = c.t.dial(ctx, proto, c.src, to)
		if err == nil && proto == "udp" {
			err = converse(ctx, conn, to.Port())
			if err != nil {
				_ = conn.Close()
			}
		}
	}
	o := &outcome{kind: answer.Connected, err: err, flow: c.l.trace.of(w)}
	switch {
	case err == nil:
		return conn, o
	case ctx.Err() != nil:
		o.kind = answer.Timeout
	default:
		o.kind = answer.SymptomKind(join.Symptom(err))
	}
	return nil, o
}

// foreign tells whether a site calls from an address that is not its own.
func (c *caller) foreign() bool {
	return c.linked != nil && !slices.ContainsFunc(c.linked, func(p netip.Prefix) bool { return p.Contains(c.src) })
}

// converse sends a datagram and waits for one: a DNS message, which resolvers
// answer and Hosts send back.
func converse(ctx context.Context, conn net.Conn, _ uint16) error {
	q := new(dns.Msg)
	q.SetQuestion("converse.invalid.", dns.TypeA)
	raw, err := q.Pack()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(raw); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 2048))
	return err
}

// request builds the HTTP request of a question.
func request(u *url.URL, q answer.Question, expand func(string) string) (*http.Request, error) {
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequest(method, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	r.URL = u
	for _, h := range q.Headers {
		if strings.EqualFold(h.Name, "host") {
			r.Host = expand(h.Value)
			continue
		}
		r.Header.Add(h.Name, expand(h.Value))
	}
	if r.Header["User-Agent"] == nil {
		r.Header.Set("User-Agent", "") // send none
	}
	return r, nil
}

// exchange sends a request over a connection and notes what comes back.
func (l *lab) exchange(ctx context.Context, conn net.Conn, r *http.Request, q answer.Question, o *outcome) {
	end, _ := ctx.Deadline()
	_ = conn.SetDeadline(end)
	if r.URL.Scheme == "https" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(l.RootPEM())
		pool.AddCert(givenCA().cert) // as the system's roots have a public one
		c := &tls.Config{RootCAs: pool, ServerName: r.URL.Hostname(), InsecureSkipVerify: q.Insecure, NextProtos: []string{"http/1.1"}}
		if q.ClientCertSubject != "" {
			shown := clientCertificate(q.ClientCertSubject)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
		}
		secure := tls.Client(conn, c)
		if o.err = secure.HandshakeContext(ctx); o.err != nil {
			o.kind = answer.TLS
			return
		}
		conn = secure
		if g := o.flow.gateway(); g != nil {
			o.component, _ = decide.Component(g, o.flow.to.Components, r.URL.Hostname())
		}
	}
	// A server that closes says why before it does, so that is read even if the
	// request could not be written.
	unsent := r.Write(conn)
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		o.kind, o.err = answer.Reset, errors.Join(unsent, err)
		if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" {
			o.kind = answer.TLS // in TLS 1.3 the caller's certificate is judged last
			return
		}
		if errors.Is(err, context.DeadlineExceeded) || join.Symptom(err) == "timeout" {
			o.kind = answer.Timeout
		}
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		o.kind, o.err = answer.Reset, err
		return
	}
	o.kind, o.status, o.body = answer.Response, resp.StatusCode, string(body)
	o.id = resp.Header.Get("x-postern-request-id")
	if rec, ok := l.Recent(o.id); ok {
		o.request = rec.Code
	}
}
