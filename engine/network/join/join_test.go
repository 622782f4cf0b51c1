// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/engine/network/stack"
	"postern.dev/postern/engine/network/wg"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	hub4 = netip.MustParseAddr("10.0.0.1")
	hub6 = netip.MustParseAddr("fd00::1")
)

// hub is a forwarding hub with a resolver: what arrives for its own addresses goes
// to its stack, the rest to the peer that has the address.
type hub struct {
	*stack.Stack
	dev *wg.Device
	// filter may drop a packet or answer it; nil lets everything pass.
	filter atomic.Pointer[func(p []byte, i *packet.Info) (pass bool, answer []byte)]
}

func (h *hub) WriteBatch(bufs [][]byte, off int) (int, error) {
	for _, b := range bufs {
		p := b[off:]
		i, err := packet.Parse(p)
		if err != nil {
			continue
		}
		if f := h.filter.Load(); f != nil {
			pass, answer := (*f)(p, &i)
			if answer != nil {
				h.Inject([][]byte{answer}, 0)
			}
			if !pass {
				continue
			}
		}
		if h.Owns(i.Dst.Addr()) {
			h.Deliver([][]byte{p})
		} else {
			h.Inject([][]byte{p}, 0)
		}
	}
	return len(bufs), nil
}

func newHub(tb testing.TB) *hub {
	tb.Helper()
	st, err := stack.New(stack.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	h := &hub{Stack: st}
	k, _ := wg.GenerateKey()
	if h.dev, err = wg.New(wg.Options{PrivateKey: k, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Carrier: h}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.dev.Close() })
	for _, a := range []netip.Addr{hub4, hub6} {
		if err := st.AddAddress(a); err != nil {
			tb.Fatal(err)
		}
	}
	return h
}

// serveDNS answers queries with reply.
func (h *hub) serveDNS(tb testing.TB, reply func(m *dns.Msg, q dns.Question, tcp bool) *dns.Msg) {
	tb.Helper()
	at := netip.AddrPortFrom(hub4, 53)
	u, err := h.ListenUDP(at)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := h.ListenTCP(at)
	if err != nil {
		tb.Fatal(err)
	}
	serve := func(s *dns.Server, tcp bool) {
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			if m = reply(m, q.Question[0], tcp); m != nil {
				_ = w.WriteMsg(m)
			}
		})
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			_ = s.ActivateAndServe()
		}()
		<-started
		tb.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	serve(&dns.Server{PacketConn: u}, false)
	serve(&dns.Server{Listener: l}, true)
}

// zone answers from a few names.
func zone(h *hub, tb testing.TB) {
	h.serveDNS(tb, func(m *dns.Msg, q dns.Question, tcp bool) *dns.Msg {
		rr := func(format string, a ...any) {
			r, err := dns.NewRR(fmt.Sprintf(format, a...))
			if err != nil {
				tb.Error(err)
			}
			m.Answer = append(m.Answer, r)
		}
		v4 := q.Qtype == dns.TypeA
		switch strings.ToLower(q.Name) {
		case "hub.test.":
			if v4 {
				rr("hub.test. 30 A %s", hub4)
			} else {
				rr("hub.test. 60 AAAA %s", hub6)
			}
		case "alias.test.":
			rr("alias.test. 20 CNAME middle.test.")
			rr("middle.test. 20 CNAME hub.test.")
			if v4 {
				rr("hub.test. 30 A %s", hub4)
			} else {
				rr("hub.test. 60 AAAA %s", hub6)
			}
		case "loop.test.":
			rr("loop.test. 20 CNAME loop.test.")
		case "six.test.":
			if !v4 {
				rr("six.test. 60 AAAA %s", hub6)
			}
		case "b.test.":
			if v4 {
				rr("b.test. 1 A 10.0.0.3")
			}
		case "empty.test.":
		case "big.test.":
			if !tcp {
				m.Truncated = true
				return m
			}
			for i := range 200 {
				if v4 {
					rr("big.test. 5 A 10.1.1.%d", i)
				}
			}
		case "broken.test.":
			m.Rcode = dns.RcodeServerFailure
		case "silent.test.":
			return nil
		default:
			m.Rcode = dns.RcodeNameError
		}
		return m
	})
}

func (h *hub) join(tb testing.TB, host byte) *Client {
	tb.Helper()
	k, _ := wg.GenerateKey()
	pub, _ := k.Public()
	a4, a6 := netip.AddrFrom4([4]byte{10, 0, 0, host}), netip.AddrFrom16([16]byte{0: 0xfd, 15: host})
	if err := h.dev.SetPeer(wg.Peer{PublicKey: pub, AllowedIPs: []netip.Prefix{netip.PrefixFrom(a4, 32), netip.PrefixFrom(a6, 128)}}); err != nil {
		tb.Fatal(err)
	}
	// By way of a file, as a user would.
	conf := &quick.Config{
		Interface: quick.Interface{PrivateKey: k, Addresses: []netip.Prefix{netip.PrefixFrom(a4, 24), netip.PrefixFrom(a6, 64)}, DNS: []netip.Addr{hub4}},
		Peers: []quick.Peer{{
			PublicKey: h.dev.PublicKey(), Endpoint: h.dev.Addr().String(),
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("203.0.113.0/24")},
		}},
	}
	conf, err := quick.Parse(conf.Reveal())
	if err != nil {
		tb.Fatal(err)
	}
	c, err := Open(Options{Config: conf, DialTimeout: 500 * time.Millisecond})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		tb.Fatal(err)
	}
	return c
}

func within(tb testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

// echo answers on every connection with what it reads.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func TestTwoHostsTalkThroughTheHub(t *testing.T) {
	h := newHub(t)
	zone(h, t)
	a, b := h.join(t, 2), h.join(t, 3)
	l, err := b.Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	go echo(l)
	u, err := b.ListenUDP(8080)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(buf[:n], from)
		}
	}()
	sent := make([]byte, 2<<20)
	_, _ = rand.Read(sent)
	for _, to := range []string{"10.0.0.3:8080", "[fd00::3]:8080", "b.test:8080"} {
		c, err := a.Dial(within(t, 10*time.Second), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = c.Write(sent)
			_ = c.(*stack.Conn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("tcp %s: %d of %d bytes came back, %v", to, len(got), len(sent), err)
		}
		_ = c.Close()
		p, err := a.Dial(within(t, 10*time.Second), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		_ = p.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = p.Write(sent[:1200])
		buf := make([]byte, 2000)
		if n, err := p.Read(buf); err != nil || !bytes.Equal(buf[:n], sent[:1200]) {
			t.Errorf("udp %s: %d bytes, %v", to, n, err)
		}
		_ = p.Close()
	}
}

func TestNamesResolveWithTheirStory(t *testing.T) {
	h := newHub(t)
	zone(h, t)
	c := h.join(t, 2)
	for _, tt := range []struct {
		name, addrs, chain string
		ttl                time.Duration
	}{
		{"hub.test", "[10.0.0.1 fd00::1]", "[]", 30 * time.Second},
		{"HUB.Test.", "[10.0.0.1 fd00::1]", "[]", 30 * time.Second},
		{"alias.test", "[10.0.0.1 fd00::1]", "[middle.test hub.test]", 20 * time.Second},
		{"six.test", "[fd00::1]", "[]", time.Minute},
	} {
		ans, err := c.Resolve(within(t, 5*time.Second), tt.name)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if fmt.Sprint(ans.Addrs) != tt.addrs || fmt.Sprint(ans.Chain) != tt.chain || ans.TTL != tt.ttl || ans.Server != hub4 {
			t.Errorf("%s = %+v", tt.name, ans)
		}
	}
	if ans, err := c.Resolve(within(t, 5*time.Second), "big.test"); err != nil || len(ans.Addrs) != 200 {
		t.Errorf("truncated answer: %v, %v", ans, err)
	}
	for _, tt := range []struct {
		name, symptom string
		kind          error
	}{
		{"absent.test", "nxdomain", ErrNXDomain},
		{"not a name", "nxdomain", ErrNXDomain},
		{"empty.test", "unreachable", ErrNoData},
		{"broken.test", "error", ErrServer},
		{"loop.test", "error", ErrServer},
		{"silent.test", "timeout", ErrNameTimeout},
	} {
		_, err := c.Resolve(within(t, 300*time.Millisecond), tt.name)
		if !errors.Is(err, tt.kind) || Symptom(err) != tt.symptom {
			t.Errorf("%s: %v is %q, want %v and %q", tt.name, err, Symptom(err), tt.kind, tt.symptom)
		}
		if _, err := c.Dial(within(t, 300*time.Millisecond), "tcp", net.JoinHostPort(tt.name, "80")); Symptom(err) != tt.symptom {
			t.Errorf("dial %s: %v is %q, want %q", tt.name, err, Symptom(err), tt.symptom)
		}
	}
}

// refuse makes the hub answer SYNs to port 81 with RST, UDP to it with ICMP, and
// drop what goes to port 82.
func refuse(h *hub) {
	f := func(p []byte, i *packet.Info) (bool, []byte) {
		switch i.Dst.Port() {
		case 81:
			if i.Proto == packet.TCP {
				return false, packet.AppendReset(nil, p, i)
			}
			return false, packet.AppendUnreachable(nil, p, i, packet.Port, netip.Addr{})
		case 82:
			return false, nil
		case 83:
			why := packet.Host
			if i.V6() {
				why = packet.Network // the stack passes over "address unreachable" of IPv6
			}
			return false, packet.AppendUnreachable(nil, p, i, why, netip.Addr{})
		}
		return true, nil
	}
	h.filter.Store(&f)
}

func TestSymptomsAreToldApart(t *testing.T) {
	h := newHub(t)
	refuse(h)
	c := h.join(t, 2)
	for _, host := range []string{"203.0.113.9", "10.0.0.1", "fd00::1"} {
		for port, want := range map[string]string{"81": "refused", "82": "timeout", "83": "unreachable"} {
			_, err := c.Dial(within(t, 400*time.Millisecond), "tcp", net.JoinHostPort(host, port))
			if got := Symptom(err); got != want {
				t.Errorf("dial %s port %s: %v is %q, want %q", host, port, err, got, want)
			}
		}
	}
	if _, err := c.Dial(within(t, time.Second), "tcp", "203.0.113.9:81"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused dial is %v, want ECONNREFUSED", err)
	}
	u, err := c.Dial(within(t, time.Second), "udp", "203.0.113.9:81")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, _ = u.Write([]byte("x"))
	_ = u.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := u.Read(make([]byte, 1)); Symptom(err) != "refused" {
		t.Errorf("UDP answered by ICMP reads %v", err)
	}
	for _, bad := range []struct{ network, address string }{{"tcp", "no-port"}, {"tcp", "10.0.0.1:0"}, {"ip", "10.0.0.1:1"}, {"tcp6", "10.0.0.1:80"}} {
		if _, err := c.Dial(t.Context(), bad.network, bad.address); err == nil {
			t.Errorf("Dial(%q, %q) succeeded", bad.network, bad.address)
		}
	}
}

func TestProxyCarriesHTTPAndReportsFailures(t *testing.T) {
	h := newHub(t)
	zone(h, t)
	refuse(h)
	c := h.join(t, 2)
	l, err := h.ListenTCP(netip.AddrPortFrom(netip.Addr{}, 80))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello "+r.Host+" from "+r.RemoteAddr)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	p, err := c.Proxy(ProxyOptions{User: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	via := &url.URL{Scheme: "socks5h", Host: p.Addr().String(), User: url.UserPassword("u", "p")}
	tr := &http.Transport{Proxy: http.ProxyURL(via)}
	defer tr.CloseIdleConnections()
	for host, from := range map[string]string{"hub.test": "10.0.0.2:", "six.test": "[fd00::2]:", "10.0.0.1": "10.0.0.2:", "[fd00::1]": "[fd00::2]:"} {
		res, err := (&http.Client{Transport: tr}).Get("http://" + host + "/")
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if !strings.HasPrefix(string(body), "hello "+host+" from "+from) {
			t.Errorf("%s answered %q", host, body)
		}
	}
	bare, err := c.Proxy(ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		request string
		want    byte
	}{
		{"name that does not exist", "\x05\x01\x00\x03\x0babsent.test\x00\x50", replyHost},
		{"RST", "\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x51", replyRefused},
		{"silence", "\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x52", replyTTL},
		{"ICMP host unreachable", "\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x53", replyHost},
		{"BIND", "\x05\x02\x00\x01\x0a\x00\x00\x01\x00\x50", replyCommand},
		{"unknown address type", "\x05\x01\x00\x09", replyAddressType},
		{"IPv6", "\x05\x01\x00\x04\xfd" + strings.Repeat("\x00", 14) + "\x01\x00\x50", replySucceeded},
	} {
		conn, err := net.Dial("tcp", bare.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write([]byte("\x05\x02\x00\x02" + tt.request))
		got := make([]byte, 6)
		if _, err := io.ReadFull(conn, got); err != nil || got[1] != noAuth || got[2] != socksVersion || got[3] != tt.want {
			t.Errorf("%s: proxy answered % x, %v; want reply %d", tt.name, got, err, tt.want)
		}
		_ = conn.Close()
	}
	for _, greeting := range []string{"\x04\x01\x00", "\x05\x01\x00", "\x05\x01\x02\x01\x01u\x01x"} {
		conn, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = conn.Write([]byte(greeting))
		got, _ := io.ReadAll(conn)
		if bytes.HasSuffix(got, []byte{1, 0}) {
			t.Errorf("proxy let %q in: % x", greeting, got)
		}
		_ = conn.Close()
	}
}

// lines takes what is logged.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- string(text)
	return len(text), nil
}

func TestForwardAndOfferMeet(t *testing.T) {
	h := newHub(t)
	zone(h, t)
	a, b := h.join(t, 2), h.join(t, 3)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer web.Close()
	if _, err := b.Offer(8443, web.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	told := make(lines, 8)
	b.log = slog.New(slog.NewTextHandler(told, &slog.HandlerOptions{Level: slog.LevelError}))
	if _, err := b.Offer(8444, "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	f, err := a.Forward("127.0.0.1:0", "b.test:8443")
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Post("http://"+f.Addr().String(), "text/plain", strings.NewReader("there and back"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(body) != "there and back" {
		t.Errorf("body = %q", body)
	}
	// Behind the second offer nothing listens: the port is as a closed one. The
	// Host is told why, once.
	for range 2 {
		c, err := a.Dial(within(t, 5*time.Second), "tcp", "10.0.0.3:8444")
		if err == nil {
			_ = c.Close()
		}
		if Symptom(err) != "refused" {
			t.Errorf("a dead offer dials %v, want refused", err)
		}
	}
	if len(told) != 1 {
		t.Fatalf("%d errors are logged, want one", len(told))
	}
	if line := <-told; !strings.Contains(line, "nothing answers at 127.0.0.1:1") || !strings.Contains(line, "port=8444") {
		t.Error(line)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.Addr().String()); err == nil {
		t.Error("a closed forward listens")
	}
}

// TestOfferIsAsTheLocalPort offers a port behind which a service starts and stops:
// at no time does the offered port look different from it.
func TestOfferIsAsTheLocalPort(t *testing.T) {
	h := newHub(t)
	a, b := h.join(t, 2), h.join(t, 3)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := free.Addr().String()
	_ = free.Close()
	o, err := b.Offer(8080, local)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Offer(8080, local); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is offered is offered again: %v", err)
	}
	if _, err := b.Listen(8080); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is offered is listened on: %v", err)
	}
	dial := func(to string) (net.Conn, string) {
		c, err := a.Dial(within(t, 5*time.Second), "tcp", to)
		return c, Symptom(err)
	}
	for _, to := range []string{"10.0.0.3:8080", "[fd00::3]:8080"} {
		if _, got := dial(to); got != "refused" {
			t.Errorf("%s before the service runs: %q", to, got)
		}
		l, err := net.Listen("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		go echo(l)
		c, got := dial(to)
		if got != "" {
			t.Fatalf("%s while the service runs: %q", to, got)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Write([]byte("ping"))
		back := make([]byte, 4)
		if _, err := io.ReadFull(c, back); err != nil || string(back) != "ping" {
			t.Errorf("%s answers %q, %v", to, back, err)
		}
		_ = c.Close()
		_ = l.Close()
	}
	if _, got := dial("10.0.0.3:8080"); got != "refused" {
		t.Errorf("after the service has ended: %q", got)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	// The port is free again.
	if o, err = b.Offer(8080, local); err != nil {
		t.Fatal(err)
	}
	_ = o.Close()
	if _, got := dial("10.0.0.3:8080"); got != "refused" {
		t.Errorf("after the offer has ended: %q", got)
	}
}

// TestOfferOfASilentAddressIsSilent offers what never answers: its callers wait,
// and the end of the offer does not.
func TestOfferOfASilentAddressIsSilent(t *testing.T) {
	h := newHub(t)
	a, b := h.join(t, 2), h.join(t, 3)
	// A listener whose backlog is full leaves SYNs unanswered.
	silent := fullListener(t)
	o, err := b.Offer(8080, silent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Dial(within(t, time.Second), "tcp", "10.0.0.3:8080"); Symptom(err) != "timeout" {
		t.Errorf("a silent offer dials %v, want a time-out", err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

// fullListener returns the address of a socket that answers no further SYN.
func fullListener(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 8 {
		c, err := net.DialTimeout("tcp", to, 200*time.Millisecond)
		if err != nil {
			return to
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("this system answers every SYN")
	return ""
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	h := newHub(t)
	c := h.join(t, 2)
	c.opts.MaxConns = 1
	l, err := h.ListenTCP(netip.AddrPortFrom(hub4, 80))
	if err != nil {
		t.Fatal(err)
	}
	go echo(l)
	f, err := c.Forward("127.0.0.1:0", "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i := range conns {
		if conns[i], err = net.Dial("tcp", f.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		_, _ = conns[i].Write([]byte("x"))
	}
	one := make([]byte, 1)
	_ = conns[0].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(conns[0], one); err != nil {
		t.Fatal(err)
	}
	_ = conns[1].SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := conns[1].Read(one); Symptom(err) != "timeout" {
		t.Errorf("the second connection was served beside the first: %v", err)
	}
	_ = conns[0].Close()
	_ = conns[1].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(conns[1], one); err != nil {
		t.Errorf("the second connection was not served after the first: %v", err)
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	k, _ := wg.GenerateKey()
	peer, _ := k.Public()
	for name, c := range map[string]*quick.Config{
		"none":        nil,
		"no address":  {Interface: quick.Interface{PrivateKey: k}, Peers: []quick.Peer{{PublicKey: peer}}},
		"no peer":     {Interface: quick.Interface{PrivateKey: k, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}},
		"itself":      {Interface: quick.Interface{PrivateKey: k, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}, Peers: []quick.Peer{{PublicKey: peer}}},
		"no key":      {Interface: quick.Interface{Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}, Peers: []quick.Peer{{PublicKey: peer}}},
		"bad address": {Interface: quick.Interface{PrivateKey: k, Addresses: []netip.Prefix{netip.MustParsePrefix("224.0.0.1/32")}}, Peers: []quick.Peer{{PublicKey: wg.Key{1}}}},
	} {
		if cl, err := Open(Options{Config: c}); err == nil {
			t.Errorf("%s: opened", name)
			_ = cl.Close()
		}
	}
}

func TestReadySaysWhenTheHubIsSilent(t *testing.T) {
	k, _ := wg.GenerateKey()
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	c, err := Open(Options{Config: &quick.Config{
		Interface: quick.Interface{PrivateKey: k, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}},
		Peers:     []quick.Peer{{PublicKey: wg.Key{1}, Endpoint: sink.LocalAddr().String(), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ready(within(t, 100*time.Millisecond)); Symptom(err) != "timeout" || !strings.Contains(err.Error(), sink.LocalAddr().String()) {
		t.Errorf("Ready = %v", err)
	}
	if _, err := c.Resolve(t.Context(), "x.test"); !errors.Is(err, ErrNoResolver) {
		t.Errorf("Resolve without a resolver = %v", err)
	}
}
