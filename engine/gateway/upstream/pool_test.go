// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/internal/nowait"
)

var backend = Target{Scheme: "http", Host: "backend.internal", Port: 8080}

// get is an exchange with a GET request that has arrived.
func get(path string) *exchange.Exchange {
	e := &exchange.Exchange{}
	e.Begin(context.Background(), time.Now())
	e.Request.Method, e.Request.Path, e.Request.Proto = "GET", path, exchange.HTTP11
	e.Request.SetAuthority("api.example.com")
	return e
}

func post(body string, length int64) *exchange.Exchange {
	e := get("/")
	e.Request.Method, e.Request.Length, e.Request.Body = "POST", length, strings.NewReader(body)
	return e
}

// read reads the response's body and ends the exchange.
func read(t *testing.T, e *exchange.Exchange) string {
	t.Helper()
	b, err := io.ReadAll(e.Response.Body)
	if err != nil {
		t.Errorf("reading the body: %v", err)
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
	return string(b)
}

// script is a backend that answers each request, on each connection, with the next of its lines.
type script struct {
	tcp     bool // over the kernel's TCP; else over a pipe
	dials   atomic.Int32
	answers [][]string // by connection
	heads   chan string
}

func (s *script) dial(context.Context, Target) (net.Conn, error) {
	n := int(s.dials.Add(1)) - 1
	a, b := net.Pipe()
	if s.tcp {
		var err error
		if a, b, err = loopback(); err != nil {
			return nil, err
		}
	}
	go func() {
		defer b.Close()
		br := bufio.NewReader(b)
		for _, answer := range s.answers[min(n, len(s.answers)-1)] {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			if s.heads != nil {
				s.heads <- fmt.Sprintf("%s %s %s %v %q", req.Method, req.RequestURI, req.Host, req.Header, body)
			}
			if _, err := io.WriteString(b, answer); err != nil {
				return
			}
		}
	}()
	return a, nil
}

func loopback() (near, far net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err == nil {
		far, err = l.Accept()
	}
	return near, far, err
}

// onEachWire runs a test twice: over a pipe, as any connection that is not the kernel's, and over TCP.
func onEachWire(t *testing.T, f func(t *testing.T, tcp bool)) {
	t.Run("pipe", func(t *testing.T) { f(t, false) })
	t.Run("tcp", func(t *testing.T) { f(t, true) })
}

func pool(t *testing.T, c Config) *Pool {
	p := New(c)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if n := p.Open(); n != 0 {
			t.Errorf("%d connections are open after Close", n)
		}
	})
	return p
}

func kind(err error) Kind {
	var f *Failure
	if errors.As(err, &f) {
		return f.Kind
	}
	return ""
}

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestResponsesAreReadByTheirFraming(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		tests := []struct {
			name, answer string
			status       int
			length       int64
			body         string
			pooled       int
		}{
			{"length", ok2, 200, 2, "ok", 1},
			{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, -1, "ok", 1},
			{"until close", "HTTP/1.1 200 OK\r\n\r\nok", 200, -1, "ok", 0},
			{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", 0},
			{"HTTP/1.0 kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", 1},
			{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, 2, "ok", 0},
			{"no reason", "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", 299, 0, "", 1},
			{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, 0, "", 1},
			{"no content, but a length", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 204, 0, "", 0},
			{"not modified", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 304, 0, "", 1},
			{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok2, 200, 2, "ok", 1},
			{"more than announced", ok2 + "HTTP/1.1 200 OK\r\n", 200, 2, "ok", 0},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				s := &script{tcp: tcp, answers: [][]string{{tt.answer}}}
				p := pool(t, Config{Dial: s.dial})
				e := get("/")
				if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
					t.Fatal(err)
				}
				if e.Response.Status != tt.status || e.Response.Length != tt.length {
					t.Errorf("status %d and length %d, want %d and %d", e.Response.Status, e.Response.Length, tt.status, tt.length)
				}
				if e.Response.Header.Has("Link") {
					t.Error("a field of an interim response got into the final one")
				}
				if got := read(t, e); got != tt.body {
					t.Errorf("body %q, want %q", got, tt.body)
				}
				if n := p.Idle(); n != tt.pooled {
					t.Errorf("%d connections pooled, want %d", n, tt.pooled)
				}
			})
		}
	})
}

func TestBrokenResponsesAreProtocolErrors(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
			"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
			"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 20 OK\r\n\r\n",
			"HTTP/1.1 2000 OK\r\n\r\n",
			"HTTP/2.0 200 OK\r\n\r\n",
			"ICY 200 OK\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
			strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20) + ok2,
			"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
		} {
			s := &script{tcp: tcp, answers: [][]string{{answer}}}
			p := pool(t, Config{Dial: s.dial})
			e := get("/")
			err := p.Do(t.Context(), &Call{Target: backend}, e)
			var g *grammar.Error
			if kind(err) != Protocol || !errors.As(err, &g) {
				t.Errorf("%.60q: got %v", answer, err)
			}
			if p.Open() != 0 {
				t.Errorf("%.60q: the connection stays open", answer)
			}
			if e.Response.Header.Len() != 0 || e.Response.Status != 0 {
				t.Errorf("%.60q: something of the response is left", answer)
			}
		}
	})
}

func TestShortBodiesFailAndCloseTheConnection(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
		} {
			s := &script{tcp: tcp, answers: [][]string{{answer}}}
			p := pool(t, Config{Dial: s.dial})
			e := get("/")
			if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(e.Response.Body); kind(err) != Reset {
				t.Errorf("%q: got %v", answer, err)
			}
			if err := e.Finish(); err != nil || p.Open() != 0 {
				t.Errorf("%q: %v, %d open", answer, err, p.Open())
			}
		}
	})
}

func TestRequestIsMadeFromItsParsedForm(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		s := &script{tcp: tcp, answers: [][]string{{ok2, ok2, ok2, ok2}}, heads: make(chan string, 1)}
		p := pool(t, Config{Dial: s.dial})
		e := get("/prod/pets")
		e.Request.RawQuery, e.Request.HasQuery = "a=1", true
		for _, f := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Proxy-Connection"} {
			e.Request.Header.Add(f, "7")
		}
		e.Request.Header.Add("X-Kept", "yes")
		calls := []struct {
			call Call
			e    *exchange.Exchange
			want string
		}{
			{Call{Target: backend}, e, `GET /prod/pets?a=1 backend.internal:8080 map[X-Kept:[yes]] ""`},
			{Call{Target: backend, Method: "DELETE", Path: "/x", Authority: "a.example"}, get("/"), `DELETE /x a.example map[] ""`},
			{Call{Target: backend}, post("body", 4), `POST / backend.internal:8080 map[Content-Length:[4]] "body"`},
			{Call{Target: backend}, post("body", -1), `POST / backend.internal:8080 map[] "body"`},
		}
		for _, c := range calls {
			if err := p.Do(t.Context(), &c.call, c.e); err != nil {
				t.Fatal(err)
			}
			if got := <-s.heads; got != c.want {
				t.Errorf("sent %s\nwant %s", got, c.want)
			}
			read(t, c.e)
		}
		if n := s.dials.Load(); n != 1 {
			t.Errorf("%d connections were opened", n)
		}
	})
}

func TestUnsendableRequestIsNotSent(t *testing.T) {
	s := &script{answers: [][]string{{ok2}}}
	p := pool(t, Config{Dial: s.dial})
	for _, spoil := range []func(*exchange.Exchange, *Call){
		func(e *exchange.Exchange, _ *Call) { e.Request.Header.Add("X", "a\r\nEvil: 1") },
		func(e *exchange.Exchange, _ *Call) { e.Request.Header.Add("X\r\nEvil", "1") },
		func(e *exchange.Exchange, _ *Call) { e.Request.Header.Add("X", "a\x00b") },
		func(_ *exchange.Exchange, c *Call) { c.Path = "/a b" },
		func(_ *exchange.Exchange, c *Call) { c.Path = "a" },
		func(_ *exchange.Exchange, c *Call) { c.Method = "GE T" },
		func(_ *exchange.Exchange, c *Call) { c.Authority = "a.example\r\nX: 1" },
	} {
		e, c := get("/"), &Call{Target: backend}
		spoil(e, c)
		if err := p.Do(t.Context(), c, e); kind(err) != Request {
			t.Errorf("got %v", err)
		}
	}
}

func TestStaleConnectionIsRetriedOnceForIdempotentRequests(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		// The first connection answers once and ends; the second serves on.
		s := &script{tcp: tcp, answers: [][]string{{ok2}, {ok2, ok2}}}
		p := pool(t, Config{Dial: s.dial})
		for range 2 {
			e := get("/")
			if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
				t.Fatal(err)
			}
			read(t, e)
		}
		if n := s.dials.Load(); n != 2 {
			t.Errorf("%d dials, want 2", n)
		}

		s = &script{tcp: tcp, answers: [][]string{{ok2}, {}}}
		p = pool(t, Config{Dial: s.dial})
		e := get("/")
		if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
			t.Fatal(err)
		}
		read(t, e)
		if err := p.Do(t.Context(), &Call{Target: backend}, get("/")); kind(err) != Reset {
			t.Errorf("a second failure must stand: %v", err)
		}
		if n := s.dials.Load(); n != 2 {
			t.Errorf("%d dials, want 2", n)
		}
	})
}

func TestPostIsNotRetried(t *testing.T) {
	s := &script{answers: [][]string{{ok2}, {ok2}}}
	p := pool(t, Config{Dial: s.dial})
	e := get("/")
	if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	read(t, e)
	if err := p.Do(t.Context(), &Call{Target: backend}, post("x", 1)); kind(err) != Reset {
		t.Errorf("got %v", err)
	}
	if n := s.dials.Load(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}

func TestClosedSocketIsNoticedBeforeAPost(t *testing.T) {
	if !nowait.Supported {
		t.Skip("SKIPPED: no peeking on this platform")
	}
	closed := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	var conns atomic.Int32
	srv.Config.ConnState = func(c net.Conn, st http.ConnState) {
		switch {
		case st == http.StateNew:
			conns.Add(1)
		case st == http.StateIdle && conns.Load() == 1:
			c.Close()
			close(closed)
		}
	}
	srv.Start()
	defer srv.Close()
	p := pool(t, Config{Dial: dialer(srv)})
	for i := range 2 {
		e := post("hello", 5)
		if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if got := read(t, e); got != "hello" {
			t.Errorf("got %q", got)
		}
		<-closed
	}
}

func dialer(srv *httptest.Server) func(context.Context, Target) (net.Conn, error) {
	return func(ctx context.Context, _ Target) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}
}

func TestFailuresAreTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	tests := []struct {
		name string
		dial func(context.Context, Target) (net.Conn, error)
		want Kind
	}{
		{"refused by the kernel", func(ctx context.Context, _ Target) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		}, Refused},
		{"refused elsewhere", func(context.Context, Target) (net.Conn, error) { return nil, fmt.Errorf("stack: %w", ErrRefused) }, Refused},
		{"no such name", func(context.Context, Target) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Name: "x", IsNotFound: true}}
		}, DNS},
		{"no route", func(context.Context, Target) (net.Conn, error) { return nil, fmt.Errorf("zone: %w", ErrUnreachable) }, Unreachable},
		{"something else", func(context.Context, Target) (net.Conn, error) { return nil, errors.New("x") }, Unreachable},
		{"given up", func(context.Context, Target) (net.Conn, error) { return nil, context.Canceled }, Canceled},
	}
	for _, tt := range tests {
		p := pool(t, Config{Dial: tt.dial})
		if err := p.Do(t.Context(), &Call{Target: backend}, get("/")); kind(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestTimeoutsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []net.Conn
		dial := func(context.Context, Target) (net.Conn, error) {
			a, b := net.Pipe()
			ends = append(ends, b)
			go io.Copy(io.Discard, b)
			return a, nil
		}
		p := New(Config{Dial: dial})
		start := time.Now()
		err := p.Do(t.Context(), &Call{Target: backend}, get("/"))
		if kind(err) != Timeout || time.Since(start) != 29*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		start = time.Now()
		err = p.Do(t.Context(), &Call{Target: backend, Timeout: 50 * time.Millisecond}, get("/"))
		if kind(err) != Timeout || time.Since(start) != 50*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		slow := New(Config{Dial: func(ctx context.Context, _ Target) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		start = time.Now()
		err = slow.Do(t.Context(), &Call{Target: backend}, get("/"))
		var f *Failure
		if !errors.As(err, &f) || f.Kind != Timeout || f.Phase != Connecting || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		slow.Close()
		p.Close()
		for _, c := range ends {
			c.Close()
		}
		synctest.Wait()
	})
}

func TestTimeoutIsExactOnAConnectionUsedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		go func() { // answers twice, then only listens
			br := bufio.NewReader(b)
			for range 2 {
				if _, err := http.ReadRequest(br); err == nil {
					io.WriteString(b, ok2)
				}
			}
			io.Copy(io.Discard, br)
		}()
		dials := 0
		p := New(Config{Dial: func(context.Context, Target) (net.Conn, error) { dials++; return a, nil }})
		for range 2 {
			e := get("/")
			if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
				t.Fatal(err)
			}
			read(t, e)
			<-time.After(3 * time.Second)
		}
		start := time.Now()
		err := p.Do(t.Context(), &Call{Target: backend}, get("/"))
		if took := time.Since(start); kind(err) != Timeout || took != 29*time.Second || dials != 1 {
			t.Errorf("%v after %v and %d dials", err, took, dials)
		}
		p.Close()
		b.Close()
		synctest.Wait()
	})
}

func TestIdleConnectionsAreBoundedAndReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: [][]string{{ok2, ok2}}}
		p := New(Config{Dial: s.dial, MaxIdlePerTarget: 2, MaxIdle: 3})
		targets := []Target{backend, backend, backend, {Scheme: "http", Host: "b", Port: 80}, {Scheme: "http", Host: "c", Port: 80}}
		var es []*exchange.Exchange
		for _, tg := range targets {
			e := get("/")
			if err := p.Do(t.Context(), &Call{Target: tg}, e); err != nil {
				t.Fatal(err)
			}
			es = append(es, e)
		}
		for _, e := range es {
			read(t, e)
		}
		if p.Idle() != 3 || p.Open() != 3 {
			t.Errorf("%d idle, %d open; want 3", p.Idle(), p.Open())
		}
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if p.Idle() != 0 || p.Open() != 0 {
			t.Errorf("%d idle, %d open after their time", p.Idle(), p.Open())
		}
		if n := len(*p.buckets.Load()); n != 0 {
			t.Errorf("%d targets are remembered", n)
		}
		p.Close()
		synctest.Wait()
	})
}

func TestReviewClosesTheConnectionsThatNoLongerStand(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		s := &script{tcp: tcp, answers: [][]string{{ok2, ok2}, {ok2, ok2}, {ok2, ok2}}}
		p := pool(t, Config{Dial: s.dial})
		mine, theirs := backend, backend
		mine.From, theirs.From = "a", "b"
		busy := get("/")
		if err := p.Do(t.Context(), &Call{Target: mine}, busy); err != nil {
			t.Fatal(err)
		}
		for _, tg := range []Target{mine, theirs} {
			e := get("/")
			if err := p.Do(t.Context(), &Call{Target: tg}, e); err != nil {
				t.Fatal(err)
			}
			read(t, e)
		}
		if p.Idle() != 2 || p.Open() != 3 {
			t.Fatalf("%d idle, %d open: a connection of one caller was used for another", p.Idle(), p.Open())
		}
		p.Review(func(t Target, c net.Conn) bool { return t == mine && c != nil })
		if p.Idle() != 1 || p.Open() != 2 {
			t.Errorf("%d idle, %d open; want 1 and 2", p.Idle(), p.Open())
		}
		if got := read(t, busy); got != "ok" {
			t.Errorf("the call under way got %q", got)
		}
		if p.Idle() != 1 || p.Open() != 1 {
			t.Errorf("%d idle, %d open; want 1 and 1", p.Idle(), p.Open())
		}
	})
}

func TestAReviewDuringADialCounts(t *testing.T) {
	s := &script{answers: [][]string{{ok2}}}
	var p *Pool
	p = pool(t, Config{Dial: func(ctx context.Context, tg Target) (net.Conn, error) {
		p.Review(func(Target, net.Conn) bool { return false })
		return s.dial(ctx, tg)
	}})
	e := get("/")
	if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	if got := read(t, e); got != "ok" || p.Idle() != 0 {
		t.Errorf("%q, %d idle: it was judged by what was before", got, p.Idle())
	}
}

func TestCloseWhereDropsPooledAndRetiresBusyConnections(t *testing.T) {
	onEachWire(t, func(t *testing.T, tcp bool) {
		s := &script{tcp: tcp, answers: [][]string{{ok2, ok2}}}
		p := pool(t, Config{Dial: s.dial})
		other := Target{Scheme: "http", Host: "other", Port: 80}
		busy := get("/")
		for _, tg := range []Target{backend, other} {
			e := get("/")
			if err := p.Do(t.Context(), &Call{Target: tg}, e); err != nil {
				t.Fatal(err)
			}
			if tg == backend {
				if err := p.Do(t.Context(), &Call{Target: tg}, busy); err != nil {
					t.Fatal(err)
				}
			}
			read(t, e)
		}
		p.CloseWhere(func(t Target) bool { return t == backend })
		if p.Idle() != 1 || p.Open() != 2 {
			t.Errorf("%d idle, %d open; want 1 and 2", p.Idle(), p.Open())
		}
		if got := read(t, busy); got != "ok" {
			t.Errorf("the call under way got %q", got)
		}
		if p.Idle() != 1 || p.Open() != 1 {
			t.Errorf("%d idle, %d open; want 1 and 1", p.Idle(), p.Open())
		}
	})
}

func TestTLSVerifiesTheTargetsName(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	p := pool(t, Config{Dial: dialer(srv), TLS: func(Target) *tls.Config { return &tls.Config{RootCAs: roots} }})
	e := get("/")
	if err := p.Do(t.Context(), &Call{Target: Target{Scheme: "https", Host: "example.com", Port: 443}}, e); err != nil {
		t.Fatal(err)
	}
	if got := read(t, e); got != "example.com" {
		t.Errorf("Host %q", got)
	}
	if p.Idle() != 1 {
		t.Error("the connection was not pooled")
	}
	e = get("/again")
	if err := p.Do(t.Context(), &Call{Target: Target{Scheme: "https", Host: "example.com", Port: 443}}, e); err != nil {
		t.Fatal(err)
	}
	read(t, e)
	err := p.Do(t.Context(), &Call{Target: Target{Scheme: "https", Host: "wrong.test", Port: 443}}, get("/"))
	if kind(err) != TLS {
		t.Errorf("wrong name: %v", err)
	}
	untrusting := pool(t, Config{Dial: dialer(srv)})
	if err := untrusting.Do(t.Context(), &Call{Target: Target{Scheme: "https", Host: "example.com", Port: 443}}, get("/")); kind(err) != TLS {
		t.Errorf("unknown authority: %v", err)
	}
	clear := httptest.NewServer(http.NotFoundHandler())
	defer clear.Close()
	p = pool(t, Config{Dial: dialer(clear)})
	if err := p.Do(t.Context(), &Call{Target: Target{Scheme: "https", Host: "example.com", Port: 443}}, get("/")); kind(err) != TLS {
		t.Errorf("no TLS there: %v", err)
	}
}

func TestCallsOnAClosedPoolAreRefused(t *testing.T) {
	s := &script{answers: [][]string{{ok2}}}
	p := pool(t, Config{Dial: s.dial})
	p.Close()
	if err := p.Do(t.Context(), &Call{Target: backend}, get("/")); !errors.Is(err, ErrClosed) || kind(err) != Canceled {
		t.Errorf("got %v", err)
	}
}
