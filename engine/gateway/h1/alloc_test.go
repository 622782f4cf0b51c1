// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/snapshot"
)

// turn is a connection on which the test and the server take turns: a request goes in whole, and the first write that
// follows is the response.
type turn struct {
	net.Conn // nil: only the methods below are used
	in       chan []byte
	out      chan struct{}
	last     []byte
}

func newTurn() *turn { return &turn{in: make(chan []byte), out: make(chan struct{})} }

func (t *turn) Read(p []byte) (int, error) {
	b, ok := <-t.in
	if !ok {
		return 0, io.EOF
	}
	return copy(p, b), nil
}

func (t *turn) Write(p []byte) (int, error) {
	t.last = append(t.last[:0], p...)
	t.out <- struct{}{}
	return len(p), nil
}

func (t *turn) Close() error                     { return nil }
func (t *turn) SetDeadline(time.Time) error      { return nil }
func (t *turn) SetReadDeadline(time.Time) error  { return nil }
func (t *turn) SetWriteDeadline(time.Time) error { return nil }

func (t *turn) ask(request []byte) []byte {
	t.in <- request
	<-t.out
	return t.last
}

var getPets = []byte("GET /prod/pets?type=dog HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nX-Api-Key: 0123456789abcdef0123456789abcdef\r\n\r\n")

var okFields = []exchange.Field{{Name: "Content-Type", Value: "application/json"}}

// serveTurn serves one connection until the returned function is called.
func serveTurn(tb testing.TB, h func(*exchange.Exchange)) (t *turn, end func()) {
	s := &Server{Handler: h}
	t = newTurn()
	done := make(chan error)
	go func() { done <- s.ServeConn(context.Background(), t, &snapshot.Origin{}) }()
	return t, func() {
		close(t.in)
		if err := <-done; err != nil {
			tb.Error(err)
		}
	}
}

func TestKeepAliveGetDoesNotAllocate(t *testing.T) {
	body := []byte(strings.Repeat("x", 1024))
	logged := 0
	log := func(e *exchange.Exchange) { logged += int(e.Sent) }
	c, end := serveTurn(t, func(e *exchange.Exchange) {
		e.OnDone(log)
		if e.Request.Host == "" || e.Request.Header.Get("x-api-key") == "" || len(e.ID()) != 36 {
			panic("the request is not whole")
		}
		e.Reply(200, okFields, body)
	})
	for range 100 {
		if got := c.ask(getPets); !strings.HasSuffix(string(got), string(body)) {
			t.Fatalf("got %q", got)
		}
	}
	if n := testing.AllocsPerRun(2000, func() { c.ask(getPets) }); n != 0 {
		t.Errorf("a keep-alive GET allocates %v times", n)
	}
	end()
	if logged == 0 {
		t.Error("nothing was accounted for")
	}
}

func TestKeepAlivePostDoesNotAllocate(t *testing.T) {
	req := []byte("POST /prod/pets HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 11\r\n\r\nhello world")
	chunked := []byte("POST /prod/pets HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")
	buf := make([]byte, 64)
	c, end := serveTurn(t, func(e *exchange.Exchange) {
		n, err := io.ReadFull(e.Request.Body, buf[:11])
		if err != nil || n != 11 {
			panic(err)
		}
		e.Reply(200, okFields, buf[:n])
	})
	defer end()
	for _, r := range [][]byte{req, chunked} {
		c.ask(r)
		if n := testing.AllocsPerRun(2000, func() { c.ask(r) }); n != 0 {
			t.Errorf("%q allocates %v times", r[:20], n)
		}
	}
}

func BenchmarkKeepAliveGet(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	c, end := serveTurn(b, func(e *exchange.Exchange) { e.Reply(200, okFields, body) })
	defer end()
	b.ReportAllocs()
	for b.Loop() {
		c.ask(getPets)
	}
}
