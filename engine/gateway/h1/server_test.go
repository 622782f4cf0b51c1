// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/snapshot"
)

// echo answers with what it was asked.
func echo(e *exchange.Exchange) {
	body, err := io.ReadAll(e.Request.Body)
	if err != nil {
		e.Reply(500, nil, []byte(err.Error()))
		return
	}
	e.Reply(200, nil, []byte(e.Request.Method+" "+e.Request.Path+" "+string(body)))
}

// client is the test's end of a served connection.
type client struct {
	net.Conn
	t    *testing.T
	br   *bufio.Reader
	done chan error
}

// onEachWire runs a test twice: over a pipe, as any connection that is not the kernel's, and over TCP.
func onEachWire(t *testing.T, f func(t *testing.T)) {
	t.Run("pipe", f)
	t.Run(overTCP, f)
}

const overTCP = "tcp"

// ends are the two ends of a connection, of the kind that onEachWire asks for.
func ends(t testing.TB) (near, far net.Conn) {
	if strings.Contains(t.Name()+"/", "/"+overTCP+"/") {
		return loopback(t)
	}
	return net.Pipe()
}

func loopback(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// connect serves one end of a connection and returns the other.
func connect(t *testing.T, s *Server) *client {
	a, b := ends(t)
	c := &client{Conn: a, t: t, br: bufio.NewReader(a), done: make(chan error, 1)}
	go func() { c.done <- s.ServeConn(context.Background(), b, &snapshot.Origin{Network: "test"}) }()
	t.Cleanup(func() { a.Close() })
	return c
}

// send writes without waiting for the server to read; the test that needs the outcome reads it.
func (c *client) send(s string) *client {
	go io.WriteString(c.Conn, s)
	return c
}

// answer reads one response.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("no body: %v", err)
	}
	return res, string(body)
}

// end waits for the server to close, and returns why.
func (c *client) end() error {
	c.t.Helper()
	if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
		c.t.Errorf("before the end came %q, %v", rest, err)
	}
	if h, ok := c.Conn.(halfCloser); ok {
		_ = h.CloseWrite() // the server reads on until then
	}
	return <-c.done
}

const hostA = "Host: a.example\r\n"

func TestRefusedRequestsAreAnsweredAndTheConnectionClosed(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		big := strings.Repeat("x", 11<<10)
		for in, want := range map[string]*grammar.Error{
			"GET / HTTP/1.1\r\n\r\n":                                                                     grammar.ErrHostMissing,
			"GET / HTTP/1.1\r\n" + hostA + "X : y\r\n\r\n":                                               grammar.ErrFieldName,
			"GET / HTTP/3.0\r\n" + hostA + "\r\n":                                                        grammar.ErrVersionUnknown,
			"GET /" + big + " HTTP/1.1\r\n" + hostA + "\r\n":                                             grammar.ErrTargetTooLong,
			"GET / HTTP/1.1\r\n" + hostA + "X: " + big + "\r\n\r\n":                                      grammar.ErrFieldsTooLarge,
			"POST / HTTP/1.1\r\n" + hostA + "Transfer-Encoding: br\r\n\r\n":                              grammar.ErrCodingUnknown,
			"POST / HTTP/1.1\r\n" + hostA + "Transfer-Encoding: chunked\r\n\r\nx\r\n":                    grammar.ErrChunkSize,
			"POST / HTTP/1.1\r\n" + hostA + "Content-Length: 999999999\r\n\r\n":                          grammar.ErrBodyTooLarge,
			"POST / HTTP/1.1\r\n" + hostA + "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n":              grammar.ErrBodyTooLarge,
			"POST / HTTP/1.1\r\n" + hostA + "Expect: more\r\n\r\n":                                       grammar.ErrExpectation,
			"GET https://a.example/ HTTP/1.1\r\n" + hostA + "\r\n":                                       grammar.ErrScheme,
			"CONNECT a.example:1 HTTP/1.1\r\n" + hostA + "\r\n":                                          grammar.ErrConnect,
			"POST / HTTP/1.1\r\n" + hostA + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r": grammar.ErrLengthAndTE,
		} {
			var told *grammar.Error
			handled := false
			s := &Server{
				Handler: func(e *exchange.Exchange) { handled = e.Request.Length == 0; echo(e) },
				Refused: func(e *exchange.Exchange, why *grammar.Error) {
					told = why
					e.Response.Header.Add("X-Code", string(why.Code))
				},
			}
			c := connect(t, s).send(in + "GET /tail HTTP/1.1\r\n" + hostA + "\r\n")
			res, body := c.answer("GET")
			if res.StatusCode != want.Status || !res.Close || res.Header.Get("X-Code") != string(want.Code) || !strings.HasPrefix(body, `{"message":"`) {
				t.Errorf("%.60q: answered %d %q", in, res.StatusCode, body)
			}
			if err := c.end(); !errors.Is(err, want) || told != want {
				t.Errorf("%.60q: ended with %v, told %v", in, err, told)
			}
			if handled {
				t.Errorf("%.60q: it, or its tail, reached the handler", in)
			}
		}
	})
}

func TestRequestsMayBeSplitAnywhere(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		for _, in := range []string{
			"POST /x HTTP/1.1\r\n" + hostA + "Content-Length: 5\r\n\r\nhello",
			"POST /x HTTP/1.1\r\n" + hostA + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n",
		} {
			for i := 1; i < len(in); i++ {
				c := connect(t, &Server{Handler: echo})
				io.WriteString(c, in[:i])
				c.send(in[i:])
				if _, body := c.answer("POST"); body != "POST /x hello" {
					t.Errorf("split at %d: %q", i, body)
				}
				c.Close()
				<-c.done
			}
		}
	})
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		c := connect(t, &Server{Handler: echo})
		c.send("GET /1 HTTP/1.1\r\n" + hostA + "\r\nPOST /2 HTTP/1.1\r\n" + hostA + "Content-Length: 1\r\n\r\nx" +
			"POST /3 HTTP/1.1\r\n" + hostA + "Transfer-Encoding: chunked\r\n\r\n1\r\ny\r\n0\r\n\r\n\r\nGET /4 HTTP/1.1\r\n" + hostA + "Connection: close\r\n\r\nGET /5")
		for _, want := range []string{"GET /1 ", "POST /2 x", "POST /3 y", "GET /4 "} {
			if _, body := c.answer("GET"); body != want {
				t.Errorf("got %q, want %q", body, want)
			}
		}
		if err := c.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionIsKeptOrClosedAsAsked(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		for _, tt := range []struct {
			request string
			kept    bool
			field   string
		}{
			{"GET / HTTP/1.1\r\n" + hostA + "\r\n", true, ""},
			{"GET / HTTP/1.1\r\n" + hostA + "Connection: close\r\n\r\n", false, "close"},
			{"GET / HTTP/1.0\r\n\r\n", false, "close"},
			{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, "keep-alive"},
		} {
			c := connect(t, &Server{Handler: echo}).send(tt.request)
			res, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			got := res.Header.Get("Connection")
			if res.Close {
				got = "close"
			}
			if got != tt.field {
				t.Errorf("%q: Connection is %q", tt.request, got)
			}
			if tt.kept {
				c.send(tt.request)
				c.answer("GET")
				c.Close()
			}
			if err := <-c.done; err != nil {
				t.Error(err)
			}
		}
	})
}

var dateLine = regexp.MustCompile(`Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\r\n`)

func TestResponsesAreFramedByTheEngine(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		tests := []struct {
			name, request string
			h             func(*exchange.Exchange)
			want          string // with Date taken out
		}{
			{
				"length", "GET", func(e *exchange.Exchange) { e.Reply(200, okFields, []byte("hi")) },
				"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nhi",
			},
			{"HEAD", "HEAD", func(e *exchange.Exchange) { e.Reply(200, nil, []byte("hi")) }, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"},
			{"HEAD of unknown length", "HEAD", func(e *exchange.Exchange) { e.Response.Status, e.Response.Length = 200, -1 }, "HTTP/1.1 200 OK\r\n\r\n"},
			{"no content", "GET", func(e *exchange.Exchange) { e.Reply(204, nil, []byte("hi")) }, "HTTP/1.1 204 No Content\r\n\r\n"},
			{"not modified", "GET", func(e *exchange.Exchange) { e.Reply(304, nil, []byte("hi")) }, "HTTP/1.1 304 Not Modified\r\n\r\n"},
			{"empty", "GET", func(e *exchange.Exchange) { e.Response.Status = 202 }, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"},
			{"unknown status", "GET", func(e *exchange.Exchange) { e.Response.Status = 299 }, "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
			{"chunked", "GET", func(e *exchange.Exchange) {
				e.Response.Status = 200
				e.SetBody(io.NopCloser(strings.NewReader("hello world, hello world")), -1)
			}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n18\r\nhello world, hello world\r\n0\r\n\r\n"},
			{"the handler's framing is not believed", "GET", func(e *exchange.Exchange) {
				e.Reply(200, []exchange.Field{{Name: "Content-Length", Value: "9"}, {Name: "transfer-encoding", Value: "chunked"}, {Name: "Connection", Value: "close"}, {Name: "A", Value: "b"}}, []byte("hi"))
			}, "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nhi"},
			{"a value that splits", "GET", func(e *exchange.Exchange) {
				e.Reply(200, []exchange.Field{{Name: "A", Value: "b\r\nSet-Cookie: x"}}, []byte("hi"))
			}, "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 35\r\nConnection: close\r\n\r\n{\"message\":\"Internal server error\"}"},
			{"a name that splits", "GET", func(e *exchange.Exchange) {
				e.Reply(200, []exchange.Field{{Name: "A: b\r\nX", Value: "c"}}, []byte("hi"))
			}, "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 35\r\nConnection: close\r\n\r\n{\"message\":\"Internal server error\"}"},
			{"no status", "GET", func(*exchange.Exchange) {}, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				c := connect(t, &Server{Handler: tt.h}).send(tt.request + " / HTTP/1.1\r\n" + hostA + "Connection: x\r\n\r\n")
				got := make([]byte, len(tt.want)+len("Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n"))
				if n, err := io.ReadFull(c.br, got); err != nil {
					t.Fatalf("%q, %v", got[:n], err)
				}
				if s := dateLine.ReplaceAllString(string(got), ""); s != tt.want {
					t.Errorf("got %q\nwant %q", s, tt.want)
				}
				c.Close()
				<-c.done
			})
		}
	})
}

func TestOldClientsGetUnknownLengthsUntilTheEnd(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		c := connect(t, &Server{Handler: func(e *exchange.Exchange) {
			e.Response.Status = 200
			e.SetBody(io.NopCloser(strings.NewReader("hello")), -1)
		}}).send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		res, body := c.answer("GET")
		if body != "hello" || len(res.TransferEncoding) != 0 || !res.Close {
			t.Errorf("got %q, %v, close %v", body, res.TransferEncoding, res.Close)
		}
		if err := <-c.done; err != nil {
			t.Error(err)
		}
	})
}

func TestBodyIsAskedForOnlyWhenItIsRead(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		ask := "POST / HTTP/1.1\r\n" + hostA + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
		t.Run("read", func(t *testing.T) {
			c := connect(t, &Server{Handler: echo}).send(ask)
			line, err := c.br.ReadString('\n')
			if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("got %q, %v", line, err)
			}
			c.br.ReadString('\n')
			c.send("hello")
			if res, body := c.answer("POST"); body != "POST / hello" || res.Close {
				t.Errorf("got %q, close %v", body, res.Close)
			}
		})
		t.Run("not read", func(t *testing.T) {
			c := connect(t, &Server{Handler: func(e *exchange.Exchange) { e.Reply(403, nil, nil) }}).send(ask)
			if res, _ := c.answer("POST"); res.StatusCode != 403 || !res.Close {
				t.Errorf("got %d, close %v", res.StatusCode, res.Close)
			}
			if err := c.end(); err != nil {
				t.Error(err)
			}
		})
		t.Run("there already", func(t *testing.T) {
			c := connect(t, &Server{Handler: echo}).send(ask + "hello")
			if res, body := c.answer("POST"); res.StatusCode != 200 || body != "POST / hello" {
				t.Errorf("got %d %q", res.StatusCode, body)
			}
		})
	})
}

func TestAHandlerIsToldThatTheClientWaitsToBeAsked(t *testing.T) {
	said := func(e *exchange.Exchange) { e.Reply(200, nil, fmt.Append(nil, e.Request.Continue)) }
	for head, want := range map[string]string{
		"POST / HTTP/1.1\r\n" + hostA + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello": "true",
		"POST / HTTP/1.1\r\n" + hostA + "Content-Length: 5\r\n\r\nhello":                         "false",
	} {
		if _, body := connect(t, &Server{Handler: said}).send(head).answer("POST"); body != want {
			t.Errorf("%q: got %q", head, body)
		}
	}
}

func TestUnreadBodiesAreDrainedWithinBounds(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		ok := func(e *exchange.Exchange) { e.Reply(200, nil, nil) }
		small := "POST / HTTP/1.1\r\n" + hostA + "Content-Length: 5\r\n\r\nhello"
		chunked := "POST / HTTP/1.1\r\n" + hostA + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
		c := connect(t, &Server{Handler: ok}).send(small + chunked + small)
		for range 3 {
			if res, _ := c.answer("POST"); res.StatusCode != 200 || res.Close {
				t.Errorf("got %d, close %v", res.StatusCode, res.Close)
			}
		}
		c = connect(t, &Server{Handler: ok, Drain: 4}).send(small)
		if res, _ := c.answer("POST"); !res.Close {
			t.Error("a body beyond the bound does not close the connection")
		}
		if err := c.end(); err != nil {
			t.Error(err)
		}
	})
}

// A client that is not told that its connection ends sends the next request on it,
// and sees that fail.
func TestAnUnreadBodyOfUnknownLengthEndsTheConnectionAsSaid(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		c := connect(t, &Server{Handler: func(e *exchange.Exchange) { e.Reply(403, nil, []byte("no")) }})
		c.send("POST / HTTP/1.1\r\n" + hostA + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel")
		if res, body := c.answer("POST"); res.StatusCode != 403 || body != "no" || !res.Close {
			t.Errorf("got %d %q, close %v", res.StatusCode, body, res.Close)
		}
	})
}

func TestSlowClientsAreNotWaitedFor(t *testing.T) {
	limits := Timeouts{Head: 10 * time.Second, Body: 20 * time.Second, Idle: 30 * time.Second, Write: 40 * time.Second}
	// trickle sends a byte every second until the server has had enough.
	trickle := func(c *client, s string) {
		go func() {
			for i := range len(s) {
				if _, err := c.Write([]byte{s[i]}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}()
	}
	get := "GET / HTTP/1.1\r\n" + hostA + "\r\n"
	tests := []struct {
		name   string
		do     func(c *client)
		status int // 0: closed without a word
		after  time.Duration
		within time.Duration // the deadline may be this much early
		err    error
	}{
		{"silent from the begin", func(*client) {}, 0, 10 * time.Second, 0, nil},
		{"slow head", func(c *client) { trickle(c, get) }, 408, 10 * time.Second, 0, grammar.ErrHeadTimeout},
		{"slow second head", func(c *client) {
			c.send(get)
			c.answer("GET")
			<-time.After(5 * time.Second)
			trickle(c, get)
		}, 408, 15 * time.Second, 0, grammar.ErrHeadTimeout},
		{"idle", func(c *client) { c.send(get); c.answer("GET") }, 0, 30 * time.Second, 0, nil},
		{"idle after some requests", func(c *client) {
			for range 5 {
				c.send(get)
				c.answer("GET")
				<-time.After(2 * time.Second)
			}
		}, 0, 38 * time.Second, 0, nil},
		{"body stops", func(c *client) { c.send("POST / HTTP/1.1\r\n" + hostA + "Content-Length: 9\r\n\r\nabc") }, 408, 20 * time.Second, 0, grammar.ErrBodyTimeout},
		{"does not read", func(c *client) { io.WriteString(c, get); <-time.After(41 * time.Second) }, 0, 41 * time.Second, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c := connect(t, &Server{Handler: echo, Timeouts: limits})
				tt.do(c)
				if tt.status != 0 {
					if res, _ := c.answer("GET"); res.StatusCode != tt.status {
						t.Errorf("status %d", res.StatusCode)
					}
				}
				err := c.end()
				if took := time.Since(start); took != tt.after {
					t.Errorf("closed after %v, want %v", took, tt.after)
				}
				if tt.name == "does not read" {
					if err == nil {
						t.Error("the write succeeded")
					}
				} else if !errors.Is(err, tt.err) {
					t.Errorf("ended with %v", err)
				}
				c.Close()
				<-time.After(2 * time.Second) // for the trickle to notice
			})
		})
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &Server{Handler: func(e *exchange.Exchange) {
			if e.Request.Path == "/slow" {
				<-release
			}
			echo(e)
		}}
		idle, fresh, busy := connect(t, s), connect(t, s), connect(t, s)
		idle.send("GET / HTTP/1.1\r\n" + hostA + "\r\n")
		idle.answer("GET")
		busy.send("POST /slow HTTP/1.1\r\n" + hostA + "Content-Length: 2\r\n\r\n")
		synctest.Wait()
		down := make(chan error)
		go func() { down <- s.Shutdown(context.Background()) }()
		for _, c := range []*client{idle, fresh} {
			if err := c.end(); err != nil {
				t.Error(err)
			}
		}
		select {
		case <-down:
			t.Fatal("Shutdown did not wait")
		default:
		}
		late := connect(t, s)
		if err := late.end(); !errors.Is(err, ErrClosed) {
			t.Errorf("a late connection ended with %v", err)
		}
		close(release)
		busy.send("hi")
		if res, body := busy.answer("POST"); body != "POST /slow hi" || !res.Close {
			t.Errorf("got %q, close %v", body, res.Close)
		}
		busy.end()
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownGivesUpWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Handler: echo}
		c := connect(t, s).send("POST / HTTP/1.1\r\n" + hostA + "Content-Length: 2\r\n\r\n")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-c.done
		if n := s.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func TestEndOfContextClosesTheConnection(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the engine is stopped")
	cancel(why)
	s := &Server{Handler: echo}
	if err := s.ServeConn(ctx, b, &snapshot.Origin{}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestPanicEndsItsOwnConnectionOnly(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		var seen error
		s := &Server{Handler: func(e *exchange.Exchange) {
			e.OnDone(func(e *exchange.Exchange) { seen = e.Failure })
			panic("boom")
		}}
		c := connect(t, s).send("GET / HTTP/1.1\r\n" + hostA + "\r\n")
		if res, body := c.answer("GET"); res.StatusCode != 500 || strings.Contains(body, "boom") {
			t.Errorf("got %d %q", res.StatusCode, body)
		}
		var p *PanicError
		if err := c.end(); !errors.As(err, &p) || p.Value != "boom" || len(p.Stack) == 0 {
			t.Errorf("ended with %v", err)
		}
		if !errors.As(seen, &p) {
			t.Errorf("the log was told %v", seen)
		}
	})
}

// A connection's memory serves later ones: what ended it is not theirs.
func TestUploadThatWasGivenUpSpoilsNoLaterConnection(t *testing.T) {
	gone := make(chan net.Conn, 1)
	s := &Server{Handler: func(e *exchange.Exchange) {
		if e.Request.Length > 0 {
			(<-gone).Close() // before the answer
			e.Request.Body.(exchange.Aborter).Abort()
		}
		e.Reply(200, nil, nil)
	}}
	for range 8 { // as many as it takes to be given the same memory
		c := connect(t, s).send("POST / HTTP/1.1\r\n" + hostA + "Content-Length: 5\r\n\r\nab")
		gone <- c.Conn
		if err := <-c.done; err == nil {
			t.Error("an answer to nobody was written")
		}
		c = connect(t, s).send("GET / HTTP/1.1\r\n" + hostA + "Connection: close\r\n\r\n")
		if res, _ := c.answer("GET"); res.StatusCode != 200 {
			t.Errorf("the next connection got %d", res.StatusCode)
		}
		if err := <-c.done; err != nil {
			t.Errorf("the next connection ended with %v", err)
		}
	}
}

func TestBodyThatFailsDoesNotLookWhole(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		for _, length := range []int64{-1, 100} {
			broken := errors.New("the source broke")
			c := connect(t, &Server{Handler: func(e *exchange.Exchange) {
				e.Response.Status = 200
				r, w := io.Pipe()
				go func() { io.WriteString(w, "abc"); w.CloseWithError(broken) }()
				e.SetBody(r, length)
			}}).send("GET / HTTP/1.1\r\n" + hostA + "\r\n")
			res, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("length %d: read %q as a whole", length, got)
			}
			if err := <-c.done; !errors.Is(err, broken) {
				t.Errorf("ended with %v", err)
			}
		}
	})
}

func TestExchangeTellsWhatHappened(t *testing.T) {
	onEachWire(t, func(t *testing.T) {
		type told struct {
			in, out int64
			status  int
			id      string
			network string
		}
		got := make(chan told, 1)
		s := &Server{Handler: func(e *exchange.Exchange) {
			e.OnDone(func(e *exchange.Exchange) {
				got <- told{e.Received, e.Sent, e.Response.Status, strings.Clone(e.ID()), e.Origin.Network}
			})
			echo(e)
		}}
		c := connect(t, s)
		ids := map[string]bool{}
		for range 3 {
			c.send("POST / HTTP/1.1\r\n" + hostA + "Content-Length: 2\r\n\r\nhi")
			c.answer("POST")
			g := <-got
			if g.in != 2 || g.out != int64(len("POST / hi")) || g.status != 200 || g.network != "test" {
				t.Errorf("told %+v", g)
			}
			if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(g.id) || ids[g.id] {
				t.Errorf("id %q", g.id)
			}
			ids[g.id] = true
		}
	})
}

func TestTLSIsToldAndItsSchemeHeld(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cert.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &Server{Handler: func(e *exchange.Exchange) {
		e.Reply(200, nil, []byte(e.Request.Scheme+" "+e.TLS.ServerName+" "+tls.VersionName(e.TLS.Version)))
	}}
	done := make(chan error)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = s.ServeConn(context.Background(), c, &snapshot.Origin{})
		}
		done <- err
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "example.com", RootCAs: cert.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET https://a.example/ HTTP/1.1\r\n"+hostA+"Connection: close\r\n\r\n")
	got, err := io.ReadAll(c)
	c.Close()
	if err != nil || !strings.HasSuffix(string(got), "https example.com TLS 1.3") {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClientThatStillSendsGetsToReadTheRefusal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &Server{Handler: echo}
	done := make(chan error)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = s.ServeConn(context.Background(), c, &snapshot.Origin{})
		}
		done <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST / HTTP/1.1\r\n"+hostA+"Content-Length: 20000000\r\n\r\n")
	c.Write(make([]byte, 200<<10))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 413 {
		t.Fatalf("got %v, %v", res, err)
	}
	c.Close()
	if err := <-done; !errors.Is(err, grammar.ErrBodyTooLarge) {
		t.Error(err)
	}
}

func TestOpenedSeesAConnectionBeforeItsFirstRequest(t *testing.T) {
	for _, taken := range []bool{false, true} {
		seen := 0
		s := &Server{
			Opened: func(_ context.Context, nc net.Conn, e *exchange.Exchange) bool {
				seen++
				e.State = "opened"
				if taken {
					_, _ = io.WriteString(nc, "taken")
				}
				return taken
			},
			Handler: func(e *exchange.Exchange) { e.Reply(200, nil, []byte(fmt.Sprint(e.State))) },
		}
		here, there := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.ServeConn(context.Background(), there, &snapshot.Origin{}) }()
		want := "taken"
		if !taken {
			want = "opened"
			for range 2 {
				fmt.Fprint(here, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				res, err := http.ReadResponse(bufio.NewReader(here), nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(res.Body); err != nil || string(b) != want {
					t.Errorf("%q, %v", b, err)
				}
			}
			here.Close()
		} else if b, err := io.ReadAll(here); err != nil || string(b) != want {
			t.Errorf("%q, %v", b, err)
		}
		<-done
		if seen != 1 {
			t.Errorf("seen %d times", seen)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
