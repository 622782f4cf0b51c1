// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answers is a server that answers n bytes, and counts who asked for what.
func answers(t *testing.T, n int, secure bool) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.URL.Path != "/items" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.RawQuery == "" {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		for range n { // in chunks, if the length is not said
			_, _ = w.Write([]byte("x"))
			if r.URL.RawQuery != "" {
				w.(http.Flusher).Flush()
			}
		}
	}))
	s.EnableHTTP2 = true
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, &asked
}

// some runs a plan, for as long as the machine needs to get an answer at all.
func some(t *testing.T, p *Plan) *Result {
	t.Helper()
	for p.Duration = 20 * time.Millisecond; ; p.Duration *= 2 {
		r, err := Run(t.Context(), p)
		if errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

const (
	get   = "GET /items HTTP/1.1\r\nHost: here\r\n\r\n"
	piece = "GET /items?pieces HTTP/1.1\r\nHost: here\r\n\r\n"
	post  = "POST /items HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n0123456789"
	wrong = "GET /other HTTP/1.1\r\nHost: here\r\n\r\n"
)

func requests(text ...string) (out [][]byte) {
	for _, s := range text {
		out = append(out, []byte(s))
	}
	return out
}

func TestEveryKindOfConnectionGetsAnswers(t *testing.T) {
	insecure := &tls.Config{InsecureSkipVerify: true}
	tests := map[string]*Plan{
		"kept":          {Conns: 3},
		"new each time": {Conns: 3, Fresh: true},
		"fixed rate":    {Conns: 3, Rate: 500},
		"TLS":           {Conns: 3, TLS: insecure},
		"HTTP/2":        {Conns: 2, Streams: 4, HTTP2: true, TLS: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}},
	}
	for name, p := range tests {
		t.Run(name, func(t *testing.T) {
			s, asked := answers(t, 100, p.TLS != nil)
			p.Addr, p.Length = s.Listener.Addr().String(), 100
			p.Requests = requests(get, post, piece)
			if p.HTTP2 {
				p.Requests = [][]byte{HeaderBlock("here", "/items", [2]string{"accept", "*/*"})}
			}
			r := some(t, p)
			if n := r.Latency.Count(); int64(n) > asked.Load() {
				t.Errorf("%d answers to %d requests", n, asked.Load())
			}
			if r.Latency.Quantile(0.5) <= 0 || r.PerSecond() <= 0 {
				t.Errorf("half took %v, %v a second", r.Latency.Quantile(0.5), r.PerSecond())
			}
		})
	}
}

func TestAWrongAnswerEndsTheRun(t *testing.T) {
	s, _ := answers(t, 100, false)
	addr := s.Listener.Addr().String()
	for want, p := range map[string]*Plan{
		"status 400":    {Addr: addr, Conns: 1, Length: 100, Requests: requests(wrong), Duration: time.Hour},
		"and 100 bytes": {Addr: addr, Conns: 1, Length: 99, Requests: requests(get), Duration: time.Hour},
	} {
		if _, err := Run(t.Context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want %q in it", err, want)
		}
	}
}

func TestHTTP2ThatIsNotOfferedIsAnError(t *testing.T) {
	s, _ := answers(t, 100, true)
	p := &Plan{Addr: s.Listener.Addr().String(), Conns: 1, HTTP2: true, TLS: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}
	if _, err := Run(t.Context(), p); !errors.Is(err, errNoHTTP2) {
		t.Errorf("the error is %v", err)
	}
}

func TestRestHoldsItsConnectionsOpen(t *testing.T) {
	s, asked := answers(t, 100, false)
	p := &Plan{Addr: s.Listener.Addr().String(), Conns: 7, Length: 100, Requests: requests(get)}
	looked := 0
	err := Rest(t.Context(), p, func(n int, refusal error) error {
		looked = n
		return refusal
	})
	if err != nil || looked != 7 || asked.Load() != 7 {
		t.Errorf("%d connections, %d requests, %v", looked, asked.Load(), err)
	}
}

func TestRestLooksAtWhatAGatewayTakes(t *testing.T) {
	s, _ := answers(t, 100, false)
	p := &Plan{Addr: s.Listener.Addr().String(), Conns: 7, Length: 100, Requests: requests(get, get, wrong)}
	looked := 0
	err := Rest(t.Context(), p, func(n int, refusal error) error {
		looked = n
		if refusal == nil {
			t.Error("nothing is said of what was refused")
		}
		return nil
	})
	if err != nil || looked != 2 {
		t.Errorf("%d connections, %v", looked, err)
	}
	p.Requests = requests(wrong)
	if err := Rest(t.Context(), p, nil); err == nil {
		t.Error("a gateway that takes none is looked at")
	}
}

func TestTheLengthOfABodyIsRead(t *testing.T) {
	for head, want := range map[string]int{
		"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n":                   12,
		"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length:0\r\nC: d\r\n":     0,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n":   -1,
		"HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\nContent-Length: 3": 3,
	} {
		n, chunked, err := bodyOf([]byte(head))
		if err != nil || n != want || chunked != (want < 0) {
			t.Errorf("%q: %d, %v, %v", head, n, chunked, err)
		}
	}
	for _, head := range []string{"HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n"} {
		if _, _, err := bodyOf([]byte(head)); err == nil {
			t.Errorf("%q: no error", head)
		}
	}
}
