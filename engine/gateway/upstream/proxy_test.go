// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/snapshot"
)

// gateway serves on a loopback listener and forwards all it gets to one backend.
type gateway struct {
	addr string
	srv  *h1.Server
	pool *Pool
	mu   sync.Mutex
	fail []error
}

func forward(t testing.TB, cfg Config, call Call) *gateway {
	g := &gateway{pool: New(cfg)}
	call.Target = backend
	g.srv = &h1.Server{Handler: func(e *exchange.Exchange) {
		c := call
		c.Upgrade = e.Request.Upgrade != ""
		if err := g.pool.Do(e.Context(), &c, e); err != nil {
			g.mu.Lock()
			g.fail = append(g.fail, err)
			g.mu.Unlock()
			e.Reply(502, nil, nil)
		}
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { g.srv.ServeConn(context.Background(), c, &snapshot.Origin{}) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.srv.Close()
		g.pool.Close()
		wg.Wait()
	})
	return g
}

func (g *gateway) failures() []error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fail
}

func server(t testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// client is net/http's client, without a pool that outlives the test.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestBodiesOfEverySizeAndFramingPassBothWays(t *testing.T) {
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("length") {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			w.Write(b)
			return
		}
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	g := forward(t, Config{Dial: dialer(srv)}, Call{})
	c := client(t)
	for _, size := range []int{0, 1, 100, 3000, 4096, 32 << 10, 64 << 10, 100_000, 3 << 20} {
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for _, path := range []string{"/", "/?length"} {
			for _, chunked := range []bool{false, true} {
				req, err := http.NewRequest("POST", "http://"+g.addr+path, bytes.NewReader(want))
				if err != nil {
					t.Fatal(err)
				}
				if chunked {
					req.ContentLength = -1
				}
				res, err := c.Do(req)
				if err != nil {
					t.Fatalf("%d %s %v: %v (%v)", size, path, chunked, err, g.failures())
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d %s %v: %d bytes came back, %v (%v)", size, path, chunked, len(got), err, g.failures())
				}
			}
		}
	}
}

func TestEarlyAnswerStopsALargeUpload(t *testing.T) {
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(413)
	})
	g := forward(t, Config{Dial: dialer(srv)}, Call{})
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	// Of the announced megabytes only some come: the answer must not wait for the rest.
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9000000\r\n\r\n")
	conn.Write(make([]byte, 200_000))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%v (%v)", err, g.failures())
	}
	res.Body.Close()
	if res.StatusCode != 413 {
		t.Errorf("status %d (%v)", res.StatusCode, g.failures())
	}
}

func TestBrokenUploadDoesNotLookWholeToTheBackend(t *testing.T) {
	for _, sent := range []int{10, 200_000} {
		seen := make(chan error, 1)
		srv := server(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			seen <- err
		})
		g := forward(t, Config{Dial: dialer(srv)}, Call{})
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
		io.WriteString(conn, strconv.FormatInt(int64(sent), 16)+"\r\n"+strings.Repeat("x", sent)+"\r\n")
		conn.(*net.TCPConn).CloseWrite()
		if sent > 100 { // a smaller one may not have been begun
			if err := <-seen; err == nil {
				t.Error("the backend took the body for whole")
			}
		}
		io.Copy(io.Discard, conn)
		conn.Close()
		if f := g.failures(); len(f) != 1 || kind(f[0]) != RequestBody {
			t.Errorf("%d bytes: failures %v", sent, f)
		}
	}
}

func TestEventsPassAsTheyCome(t *testing.T) {
	next := make(chan string)
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for ev := range next {
			io.WriteString(w, ev)
			w.(http.Flusher).Flush()
		}
	})
	g := forward(t, Config{Dial: dialer(srv)}, Call{Timeout: -1})
	res, err := client(t).Get("http://" + g.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	br := bufio.NewReader(res.Body)
	for _, ev := range []string{"data: 1\n", "data: 2\n", "data: 3\n"} {
		next <- ev
		if got, err := br.ReadString('\n'); got != ev || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	close(next)
}

func TestUpgradedConnectionCarriesBytesBothWays(t *testing.T) {
	srv := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" || r.Header.Get("Sec-Key") != "k" {
			w.WriteHeader(400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		io.Copy(c, rw)
	})
	g := forward(t, Config{Dial: dialer(srv)}, Call{})
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\nSec-Key: k\r\n\r\nearly ")
	io.WriteString(conn, "late")
	conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 101 ") || !strings.HasSuffix(string(got), "\r\n\r\nhello early late") {
		t.Errorf("got %q, %v (%v)", got, err, g.failures())
	}
}

func TestBackendThatFailsBeforeItsBodyBecomes502(t *testing.T) {
	s := &script{answers: [][]string{{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"}}}
	g := forward(t, Config{Dial: s.dial}, Call{})
	res, err := client(t).Get("http://" + g.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 502 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestBackendThatFailsWithinItsBodyDoesNotLookWhole(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		s := &script{answers: [][]string{{answer}}}
		g := forward(t, Config{Dial: s.dial}, Call{})
		res, err := client(t).Get("http://" + g.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: read %q, %v", answer, b, err)
		}
		res.Body.Close()
	}
}

func TestTrailersReachAClientThatAcceptsThem(t *testing.T) {
	s := &script{answers: [][]string{{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"}}}
	for te, want := range map[string]string{"": "0\r\n\r\n", "TE: trailers\r\nConnection: TE\r\n": "0\r\nX-Sum: 7\r\n\r\n"} {
		g := forward(t, Config{Dial: s.dial}, Call{})
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.example\r\n"+te+"\r\n")
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.HasSuffix(string(got), "2\r\nok\r\n"+want) {
			t.Errorf("%q: got %q, %v", te, got, err)
		}
	}
}

// canned is a backend connection that answers every write with the same response.
type canned struct {
	net.Conn
	answer  []byte
	pending int
}

func (c *canned) Write(p []byte) (int, error)      { c.pending++; return len(p), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }
func (c *canned) Read(p []byte) (int, error) {
	if c.pending == 0 {
		return 0, io.EOF
	}
	c.pending--
	return copy(p, c.answer), nil
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	p := pool(t, Config{Dial: func(context.Context, Target) (net.Conn, error) { return &canned{answer: answer}, nil }})
	e := &exchange.Exchange{}
	call := &Call{Target: backend}
	buf := make([]byte, 2048)
	ctx := context.Background()
	once := func() {
		e.Begin(ctx, time.Time{})
		e.Request.Method, e.Request.Path, e.Request.Proto = "GET", "/x", exchange.HTTP11
		e.Request.Header.Add("User-Agent", "test")
		if err := p.Do(ctx, call, e); err != nil {
			t.Fatal(err)
		}
		if n, err := e.Response.Body.Read(buf); n != 1024 || err != io.EOF {
			t.Fatal(n, err)
		}
		if err := e.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("a forwarded GET allocates %v times", n)
	}
}

func BenchmarkForwardOverLoopback(b *testing.B) {
	srv := server(b, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1024)) })
	g := forward(b, Config{Dial: dialer(srv)}, Call{})
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	req := []byte("GET /pets HTTP/1.1\r\nHost: a.example\r\n\r\n")
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		conn.Write(req)
		for n := 0; n < 1024; {
			m, err := conn.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
	}
}
