// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/internal/nowait"
	"postern.dev/postern/snapshot"
)

// ride serves one end of a TCP connection and returns the other. What it waits for is given up after a minute: by then
// an edge has been lost.
func ride(t *testing.T, ctx context.Context, s *Server) *client {
	t.Helper()
	if !nowait.Supported {
		t.Skip("SKIPPED: this system has no fast path")
	}
	a, b := loopback(t)
	a.SetDeadline(time.Now().Add(time.Minute))
	c := &client{Conn: a, t: t, br: bufio.NewReader(a), done: make(chan error, 1)}
	go func() { c.done <- s.ServeConn(ctx, b, &snapshot.Origin{}) }()
	t.Cleanup(func() { a.Close() })
	return c
}

// numbered is one of several requests that are answered with their number, in all the ways that a body comes.
func numbered(r *rand.Rand, n int) (request, want string) {
	body := strings.Repeat(string(rune('a'+n%26)), r.IntN(40))
	if r.IntN(20) == 0 {
		body = strings.Repeat(body, r.IntN(1000))
	}
	path := fmt.Sprintf("/%d", n)
	switch r.IntN(4) {
	case 0:
		return "POST " + path + " HTTP/1.1\r\n" + hostA + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body, "POST " + path + " " + body
	case 1:
		if body == "" {
			break
		}
		return "POST " + path + " HTTP/1.1\r\n" + hostA + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body), "POST " + path + " " + body
	case 2:
		return "\r\nGET " + path + " HTTP/1.1\r\n" + hostA + "\r\n", "GET " + path + " "
	}
	return "GET " + path + " HTTP/1.1\r\n" + hostA + "\r\n", "GET " + path + " "
}

// Clients that pipeline, wait, and cut their requests anywhere get every answer, in order: no edge is lost.
func TestNoEdgeIsLost(t *testing.T) {
	const clients, each = 8, 2500
	s := &Server{Handler: echo}
	var all sync.WaitGroup
	for k := range clients {
		c := ride(t, context.Background(), s)
		r := rand.New(rand.NewPCG(uint64(k), 1))
		all.Go(func() {
			for n := 0; n < each; {
				c.SetDeadline(time.Now().Add(time.Minute))
				var in strings.Builder
				var want []string
				for range 1 + r.IntN(1+r.IntN(12)) {
					request, answer := numbered(r, n)
					in.WriteString(request)
					want = append(want, answer)
					n++
				}
				sent := make(chan error, 1)
				go func(rest string, cuts *rand.Rand) {
					var err error
					for rest != "" && err == nil {
						cut := len(rest)
						if cuts.IntN(2) == 0 {
							cut = 1 + cuts.IntN(cut)
						}
						_, err = io.WriteString(c.Conn, rest[:cut])
						rest = rest[cut:]
					}
					sent <- err
				}(in.String(), rand.New(rand.NewPCG(uint64(n), uint64(k))))
				for _, w := range want {
					res, err := http.ReadResponse(c.br, nil)
					if err != nil {
						t.Errorf("client %d: no answer to %.40q: %v", k, w, err)
						return
					}
					if got, err := io.ReadAll(res.Body); err != nil || string(got) != w {
						t.Errorf("client %d: got %.40q, %v; want %.40q", k, got, err, w)
						return
					}
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			}
			c.Close()
			if err := <-c.done; err != nil {
				t.Errorf("client %d ended with %v", k, err)
			}
		})
	}
	all.Wait()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnEndThatComesWithTheFirstRequestIsSeen(t *testing.T) {
	s := &Server{Handler: echo}
	for _, in := range []string{
		"GET / HTTP/1.1\r\n" + hostA + "\r\n",
		"POST / HTTP/1.1\r\n" + hostA + "Content-Length: 2\r\n\r\nhi",
		"GET / HTTP/1.1\r\n" + hostA + "\r\nGET / HTTP/1.1\r\n" + hostA + "\r\n",
	} {
		c := ride(t, context.Background(), s)
		io.WriteString(c, in)
		c.Conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c.br)
		if n := strings.Count(string(got), "200 OK"); err != nil || n != strings.Count(in, "HTTP/1.1") {
			t.Errorf("%q: %d answers, %v", in, n, err)
		}
		if err := <-c.done; err != nil {
			t.Error(err)
		}
	}
}

func TestAnEndIsSeenWhileParked(t *testing.T) {
	s := &Server{Handler: echo}
	for name, end := range map[string]func(*client){
		"half-closed": func(c *client) { c.Conn.(*net.TCPConn).CloseWrite() },
		"closed":      func(c *client) { c.Close() },
		"reset":       func(c *client) { c.Conn.(*net.TCPConn).SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c := ride(t, context.Background(), s)
			for range 3 {
				io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"\r\n")
				c.answer("GET")
			}
			end(c)
			if err := <-c.done; name != "reset" && err != nil {
				t.Error(err)
			}
		})
	}
	if n := s.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// A half-close is no farewell: the answer still comes.
func TestAHalfClosedClientIsAnswered(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	c := ride(t, context.Background(), &Server{Handler: func(e *exchange.Exchange) {
		close(asked)
		<-release
		echo(e)
	}})
	io.WriteString(c, "GET /late HTTP/1.1\r\n"+hostA+"\r\n")
	<-asked
	c.Conn.(*net.TCPConn).CloseWrite()
	close(release)
	if _, body := c.answer("GET"); body != "GET /late " {
		t.Errorf("got %q", body)
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestDeadlinesHoldOverTCP(t *testing.T) {
	const short = 60 * time.Millisecond
	long := Timeouts{Head: time.Hour, Body: time.Hour, Idle: time.Hour, Write: time.Hour}
	get := "GET / HTTP/1.1\r\n" + hostA + "\r\n"
	for name, tt := range map[string]struct {
		set    func(*Timeouts)
		before int // requests answered first
		send   string
		status int
	}{
		"silent from the begin": {func(t *Timeouts) { t.Head = short }, 0, "", 0},
		"half a head":           {func(t *Timeouts) { t.Head = short }, 0, get[:20], 408},
		"half a second head":    {func(t *Timeouts) { t.Head = short }, 1, get[:20], 408},
		"idle":                  {func(t *Timeouts) { t.Idle = short }, 1, "", 0},
		"idle later":            {func(t *Timeouts) { t.Idle = short }, 5, "", 0},
		"half a body":           {func(t *Timeouts) { t.Body = short }, 1, "POST / HTTP/1.1\r\n" + hostA + "Content-Length: 9\r\n\r\nabc", 408},
	} {
		t.Run(name, func(t *testing.T) {
			limits := long
			tt.set(&limits)
			c := ride(t, context.Background(), &Server{Handler: echo, Timeouts: limits})
			for range tt.before {
				io.WriteString(c, get)
				if res, err := http.ReadResponse(c.br, nil); err == nil {
					io.Copy(io.Discard, res.Body)
				} else {
					return // so slow a machine that it was idle in between
				}
			}
			start := time.Now()
			io.WriteString(c, tt.send)
			// A machine may be so slow that the time was up before anything came: then there is no answer.
			if res, err := http.ReadResponse(c.br, nil); err == nil {
				if io.Copy(io.Discard, res.Body); res.StatusCode != tt.status {
					t.Errorf("status %d", res.StatusCode)
				}
			}
			io.Copy(io.Discard, c.br)
			c.Close()
			<-c.done
			if took := time.Since(start); tt.before == 0 && tt.send == "" && took < short/2 {
				t.Errorf("closed after %v already", took)
			}
		})
	}
}

func TestAClientThatDoesNotReadIsNotWaitedFor(t *testing.T) {
	c := ride(t, context.Background(), &Server{
		Handler:  func(e *exchange.Exchange) { e.Reply(200, nil, make([]byte, 64<<20)) },
		Timeouts: Timeouts{Write: 50 * time.Millisecond},
	})
	io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"\r\n")
	if err := <-c.done; err == nil {
		t.Error("64 MiB were written to nobody")
	}
}

func TestLargeAnswersArriveWhole(t *testing.T) {
	big := make([]byte, 8<<20)
	for i := range big {
		big[i] = byte(i >> 10)
	}
	c := ride(t, context.Background(), &Server{Handler: func(e *exchange.Exchange) { e.Reply(200, nil, big) }})
	for range 3 {
		io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"\r\n")
		if _, got := c.answer("GET"); got != string(big) {
			t.Errorf("%d bytes came, other than were sent", len(got))
		}
	}
}

// ways are those in which connections are ended from this side.
var ways = map[string]func(s *Server, cancel func()) error{
	"Shutdown":    func(s *Server, _ func()) error { return s.Shutdown(context.Background()) },
	"Close":       func(s *Server, _ func()) error { return s.Close() },
	"its context": func(_ *Server, cancel func()) error { cancel(); return nil },
}

func TestParkedConnectionsEndWithTheServer(t *testing.T) {
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			opened := make(chan struct{}, 3)
			s := &Server{Handler: echo, Opened: func(context.Context, net.Conn, *exchange.Exchange) bool {
				opened <- struct{}{}
				return false
			}}
			fresh, used, half := ride(t, ctx, s), ride(t, ctx, s), ride(t, ctx, s)
			for _, c := range []*client{used, half} {
				io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"\r\n")
				c.answer("GET")
			}
			for range 3 {
				<-opened
			}
			if name != "Shutdown" { // which lets a request that has begun arrive
				io.WriteString(half, "GET /half")
			}
			if err := end(s, cancel); err != nil {
				t.Error(err)
			}
			for _, c := range []*client{fresh, used, half} {
				io.Copy(io.Discard, c.br)
				<-c.done
			}
			if n := s.Connections(); n != 0 {
				t.Errorf("%d are left", n)
			}
		})
	}
}

// A handler may ask the server about itself while that is being closed, and may take its time.
func TestClosingDoesNotWaitForAStepWithTheLockHeld(t *testing.T) {
	for name, end := range ways {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			asked, release := make(chan struct{}), make(chan struct{})
			s := &Server{}
			s.Handler = func(e *exchange.Exchange) {
				close(asked)
				<-release
				e.Reply(200, nil, []byte(fmt.Sprint(s.Connections())))
			}
			busy := ride(t, ctx, s)
			io.WriteString(busy, "GET / HTTP/1.1\r\n"+hostA+"\r\n")
			<-asked
			other := ride(t, ctx, s)
			ended := make(chan error, 1)
			go func() { ended <- end(s, cancel) }()
			<-other.done // while the first is in its handler
			close(release)
			if name == "Shutdown" {
				if _, body := busy.answer("GET"); body != "1" {
					t.Errorf("the request under way got %q", body)
				}
				io.Copy(io.Discard, busy.br)
				busy.Close()
			}
			<-busy.done
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAResetResponseLeavesNoAnswer(t *testing.T) {
	var finished atomic.Bool
	c := ride(t, context.Background(), &Server{Handler: func(e *exchange.Exchange) {
		e.OnDone(func(*exchange.Exchange) { finished.Store(true) })
		e.Reply(403, nil, []byte("nobody reads this"))
		e.Response.Reset = true
	}})
	io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"\r\n")
	if got, err := io.ReadAll(c.br); len(got) > 0 || err == nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-c.done; err != nil || !finished.Load() {
		t.Errorf("ended with %v", err)
	}
}

func TestUpgradesWorkOverTCP(t *testing.T) {
	c := ride(t, context.Background(), &Server{Handler: func(e *exchange.Exchange) {
		e.Response.Status = 101
		e.Response.Header.Add("Upgrade", "echo")
		e.Response.Takeover = func(nc net.Conn) { io.Copy(nc, nc) }
	}})
	io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	res, err := http.ReadResponse(c.br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	io.WriteString(c, "late")
	c.Conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c.br); err != nil || string(got) != "early late" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-c.done; err != nil {
		t.Error(err)
	}
}

func TestKeepAliveRequestsOverTCPDoNotAllocate(t *testing.T) {
	buf := make([]byte, 16<<10)
	body := []byte(strings.Repeat("x", 1024))
	c := ride(t, context.Background(), &Server{Handler: func(e *exchange.Exchange) {
		if e.Request.Length > 0 {
			if _, err := io.ReadFull(e.Request.Body, buf[:e.Request.Length]); err != nil {
				panic(err)
			}
		}
		e.Reply(200, okFields, body)
	}})
	in := make([]byte, 4096)
	post := []byte("POST /prod/pets HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 8000\r\n\r\n" + strings.Repeat("y", 8000))
	for _, request := range [][]byte{getPets, post} {
		ask := func() {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < 1024 || !strings.HasSuffix(string(in[n-4:n]), "xxxx"); {
				m, err := c.Conn.Read(in[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += m
			}
		}
		for range 100 {
			ask()
		}
		if n := testing.AllocsPerRun(1000, ask); n >= 1 {
			t.Errorf("%.20q allocates %v times", request, n)
		}
	}
	c.Close()
	if err := <-c.done; err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// A connection that was handed over is not half-closed when the server ends it: whoever has it must not wait for the
// other half.
func TestATakenConnectionIsClosedWithTheServer(t *testing.T) {
	for name, end := range ways {
		if name == "Shutdown" {
			end = func(s *Server, _ func()) error {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
					return fmt.Errorf("Shutdown: %w", err)
				}
				return nil
			}
		}
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s := &Server{}
			why := make(chan error, 1)
			s.Handler = func(e *exchange.Exchange) {
				e.Response.Status = 101
				e.Response.Header.Add("Upgrade", "echo")
				e.Response.Takeover = func(nc net.Conn) {
					_, err := io.ReadFull(nc, make([]byte, 10))
					why <- err
				}
			}
			c := ride(t, ctx, s)
			io.WriteString(c, "GET / HTTP/1.1\r\n"+hostA+"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			if res, err := http.ReadResponse(c.br, nil); err != nil || res.StatusCode != 101 {
				t.Fatal(res, err)
			}
			if err := end(s, cancel); err != nil {
				t.Error(err)
			}
			if err := <-why; !errors.Is(err, net.ErrClosed) {
				t.Errorf("it ended with %v", err)
			}
			<-c.done
		})
	}
}

// A server of HTTP/2 may still read when it has said that it is done. What it reads is of its own connection, whatever the
// memory of that is used for by then.
func TestAConnectionOfHTTP2OutlivesItsMemory(t *testing.T) {
	kept := make(chan net.Conn, 1)
	s := &Server{
		Handler: func(e *exchange.Exchange) { e.Reply(200, nil, []byte(e.Request.Path)) },
		Prior: func(_ context.Context, nc net.Conn, _ *exchange.Exchange) error {
			kept <- nc
			return nil
		},
	}
	c := ride(t, t.Context(), s)
	const sent = preface + "SM\r\n\r\nand frames"
	if _, err := io.WriteString(c, sent); err != nil {
		t.Fatal(err)
	}
	if err := <-c.done; err != nil {
		t.Fatal(err)
	}
	other := ride(t, t.Context(), s)
	if _, err := io.WriteString(other, "GET /other HTTP/1.1\r\n"+hostA+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(other.br, nil); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	got, err := io.ReadAll(<-kept)
	if string(got) != sent || !errors.Is(err, net.ErrClosed) {
		t.Errorf("it reads %q, %v", got, err)
	}
}
