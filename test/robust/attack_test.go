// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const garbage = 64 << 20 // between two collections

func begin(path string) string { return "POST /turns" + path + " HTTP/1.1\r\nHost: " + host + "\r\n" }

// TestSlowHeads: that heads are waited for only so long stands in engine/gateway/h1.
func TestSlowHeadsCostLittleAndHinderNobody(t *testing.T) {
	s := besiege(t, nil)
	const n, withTLS = 400, 100
	var cs []net.Conn
	for range n {
		cs = append(cs, s.attack(s.g.clear))
	}
	cfg := &tls.Config{RootCAs: s.g.roots, ServerName: host, NextProtos: []string{"http/1.1"}}
	for range withTLS {
		c, err := secured(t.Context(), s.g.secure, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.keep(c)
		cs = append(cs, c)
	}
	for _, piece := range []string{"GET /turns/echo HTTP/1.1\r\nHost: " + host, "\r\nX-Slow: 1\r", "\nX-More"} {
		for _, c := range cs {
			s.send(c, piece)
		}
	}
	s.holds(each(n+withTLS, 80<<10, 2, 2), garbage)
	s.ends()
}

func TestSlowBodiesCostLittleAndHinderNobody(t *testing.T) {
	s := besiege(t, nil)
	const n = 200
	for i := range n {
		c := s.attack(s.g.clear)
		if i%2 == 0 {
			s.send(c, begin("/echo")+"Content-Length: 1000000\r\n\r\n"+strings.Repeat("x", 20<<10))
		} else {
			s.send(c, begin("/echo")+"Transfer-Encoding: chunked\r\n\r\n400\r\n"+strings.Repeat("x", 1<<10)+"\r\n3e8")
		}
	}
	const conns, streams = 4, 25
	for range conns {
		c, err := s.g.call(t.Context(), "HTTP/2")
		if err != nil {
			t.Fatal(err)
		}
		s.keep(c)
		for range streams {
			in, out := io.Pipe()
			s.keep(out)
			s.wait.Go(func() {
				r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "https://"+host+"/turns/echo", in)
				if err == nil {
					_, _, err = c.Do(r)
				}
				if err == nil {
					t.Error("half a body was answered")
				}
			})
			if _, err := out.Write(make([]byte, 10<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.holds(each(n+conns*streams, 200<<10, 12, 4), garbage)
	s.ends()
}

// endless answers for ever.
func endless(w http.ResponseWriter, r *http.Request) {
	b := make([]byte, 32<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

func TestSlowReadersOfEndlessAnswersCostLittleAndHinderNobody(t *testing.T) {
	s := besiege(t, endless)
	const n = 100
	for range n {
		s.send(s.attack(s.g.clear), begin("/odd/endless")+"Content-Length: 0\r\n\r\n")
	}
	const conns, streams = 4, 25
	for range conns {
		f := s.frames()
		f.settings(setting0)
		for i := range streams {
			f.request(uint32(2*i+1), "/turns/odd/endless", true)
		}
	}
	s.holds(each(n+conns*streams, 512<<10, 12, 4), garbage)
	s.ends()
}

func TestFloodsOfFieldsAreRefused(t *testing.T) {
	s := besiege(t, nil)
	line := "X-Field-" + strings.Repeat("n", 50) + ": " + strings.Repeat("v", 900) + "\r\n"
	// No longer than what the gateway reads on after its answer, or the answer could be
	// lost on the way.
	for _, flood := range []string{strings.Repeat(line, 200), strings.Repeat("X: 1\r\n", 30000), "X: " + strings.Repeat("v", 200<<10)} {
		for range 100 {
			c := s.attack(s.g.clear)
			s.wait.Go(func() { _, _ = io.WriteString(c, begin("/echo")+flood) }) // it is cut off
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !res.Close {
				t.Errorf("status %d, close %v", res.StatusCode, res.Close)
			}
			_ = res.Body.Close()
		}
		s.holds(each(100, 64<<10, 3, 2), garbage)
		s.ends()
	}
}

func TestPipelinesAreNotCarriedAheadOfTheirReader(t *testing.T) {
	const n = 50
	var carried atomic.Int64
	some := make(chan struct{})
	large := make([]byte, 64<<10)
	s := besiege(t, func(w http.ResponseWriter, _ *http.Request) {
		if carried.Add(1) == n {
			close(some)
		}
		_, _ = w.Write(large)
	})
	many := strings.Repeat(begin("/odd/large")+"Content-Length: 5\r\n\r\nhello", 1000)
	for range n {
		c := s.attack(s.g.clear)
		s.wait.Go(func() {
			for {
				if _, err := io.WriteString(c, many); err != nil {
					return // it was closed
				}
			}
		})
	}
	<-some
	s.holds(each(n, 256<<10, 4, 4), garbage)
	// What the sockets hold is carried: a few MiB.
	if got := carried.Load(); got > n*1000 {
		t.Errorf("%d requests were carried for %d connections that read nothing", got, n)
	}
	s.ends()
}

func TestChunkExtensionsAreBounded(t *testing.T) {
	s := besiege(t, nil)
	const n = 100
	for i := range n {
		flood := "5;" + strings.Repeat("x", 200<<10)
		if i%2 == 0 {
			flood = strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", 900)
		}
		c := s.attack(s.g.clear)
		s.wait.Go(func() { _, _ = io.WriteString(c, begin("/echo")+"Transfer-Encoding: chunked\r\n\r\n"+flood) })
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusBadRequest || !res.Close {
			t.Errorf("status %d, close %v", res.StatusCode, res.Close)
		}
		_ = res.Body.Close()
	}
	s.holds(each(n, 64<<10, 3, 2), garbage)
	s.ends()
}

func TestUpgradesThatAreLeftHangingCostLittle(t *testing.T) {
	hijacked := func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(io.Discard, c) // until it ends
	}
	s := besiege(t, hijacked)
	const n = 100
	for range n {
		c := s.attack(s.g.clear)
		s.send(c, "GET /turns/odd/socket HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", res.StatusCode)
		}
	}
	s.holds(each(n, 200<<10, 8, 4), garbage)
	s.ends()
}

// TestNothingIsUnpacked: a bomb stays as small as it was sent, both ways.
func TestNothingIsUnpacked(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 200 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	s := besiege(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxEcho))
		// An integration that maps sends no fields but those that it is told of.
		proxied := r.URL.Path == "/odd/bomb"
		if err != nil || !bytes.Equal(b, bomb.Bytes()) || proxied && r.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("the backend got %d bytes, %s: %v", len(b), r.Header.Get("Content-Encoding"), err)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	for _, protocol := range protocols {
		c, err := s.g.call(t.Context(), protocol)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/turns/odd/bomb", "/turns/mapped"} {
			var was, is runtime.MemStats
			runtime.ReadMemStats(&was)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme(protocol)+"://"+host+path, bytes.NewReader(bomb.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Encoding", "gzip")
			r.Header.Set("Content-Type", "application/json")
			res, b, err := c.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", protocol, err)
			}
			runtime.ReadMemStats(&is)
			if res.StatusCode != http.StatusOK || path == "/turns/odd/bomb" && !bytes.Equal(b, bomb.Bytes()) {
				t.Errorf("%s %s: status %d, %d bytes of %d", protocol, path, res.StatusCode, len(b), bomb.Len())
			}
			if n := is.TotalAlloc - was.TotalAlloc; n > 50<<20 {
				t.Errorf("%s %s: %d bytes were allocated for a bomb of %d that unpacks to 200 MiB", protocol, path, n, bomb.Len())
			}
		}
		_ = c.Close() // it has served
	}
	s.ends()
}

// TestBodiesThatAreHeldInMemoryAreBounded: an integration that maps holds bodies as
// a whole, for as long as a client takes over them.
func TestBodiesThatAreHeldInMemoryAreBounded(t *testing.T) {
	s := besiege(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	const n = 40
	upload := []byte(begin("/mapped") + "Content-Type: application/json\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 9<<20))
	var sent sync.WaitGroup
	for range n {
		c := s.attack(s.g.clear)
		sent.Go(func() {
			// Whom the gateway does not hear out it cuts off.
			_, _ = c.Write(upload)
		})
	}
	sent.Wait()
	// From another address the same is served.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.DialContext(t.Context(), "tcp", s.g.clear)
	if err != nil {
		t.Fatal(err)
	}
	s.keep(c)
	s.send(c, begin("/mapped")+"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, b, err := read(res); res.StatusCode != http.StatusOK || string(b) != "{}" || err != nil {
		t.Errorf("another address: %d %q, %v", res.StatusCode, b, err)
	}
	s.holds(usage{memory: 160 << 20, goroutines: 30 + 4*n, files: 30 + 4*n}, 4*garbage)
	s.ends()
	// What was held has been given back.
	again := s.attack(s.g.clear)
	s.send(again, begin("/mapped")+"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	if res, err = http.ReadResponse(bufio.NewReader(again), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %+v, %v", res, err)
	}
}

// TestBackendsThatNeverEnd answer with something that has no end.
func TestBackendsThatNeverEndAreCutOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bs := newBackends(t, nil)
	c := newCompiler(t, bs)
	s := besiegeAt(t, bs, c)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer l.Close()
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			wait.Go(func() { neverEnds(c) }) // until it is cut off
		}
	})
	for _, x := range []struct {
		path   string
		status int
	}{
		{"/odd/fields", 504},
		{"/odd/line", 504},
		{"/odd/interim", 504},
		{"/mapped", 500}, // it has to be held in memory, which is bounded
	} {
		bs.at[0], c.to[0] = addrPort(l.Addr()), addrPort(l.Addr())
		snap, err := c.generation(0)
		if err != nil {
			t.Fatal(err)
		}
		s.g.Swap(snap)
		for range 20 {
			a := s.attack(s.g.clear)
			s.send(a, begin(x.path)+"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			in := bufio.NewReader(a)
			res, err := http.ReadResponse(in, nil)
			for n := 0; err == nil && res.StatusCode < 200 && n < 100; n++ { // some may be passed on
				res, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			if res.StatusCode != x.status || err != nil {
				t.Errorf("%s: %d %s, %v; want %d", x.path, res.StatusCode, b, err, x.status)
			}
		}
		s.lift()
		recovers(t, s.before, usage{memory: 8 << 20, goroutines: 20, files: 20})
	}
}

// neverEnds answers the request on c for ever, as its path asks for.
func neverEnds(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	begin, piece := "HTTP/1.1 200 OK\r\n", "X-Field: value\r\n"
	switch r.URL.Path {
	case "/odd/line":
		begin, piece = begin+"X-Line: ", "value"
	case "/odd/interim":
		begin, piece = "", "HTTP/1.1 103 Early Hints\r\n\r\n"
	case "/odd/endless":
		begin, piece = begin+"Content-Type: application/json\r\n\r\n", "x"
	}
	piece = strings.Repeat(piece, 1000)
	_, err = io.WriteString(c, begin)
	for err == nil {
		_, err = io.WriteString(c, piece)
	}
}

var errFlood = errors.New("the flood was not stopped")
