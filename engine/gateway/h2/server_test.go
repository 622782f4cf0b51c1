// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//lint:file-ignore SA1019 a client of net/http dials by itself, and this one is to use the connection it is given

package h2_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/h2"
	"postern.dev/postern/engine/gateway/stream"
	"postern.dev/postern/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a Server and the connections to it.
type lab struct {
	h2.Server
	t    testing.TB
	done sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func newLab(t testing.TB, handler func(*exchange.Exchange)) *lab {
	l := &lab{t: t}
	l.Handler = handler
	t.Cleanup(func() { l.done.Wait() })
	return l
}

// dial opens a connection in clear that passes for one with TLS.
func (l *lab) dial() net.Conn {
	l.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	l.done.Go(func() {
		err := l.ServeConn(context.Background(), fake{server}, stream.Conn{Origin: &snapshot.Origin{}, TLS: &exchange.TLS{ServerName: "a.example"}})
		l.mu.Lock()
		l.errs = append(l.errs, err)
		l.mu.Unlock()
	})
	l.t.Cleanup(func() { client.Close() })
	return client
}

// failure is what the connections have ended with, once they have.
func (l *lab) failure() error {
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs...)
}

type fake struct{ net.Conn }

func (fake) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: "a.example"}
}

func (l *lab) client() *http.Client {
	tr := &http2.Transport{DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) { return l.dial(), nil }}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func send(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARequestIsWhatItWouldBeInHTTP1(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		q := &e.Request
		b, err := io.ReadAll(q.Body)
		text := fmt.Sprintf("%s %s path=%s query=%s/%v scheme=%s authority=%s host=%s port=%s length=%d proto=%s body=%s err=%v\n",
			q.Method, q.Target, q.Path, q.RawQuery, q.HasQuery, q.Scheme, q.Authority, q.Host, q.Port, q.Length, q.Proto, b, err)
		for f := range q.Header.All() {
			text += f.Name + "=" + f.Value + "\n"
		}
		e.Reply(200, []exchange.Field{{Name: "x-lower", Value: "1"}, {Name: "X-Lower", Value: "2"}}, []byte(text))
	})
	r := request(t, "POST", "https://A.example:8443/p%2Fa?x=1&y", strings.NewReader("hello"))
	r.Header.Add("B", "2")
	r.Header.Add("A", "1")
	r.Header.Add("A", "3")
	r.Header.Set("User-Agent", "me")
	r.Header.Set("Te", "trailers")
	resp, got := send(t, l.client(), r)
	want := "POST /p%2Fa?x=1&y path=/p%2Fa query=x=1&y/true scheme=https authority=A.example:8443 host=a.example port=8443 length=5 proto=HTTP/2.0 body=hello err=<nil>\n" +
		"A=1\nA=3\nAccept-Encoding=gzip\nB=2\nContent-Length=5\nUser-Agent=me\nHost=A.example:8443\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !slices.Equal(resp.Header["X-Lower"], []string{"1", "2"}) || resp.ContentLength != int64(len(got)) || resp.Header.Get("Date") == "" || resp.Header.Get("Content-Type") != "" {
		t.Errorf("the answer has %v", resp.Header)
	}
}

func TestTheGrammarOfHTTP1Holds(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) { e.Reply(200, nil, []byte("reached")) })
	c := l.client()
	many := func(r *http.Request) {
		for i := range 101 {
			r.Header.Set(fmt.Sprintf("X-%d", i), "v")
		}
	}
	for name, f := range map[string]struct {
		status int
		edit   func(*http.Request)
	}{
		"target too long":     {414, func(r *http.Request) { r.URL.RawQuery = strings.Repeat("a", 10300) }},
		"broken encoding":     {400, func(r *http.Request) { r.URL.Opaque = "//a.example/%zz" }},
		"byte in path":        {400, func(r *http.Request) { r.URL.Opaque = "//a.example/a\\b" }},
		"fields too large":    {431, func(r *http.Request) { r.Header.Set("X", strings.Repeat("a", 10300)) }},
		"too many fields":     {431, many},
		"host":                {400, func(r *http.Request) { r.Host = "a,b.example" }},
		"port":                {400, func(r *http.Request) { r.Host = "a.example:0" }},
		"expectation":         {417, func(r *http.Request) { r.Header.Set("Expect", "more") }},
		"CONNECT":             {501, func(r *http.Request) { r.Method = "CONNECT" }},
		"long method":         {501, func(r *http.Request) { r.Method = strings.Repeat("A", 40) }},
		"server-wide OPTIONS": {200, func(r *http.Request) { r.Method, r.URL.Path, r.URL.Opaque = "OPTIONS", "", "*" }},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "GET", "https://a.example/", nil)
			f.edit(r)
			resp, err := c.Transport.RoundTrip(r)
			if err != nil {
				if f.status == 400 { // the library may have found it first
					return
				}
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != f.status {
				t.Errorf("status %d, want %d", resp.StatusCode, f.status)
			}
		})
	}
}

func TestBodiesFlowBothWaysAtOnce(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		e.Response.Status = 200
		e.Response.Header.Add("Content-Type", "text/plain")
		e.SetBody(&echo{r: e.Request.Body, e: e}, -1)
	})
	in, out := io.Pipe()
	r := request(t, "POST", "https://a.example/", in)
	r.Trailer = http.Header{"X-Sum": nil}
	resp, err := l.client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 16)
	for _, word := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(out, word); err != nil {
			t.Fatal(err)
		}
		if n, err := io.ReadFull(resp.Body, buf[:len(word)]); string(buf[:n]) != word || err != nil {
			t.Fatalf("got %q, %v before the body's end, want %q", buf[:n], err, word)
		}
	}
	r.Trailer.Set("X-Sum", "11")
	out.Close()
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
	if resp.Trailer.Get("X-Sum-Back") != "11" || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("the trailers are %v", resp.Trailer)
	}
}

// echo is the request's body as a response's, with its trailers.
type echo struct {
	r io.Reader
	e *exchange.Exchange
}

func (b *echo) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		b.e.Response.Trailer.Add("x-sum-back", b.e.Request.Trailer.Get("X-Sum"))
		b.e.Response.Trailer.Add("grpc-status", "0")
	}
	return n, err
}
func (b *echo) Close() error { return nil }

func TestAnswersWithoutBody(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		var n int
		fmt.Sscanf(e.Request.Path, "/%d", &n)
		e.Reply(n, nil, []byte("not for all"))
		if e.Request.HasQuery {
			e.Response.Length = -1
		}
	})
	c := l.client()
	for _, f := range []struct {
		method, path string
		length       int64
		body         string
	}{
		{"GET", "/200", 11, "not for all"},
		{"HEAD", "/200", 11, ""},
		{"HEAD", "/200?unknown", -1, ""},
		{"GET", "/204", 0, ""},
		{"GET", "/304", 0, ""},
		{"GET", "/200?unknown", -1, "not for all"},
	} {
		resp, got := send(t, c, request(t, f.method, "https://a.example"+f.path, nil))
		if got != f.body || resp.Header.Get("Content-Length") != "" != (f.length > 0) && f.length >= 0 {
			t.Errorf("%s %s: body %q, header %v", f.method, f.path, got, resp.Header)
		}
		if f.method == "HEAD" && resp.ContentLength != f.length {
			t.Errorf("%s %s: length %d", f.method, f.path, resp.ContentLength)
		}
	}
}

func TestAResetEndsTheExchangesContext(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	l := newLab(t, func(e *exchange.Exchange) {
		close(began)
		<-e.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	resp, err := l.client().Do(request(t, "GET", "https://a.example/", nil).WithContext(ctx))
	if err == nil {
		resp.Body.Close()
		t.Error("the request was answered")
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the exchange goes on")
	}
}

func TestAPanicIsAnsweredAndTold(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) { panic("oh") })
	c := l.client()
	resp, got := send(t, c, request(t, "GET", "https://a.example/", nil))
	if resp.StatusCode != 500 || got != `{"message":"Internal server error"}` {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	c.CloseIdleConnections()
	if p, ok := errors.AsType[*h1.PanicError](l.failure()); !ok || p.Value != "oh" {
		t.Errorf("ServeConn says %v", l.failure())
	}
}

func TestABodyThatBreaksIsAReset(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		e.Response.Status = 200
		if e.Request.Path == "/late" {
			e.SetBody(io.NopCloser(io.MultiReader(strings.NewReader("some"), broken{})), -1)
			return
		}
		e.SetBody(io.NopCloser(broken{}), 10)
	})
	c := l.client()
	resp, got := send(t, c, request(t, "GET", "https://a.example/soon", nil))
	if resp.StatusCode != 502 {
		t.Errorf("before a byte was sent: %d %s", resp.StatusCode, got)
	}
	resp, err := c.Do(request(t, "GET", "https://a.example/late", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if string(b) != "some" || err == nil {
		t.Errorf("after a byte was sent: %q, %v", b, err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		_, err := io.Copy(io.Discard, e.Request.Body)
		e.Reply(200, nil, fmt.Appendf(nil, "%v", err))
	})
	l.Limits.Body = 1000
	c := l.client()
	for _, body := range []io.Reader{strings.NewReader(strings.Repeat("a", 1001)), io.MultiReader(strings.NewReader(strings.Repeat("a", 1001)))} {
		if resp, got := send(t, c, request(t, "POST", "https://a.example/", body)); resp.StatusCode != 413 {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
	}
	if resp, got := send(t, c, request(t, "POST", "https://a.example/", strings.NewReader(strings.Repeat("a", 1000)))); resp.StatusCode != 200 || got != "<nil>" {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	l := newLab(t, func(e *exchange.Exchange) {
		close(began)
		<-finish
		e.Reply(200, nil, []byte("done"))
	})
	got := make(chan string)
	r, c := request(t, "GET", "https://a.example/", nil), l.client()
	go func() {
		resp, err := c.Do(r)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-began
	if err := l.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	close(finish)
	if text := <-got; text != "done" {
		t.Errorf("the request under way got %q", text)
	}
	if err := l.failure(); err != nil { // waits for the connection to end
		t.Error(err)
	}
}
