// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h3_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/h3"
	"postern.dev/postern/engine/gateway/stream"
	"postern.dev/postern/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a Server with one socket.
type lab struct {
	h3.Server
	t      testing.TB
	addr   net.Addr
	open   atomic.Int64 // connections
	failed chan error
	done   sync.WaitGroup
}

func newLab(t *testing.T, handler func(*exchange.Exchange), set ...func(*h3.Server)) *lab {
	t.Helper()
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.example"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, failed: make(chan error, 16)}
	l.Handler = handler
	l.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	l.Opened = func(_ any, tls *exchange.TLS) stream.Conn { return stream.Conn{Origin: &snapshot.Origin{}, TLS: tls} }
	l.Failed = func(_ any, err error) { l.failed <- err }
	for _, f := range set {
		f(&l.Server)
	}
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l.addr = pc.LocalAddr()
	l.done.Go(func() {
		if err := l.Serve(context.Background(), pc, func(netip.AddrPort) (any, func(), bool) {
			l.open.Add(1)
			return l, func() { l.open.Add(-1) }, true
		}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l.done.Wait()
		if n := l.open.Load(); n != 0 {
			t.Errorf("%d connections were not let go", n)
		}
	})
	return l
}

func (l *lab) client() *http.Client {
	tr := &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "a.example"},
		Dial: func(ctx context.Context, _ string, cfg *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, l.addr.String(), cfg, qc)
		},
	}
	l.t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func send(t testing.TB, c *http.Client, method, path string, body io.Reader, edit func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://a.example"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %.20s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func ok(e *exchange.Exchange) { e.Reply(200, nil, []byte("ok")) }

// serves fails if other callers are not answered.
func (l *lab) serves() {
	l.t.Helper()
	if resp, got := send(l.t, l.client(), "GET", "/", nil, nil); resp.StatusCode != 200 || got != "ok" {
		l.t.Errorf("another caller gets %d %s", resp.StatusCode, got)
	}
}

func TestARequestIsWhatItWouldBeInHTTP1(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		q := &e.Request
		length := q.Length
		b, err := io.ReadAll(q.Body)
		e.Reply(200, []exchange.Field{{Name: "X-Length", Value: fmt.Sprint(length)}}, fmt.Appendf(nil, "%s %s %s %s %s %s %v te=%v", q.Method, q.Target, q.Scheme, q.Host, q.Proto, b, err, q.Header.Has("TE")))
		e.Response.Length = -1
		e.Response.Trailer.Add("x-sum", q.Trailer.Get("X-Sum"))
	})
	c := l.client()
	for _, f := range []struct {
		method, path string
		body         io.Reader
		length, want string
	}{
		{"GET", "/a?b", nil, "0", "GET /a?b https a.example HTTP/3.0  <nil> te=false"},
		{"POST", "/", strings.NewReader("hello"), "5", "POST / https a.example HTTP/3.0 hello <nil> te=false"},
		{"POST", "/", io.MultiReader(strings.NewReader("streamed")), "-1", "POST / https a.example HTTP/3.0 streamed <nil> te=false"},
		{"DELETE", "/", io.MultiReader(strings.NewReader("seldom")), "-1", "DELETE / https a.example HTTP/3.0 seldom <nil> te=false"},
	} {
		resp, got := send(t, c, f.method, f.path, f.body, func(r *http.Request) {
			if f.length == "-1" {
				r.Trailer = http.Header{"X-Sum": {"8"}}
			}
			r.Header.Set("TE", "trailers")
		})
		if got != f.want || resp.Header.Get("X-Length") != f.length || f.length == "-1" && resp.Trailer.Get("X-Sum") != "8" {
			t.Errorf("%q, length %s, trailer %v; want %q", got, resp.Header.Get("X-Length"), resp.Trailer, f.want)
		}
	}
}

func TestTheGrammarOfHTTP1Holds(t *testing.T) {
	l := newLab(t, ok)
	c := l.client()
	for name, f := range map[string]struct {
		status int
		edit   func(*http.Request)
	}{
		"target too long":  {414, func(r *http.Request) { r.URL.RawQuery = strings.Repeat("a", 10300) }},
		"byte in path":     {400, func(r *http.Request) { r.URL.Opaque = "/a\\b" }},
		"fields too large": {431, func(r *http.Request) { r.Header.Set("X", strings.Repeat("a", 10300)) }},
		"far too large":    {431, func(r *http.Request) { r.Header.Set("X", strings.Repeat("a", 60<<10)) }},
		"expectation":      {417, func(r *http.Request) { r.Header.Set("Expect", "more") }},
		"port":             {400, func(r *http.Request) { r.Host = "a.example:0" }},
	} {
		t.Run(name, func(t *testing.T) {
			if resp, got := send(t, c, "GET", "/", nil, f.edit); resp.StatusCode != f.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, got, f.status)
			}
		})
	}
}

func TestAPanicIsAnsweredAndTold(t *testing.T) {
	l := newLab(t, func(*exchange.Exchange) { panic("oh") })
	if resp, got := send(t, l.client(), "GET", "/", nil, nil); resp.StatusCode != 500 {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	if p, isPanic := errors.AsType[*h1.PanicError](<-l.failed); !isPanic || p.Value != "oh" {
		t.Error(p)
	}
}

func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		if _, err := io.Copy(io.Discard, e.Request.Body); err == nil {
			ok(e)
		}
	}, func(s *h3.Server) { s.Timeouts.Body = 50 * time.Millisecond })
	in, out := io.Pipe()
	defer out.Close()
	resp, _ := send(t, l.client(), "POST", "/", in, nil)
	if resp.StatusCode != 408 {
		t.Errorf("%d", resp.StatusCode)
	}
	l.serves()
}

func TestAClientThatDoesNotReadIsGivenUp(t *testing.T) {
	done := make(chan error, 1)
	l := newLab(t, func(e *exchange.Exchange) {
		if e.Request.Path == "/" {
			ok(e)
			return
		}
		e.Response.Status = 200
		e.SetBody(io.NopCloser(endless{}), -1)
		e.OnDone(func(e *exchange.Exchange) { done <- e.Failure })
	}, func(s *h3.Server) { s.Timeouts.Write = 100 * time.Millisecond })
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://a.example/endless", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := l.client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("the exchange knows of no failure")
		}
	case <-time.After(30 * time.Second):
		t.Error("the response still waits for its reader")
	}
	l.serves()
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestThereIsNoEarlyData(t *testing.T) {
	l := newLab(t, ok)
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", NextProtos: []string{"h3"}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 2 {
		q, err := quic.DialAddrEarly(t.Context(), l.addr.String(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-q.HandshakeComplete()
		if q.ConnectionState().Used0RTT {
			t.Error("early data was taken")
		}
		if err := q.CloseWithError(0, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestDatagramsOfOthersChangeNothing(t *testing.T) {
	l := newLab(t, ok)
	c, err := net.Dial("udp", l.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1200)
	for i := range 20000 {
		if _, err := rand.Read(b[:40]); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			b[0] |= 0xc0 // a long header, of an Initial or another
		}
		_, _ = c.Write(b) // refused when the socket is full: as good as sent
	}
	l.serves()
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	l := newLab(t, func(e *exchange.Exchange) {
		close(began)
		<-finish
		ok(e)
	})
	got := make(chan string, 1)
	c := l.client()
	go func() {
		resp, err := c.Get("https://a.example/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		got <- fmt.Sprint(string(b), err)
	}()
	<-began
	end := make(chan error, 1)
	go func() { end <- l.Shutdown(t.Context()) }()
	close(finish)
	if text := <-got; text != "ok<nil>" {
		t.Errorf("the request under way got %q", text)
	}
	c.CloseIdleConnections()
	if err := <-end; err != nil {
		t.Error(err)
	}
}
