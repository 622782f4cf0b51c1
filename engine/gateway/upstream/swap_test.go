// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/internal/nowait"
)

// peer is a backend over TCP, whose connections the test serves by itself.
type peer struct {
	t     *testing.T
	conns chan net.Conn // the backend's ends
}

func newPeer(t *testing.T) *peer {
	if !nowait.Supported {
		t.Skip("SKIPPED: this system has no fast path")
	}
	return &peer{t, make(chan net.Conn, 100)}
}

func (p *peer) dial(context.Context, Target) (net.Conn, error) {
	near, far, err := loopback()
	if err == nil {
		p.t.Cleanup(func() { far.Close() })
		p.conns <- far
	}
	return near, err
}

// answerOn reads one request on c and sends what is given.
func answerOn(c net.Conn, response string) error {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	_, err = io.WriteString(c, response)
	return err
}

// spoilt waits until something has come to the one pooled connection.
func spoilt(t *testing.T, p *Pool) {
	t.Helper()
	b := p.bucket(backend)
	if len(b.idle) != 1 {
		t.Fatalf("%d connections are pooled", len(b.idle))
	}
	for end := time.Now().Add(time.Minute); b.idle[0].alive() == yes; {
		if time.Now().After(end) {
			t.Fatal("nothing came")
		}
	}
}

// arrived is a body that has come as a whole.
type arrived struct{ *strings.Reader }

func (a arrived) Buffered() int { return a.Len() }

// What a backend sends without being asked, or the end of its side, spoils the connection: it is never an answer to the
// next request, and no request is lost to it, whatever its method.
func TestWhatComesBetweenRequestsIsNoAnswer(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, spoil := range map[string]func(net.Conn){
		"a response nobody asked for": func(c net.Conn) { io.WriteString(c, evil) },
		"one byte":                    func(c net.Conn) { io.WriteString(c, "H") },
		"half-closed":                 func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		"closed":                      func(c net.Conn) { c.Close() },
		"reset":                       func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
	} {
		for _, body := range []string{"", "hello", strings.Repeat("x", 20<<10), strings.Repeat("x", 200<<10)} {
			for _, come := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d bytes, come as a whole: %v", name, len(body), come), func(t *testing.T) {
					b := newPeer(t)
					p := pool(t, Config{Dial: b.dial})
					served, pooled := make(chan error, 2), make(chan struct{})
					go func() {
						c := <-b.conns
						served <- answerOn(c, ok2)
						<-pooled
						spoil(c)
					}()
					e := get("/")
					if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
						t.Fatal(err)
					}
					read(t, e)
					if err := <-served; err != nil {
						t.Fatal(err)
					}
					close(pooled)
					spoilt(t, p)
					got := make(chan string, 1)
					go func() {
						c := <-b.conns
						r, err := http.ReadRequest(bufio.NewReader(c))
						if err == nil {
							var sent []byte
							sent, err = io.ReadAll(r.Body)
							got <- string(sent)
						}
						if err == nil {
							_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
						}
						served <- err
					}()
					e = post(body, int64(len(body)))
					if come {
						e.Request.Body = arrived{strings.NewReader(body)}
					}
					if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
						t.Fatal(err)
					}
					if got := read(t, e); got != "good" {
						t.Errorf("got %q", got)
					}
					if err := <-served; err != nil {
						t.Error(err)
					}
					if sent := <-got; sent != body {
						t.Errorf("the backend got %d bytes of %d", len(sent), len(body))
					}
					if p.Open() != 1 {
						t.Errorf("%d connections are open", p.Open())
					}
				})
			}
		}
	}
}

func TestASilentBackendOverTCPIsNotWaitedFor(t *testing.T) {
	b := newPeer(t)
	p := pool(t, Config{Dial: b.dial})
	go func() { answerOn(<-b.conns, ok2) }()
	e := get("/")
	if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	read(t, e)
	for range 2 { // on the pooled connection, and on a new one
		start := time.Now()
		err := p.Do(t.Context(), &Call{Target: backend, Timeout: 40 * time.Millisecond}, get("/"))
		if kind(err) != Timeout || time.Since(start) < 40*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	}
}

func TestCloseEndsACallThatWaitsOverTCP(t *testing.T) {
	b := newPeer(t)
	p := pool(t, Config{Dial: b.dial})
	called := make(chan error, 1)
	go func() { called <- p.Do(context.Background(), &Call{Target: backend}, get("/")) }()
	c := <-b.conns
	if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-called; kind(err) != Canceled {
		t.Errorf("got %v", err)
	}
}

// A backend may answer in as many pieces as it likes, before it has read anything, or not at all: each answer is that of
// its own request, and none is missed.
func TestAnswersInPiecesOverTCP(t *testing.T) {
	const callers, each = 4, 1500
	b := newPeer(t)
	p := pool(t, Config{Dial: b.dial})
	var backends, all sync.WaitGroup
	stop := make(chan struct{})
	backends.Go(func() {
		for seed := uint64(0); ; seed++ {
			var c net.Conn
			select {
			case <-stop:
				return
			case c = <-b.conns:
			}
			r := rand.New(rand.NewPCG(seed, 2))
			backends.Go(func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, req.Body); err != nil {
						return
					}
					body := req.URL.Path
					out := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
					if r.IntN(3) == 0 {
						out = fmt.Sprintf("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
					}
					for out != "" {
						cut := len(out)
						if r.IntN(2) == 0 {
							cut = 1 + r.IntN(cut)
						}
						if _, err := io.WriteString(c, out[:cut]); err != nil {
							return
						}
						out = out[cut:]
					}
					if r.IntN(50) == 0 {
						return // closed, unannounced
					}
				}
			})
		}
	})
	for k := range callers {
		all.Go(func() {
			for n := range each {
				path := fmt.Sprintf("/%d/%d", k, n)
				e := get(path)
				if n%3 == 0 {
					e = post("hello", 5)
					e.Request.Path = path
				}
				if err := p.Do(context.Background(), &Call{Target: backend}, e); err != nil {
					// A POST may meet a connection just as it is closed, and is not repeated.
					if f := new(Failure); !errors.As(err, &f) || !f.Reused || f.Kind != Reset {
						t.Errorf("%s: %v", path, err)
					}
					_ = e.Finish()
					continue
				}
				got, err := io.ReadAll(e.Response.Body)
				if err != nil || string(got) != path {
					t.Errorf("%s got %q, %v", path, got, err)
				}
				if err := e.Finish(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	backends.Wait()
}

// What has come is passed on before what has not, also where a receive filled its room and there might have been more.
func TestAPauseInALargeAnswerIsNoReasonToHoldItBack(t *testing.T) {
	b := newPeer(t)
	g := forward(t, Config{Dial: b.dial}, Call{})
	const room = 16 << 10
	const rest = 300 << 10
	for _, first := range []int{room - 1, room, room + 1, 2 * room, 200 << 10} {
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", first+rest)
		seen := make(chan struct{})
		go func() {
			c := <-b.conns
			if err := answerOn(c, head+strings.Repeat("a", first-len(head))); err != nil {
				t.Error(err)
			}
			<-seen
			if _, err := io.WriteString(c, strings.Repeat("b", rest+len(head))); err != nil {
				t.Error(err)
			}
		}()
		res, err := client(t).Get("http://" + g.addr)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, first-len(head))
		if _, err := io.ReadFull(res.Body, got); err != nil {
			t.Fatal(err)
		}
		close(seen)
		more, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || strings.Trim(string(got), "a") != "" || strings.Trim(string(more), "b") != "" {
			t.Errorf("%d bytes at first: other ones came, %v", first, err)
		}
	}
}

func TestCallsOverTCPDoNotAllocate(t *testing.T) {
	b := newPeer(t)
	p := pool(t, Config{Dial: b.dial})
	const body = 8000
	served := make(chan struct{})
	go func() {
		defer close(served)
		c := <-b.conns
		in, out := make([]byte, 64<<10), []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
		for n, i := 0, 0; ; i++ {
			for n = 0; n < 4 || string(in[n-4:n]) != "\r\n\r\n" && in[n-1] != 'x'; {
				m, err := c.Read(in[n:])
				if err != nil {
					return
				}
				n += m
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}()
	e, call := get("/"), &Call{Target: backend}
	text, room := bytes.Repeat([]byte("y"), body), make([]byte, 100)
	text[body-1] = 'x' // the end, as the backend knows it
	r := &atHand{}
	for _, length := range []int64{0, body} {
		do := func() {
			e.Begin(context.Background(), time.Now())
			e.Request.Method, e.Request.Path, e.Request.Proto, e.Request.Length = "GET", "/", exchange.HTTP11, length
			if length > 0 {
				r.Reader.Reset(text)
				e.Request.Method, e.Request.Body = "POST", r
			}
			if err := p.Do(context.Background(), call, e); err != nil {
				t.Fatal(err)
			}
			if n, _ := io.ReadFull(e.Response.Body, room[:2]); string(room[:n]) != "ok" {
				t.Fatalf("got %q", room[:n])
			}
			if err := e.Finish(); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			do()
		}
		if n := testing.AllocsPerRun(1000, do); n >= 1 {
			t.Errorf("with %d bytes: %v allocations", length, n)
		}
	}
	p.Close()
	<-served
}

// atHand is a request's body that is at hand.
type atHand struct{ bytes.Reader }

func (w *atHand) Buffered() int { return w.Len() }
