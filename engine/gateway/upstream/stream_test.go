// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStreamsMayTakeAsLongAsTheyAreNotSilent(t *testing.T) {
	tests := []struct {
		name    string
		request string
		media   string
		call    Call
		head    time.Duration
		every   time.Duration // between parts, of which there are 10
		kind    Kind
		took    time.Duration
	}{
		{name: "no stream", media: "text/plain", every: 4 * time.Second, kind: Timeout, took: 29 * time.Second},
		{name: "events", media: "text/event-stream; charset=utf-8", every: time.Minute, took: 10 * time.Minute},
		{name: "silent events", media: "text/event-stream", call: Call{Timeout: time.Minute, Stream: 3 * time.Second}, every: 4 * time.Second, kind: Timeout, took: 3 * time.Second},
		{name: "gRPC-Web", request: "application/grpc-web+proto", head: time.Minute, every: 4 * time.Minute, took: 41 * time.Minute},
		{name: "silent gRPC-Web", request: "application/grpc-web", head: 6 * time.Minute, kind: Timeout, took: 5 * time.Minute},
		{name: "a stream of Connect", request: "application/connect+json", every: 40 * time.Second, took: 400 * time.Second},
		{name: "a unary call of Connect", request: "application/json", every: 40 * time.Second, kind: Timeout, took: 29 * time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			var served sync.WaitGroup
			defer served.Wait()
			p := New(Config{Dial: func(context.Context, Target) (net.Conn, error) {
				a, b := net.Pipe()
				served.Go(func() {
					defer b.Close()
					if _, err := http.ReadRequest(bufio.NewReader(b)); err != nil {
						return
					}
					time.Sleep(tt.head)
					fmt.Fprintf(b, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: 10\r\n\r\n", tt.media)
					for range 10 {
						time.Sleep(tt.every)
						if _, err := io.WriteString(b, "."); err != nil {
							return
						}
					}
				})
				return a, nil
			}})
			defer p.Close()
			e := post("x", 1)
			e.Request.Header.Add("content-type", tt.request)
			call := tt.call
			call.Target = backend
			began := time.Now()
			err := p.Do(t.Context(), &call, e)
			if err == nil {
				_, err = io.ReadAll(e.Response.Body)
			}
			if kind(err) != tt.kind {
				t.Errorf("%s: %v", tt.name, err)
			}
			if took := time.Since(began); took != tt.took {
				t.Errorf("%s: it took %s", tt.name, took)
			}
			if err := e.Finish(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestABackendThatDoesNotReadAStreamIsNotWaitedForWithoutEnd(t *testing.T) {
	for _, length := range []int64{200 << 10, -1} {
		for _, taken := range []int64{0, 100 << 10} {
			synctest.Test(t, func(t *testing.T) {
				var served sync.WaitGroup
				defer served.Wait()
				ended := make(chan struct{})
				defer close(ended)
				p := New(Config{Dial: func(context.Context, Target) (net.Conn, error) {
					a, b := net.Pipe()
					served.Go(func() {
						defer b.Close()
						r, err := http.ReadRequest(bufio.NewReader(b))
						if err == nil {
							_, err = io.CopyN(io.Discard, r.Body, taken)
						}
						if err != nil {
							t.Error(err)
						}
						<-ended
					})
					return a, nil
				}})
				defer p.Close()
				e := post(strings.Repeat("x", 200<<10), length)
				e.Request.Header.Add("Content-Type", "application/grpc-web")
				began := time.Now()
				err := p.Do(t.Context(), &Call{Target: backend}, e)
				// What could not be sent may have been answered all the same, which is waited for as well.
				if took := time.Since(began); kind(err) != Timeout || took < 5*time.Minute || took > 10*time.Minute {
					t.Errorf("of %d bytes, with %d taken: %v after %s", length, taken, err, took)
				}
				if err := e.Finish(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// However the request was sent, once it is sent events have no end of their own.
func TestEventsThatAnswerALargeRequestAreAStream(t *testing.T) {
	for _, length := range []int64{200 << 10, -1} {
		synctest.Test(t, func(t *testing.T) {
			var served sync.WaitGroup
			defer served.Wait()
			p := New(Config{Dial: func(context.Context, Target) (net.Conn, error) {
				a, b := net.Pipe()
				served.Go(func() {
					defer b.Close()
					r, err := http.ReadRequest(bufio.NewReader(b))
					if err == nil {
						_, err = io.Copy(io.Discard, r.Body)
					}
					if err == nil {
						_, err = io.WriteString(b, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5\r\n\r\n")
					}
					time.Sleep(time.Minute)
					if err == nil {
						_, err = io.WriteString(b, "event")
					}
					if err != nil {
						t.Error(err)
					}
				})
				return a, nil
			}})
			defer p.Close()
			e := post(strings.Repeat("x", 200<<10), length)
			if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
				t.Fatal(err)
			}
			if got := read(t, e); got != "event" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// late is a body whose begin takes a second.
type late struct{ read int }

func (l *late) Read(p []byte) (int, error) {
	if l.read++; l.read > 1 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	return copy(p, "late"), nil
}

// To ask a client for the body is to write to it, as to answer is.
func TestAClientIsAskedForTheBodyBeforeItIsAnswered(t *testing.T) {
	for _, waits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var served sync.WaitGroup
			defer served.Wait()
			p := New(Config{Dial: func(context.Context, Target) (net.Conn, error) {
				a, b := net.Pipe()
				served.Go(func() {
					defer b.Close()
					served.Go(func() { io.Copy(io.Discard, b) })
					io.WriteString(b, "HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\n")
					time.Sleep(time.Minute)
				})
				return a, nil
			}})
			defer p.Close()
			e := post("", -1)
			e.Request.Body, e.Request.Continue = &late{}, waits
			began := time.Now()
			if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
				t.Fatal(err)
			}
			if asked := time.Since(began) == time.Second; asked != waits {
				t.Errorf("waits %v: answered after %s", waits, time.Since(began))
			}
			if err := e.Finish(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBothDirectionsAreUnderWayAtOnce: the backend answers before the first byte
// of the request's body, and each part before the next is sent.
func TestBothDirectionsAreUnderWayAtOnce(t *testing.T) {
	failed := make(chan error, 1)
	p := pool(t, Config{Dial: func(context.Context, Target) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			r, err := http.ReadRequest(bufio.NewReader(b))
			if err == nil {
				_, err = io.WriteString(b, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			}
			part := make([]byte, 100)
			for err == nil {
				var n int
				if n, err = r.Body.Read(part); n > 0 {
					_, werr := fmt.Fprintf(b, "%x\r\n%s\r\n", n, part[:n])
					err = errors.Join(err, werr)
				}
			}
			if errors.Is(err, io.EOF) {
				_, err = io.WriteString(b, "0\r\n\r\n")
			}
			failed <- err
		}()
		return a, nil
	}})
	in, out := io.Pipe()
	e := post("", -1)
	e.Request.Body = in
	if err := p.Do(t.Context(), &Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 20)
	for i := range 10 {
		text := fmt.Sprint("part ", i)
		if _, err := io.WriteString(out, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(e.Response.Body, got[:len(text)]); err != nil || string(got[:len(text)]) != text {
			t.Fatalf("%q: %v", got, err)
		}
	}
	out.Close()
	if rest := read(t, e); rest != "" {
		t.Errorf("%q comes behind", rest)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
}
