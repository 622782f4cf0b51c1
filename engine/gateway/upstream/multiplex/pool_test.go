// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/upstream"
)

var backend = upstream.Target{Scheme: H2C, Host: "backend.internal", Port: 8080}

func get(path string) *exchange.Exchange {
	e := &exchange.Exchange{}
	e.Begin(context.Background(), time.Now())
	e.Request.Method, e.Request.Path, e.Request.Proto = "GET", path, exchange.HTTP11
	e.Request.SetAuthority("api.example.com")
	return e
}

func post(body io.Reader, length int64) *exchange.Exchange {
	e := get("/")
	e.Request.Method, e.Request.Length, e.Request.Body = "POST", length, body
	return e
}

// read reads the response's body and ends the exchange.
func read(t *testing.T, e *exchange.Exchange) string {
	t.Helper()
	b, err := io.ReadAll(e.Response.Body)
	if err != nil {
		t.Errorf("reading the body: %v", err)
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
	return string(b)
}

// house is a backend of HTTP/2 on pipes. It ends with the test, as what calls it does, in this order.
type house struct {
	dials atomic.Int32
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
	srv   *http.Server
}

func open(t *testing.T, h http.HandlerFunc) *house {
	s := &house{conns: make(chan net.Conn), gone: make(chan struct{})}
	speaks := new(http.Protocols)
	speaks.SetUnencryptedHTTP2(true)
	speaks.SetHTTP2(true)
	s.srv = &http.Server{Handler: h, Protocols: speaks}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.srv.Serve(s) // until it is closed
	}()
	t.Cleanup(func() {
		if err := s.srv.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	return s
}

func (s *house) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.gone:
		return nil, net.ErrClosed
	}
}

func (s *house) Close() error {
	s.once.Do(func() { close(s.gone) })
	return nil
}

func (s *house) Addr() net.Addr { return &net.TCPAddr{} }

func (s *house) dial(ctx context.Context, _ upstream.Target) (net.Conn, error) {
	s.dials.Add(1)
	a, b := net.Pipe()
	select {
	case s.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.gone:
		return nil, upstream.ErrRefused
	}
}

func pool(t *testing.T, c upstream.Config) *Pool {
	p := New(c)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func kind(err error) upstream.Kind {
	var f *upstream.Failure
	if errors.As(err, &f) {
		return f.Kind
	}
	return ""
}

func TestRequestsAndResponsesPassWhole(t *testing.T) {
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Add("X-Two", "a")
		w.Header().Add("X-Two", "b")
		w.WriteHeader(201)
		_ = http.NewResponseController(w).Flush() // the length is not known
		fmt.Fprintf(w, "%s %s %s %d %q te=%q ua=%q x=%q", r.Method, r.RequestURI, r.Host, r.ContentLength, b, r.Header.Values("Te"),
			r.Header.Values("User-Agent"), r.Header.Values("X-Fold"))
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Late", "yes")
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	e := post(strings.NewReader("body"), -1)
	e.Request.Path, e.Request.RawQuery, e.Request.HasQuery = "/a%2Fb//c", "x=%41", true
	e.Request.AcceptsTrailers = true
	e.Request.Header.Add("x-fold", "1")
	e.Request.Header.Add("X-FOLD", "2")
	e.Request.Header.Add("Content-Length", "77")
	e.Request.Trailer.Add("x-checksum", "abc")
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	if e.Response.Status != 201 || e.Response.Length != -1 {
		t.Errorf("status %d, length %d", e.Response.Status, e.Response.Length)
	}
	var two []string
	for v := range e.Response.Header.Values("x-two") {
		two = append(two, v)
	}
	if fmt.Sprint(two) != "[a b]" {
		t.Errorf("x-two: %q", two)
	}
	got := read(t, e)
	if want := `POST /a%2Fb//c?x=%41 backend.internal:8080 -1 "body" te=["trailers"] ua=[] x=["1" "2"]`; got != want {
		t.Errorf("the backend saw\n%s\nand not\n%s", got, want)
	}
	if a, b := e.Response.Trailer.Get("grpc-status"), e.Response.Trailer.Get("late"); a != "0" || b != "yes" {
		t.Errorf("trailers %q %q", a, b)
	}
}

func TestAnAnswerWithoutBodyKeepsItsFields(t *testing.T) {
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "12")
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	e := post(strings.NewReader("\x00\x00\x00\x00\x00"), 5)
	e.Request.Header.Add("Content-Type", "application/grpc+proto")
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	if s := e.Response.Header.Get("Grpc-Status"); s != "12" || e.Response.Length != 0 {
		t.Errorf("grpc-status %q, length %d", s, e.Response.Length)
	}
	if b := read(t, e); b != "" {
		t.Errorf("body %q", b)
	}
}

// pipe is a request's body that can be interrupted.
type pipe struct {
	*io.PipeReader
	aborted atomic.Int32
}

func (p *pipe) Abort() {
	p.aborted.Add(1)
	p.CloseWithError(errors.New("interrupted"))
}

func newPipe() (*pipe, *io.PipeWriter) {
	r, w := io.Pipe()
	return &pipe{PipeReader: r}, w
}

// echo sends back what it reads, as it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return
	}
	p := make([]byte, 100)
	for {
		n, err := r.Body.Read(p)
		if n > 0 {
			if _, err := w.Write(p[:n]); err != nil || rc.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func TestBothDirectionsAreUnderWayAtOnce(t *testing.T) {
	s := open(t, echo)
	p := pool(t, upstream.Config{Dial: s.dial})
	r, w := newPipe()
	e := post(r, -1)
	// The answer's head is here before the first byte of the request's body.
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	for i := range 10 {
		msg := fmt.Sprintf("message %d", i)
		if _, err := io.WriteString(w, msg); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(e.Response.Body, b[:len(msg)]); err != nil || string(b[:len(msg)]) != msg {
			t.Fatalf("%q: %v", b, err)
		}
	}
	w.Close()
	if rest := read(t, e); rest != "" {
		t.Errorf("%q comes behind", rest)
	}
	if n := r.aborted.Load(); n != 0 {
		t.Error("the client's connection is given up although its request was complete")
	}
}

func TestAClientThatGoesStopsTheBackend(t *testing.T) {
	stopped := make(chan error, 1)
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush() // the read tells
		<-r.Context().Done()
		stopped <- r.Context().Err()
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	ctx, gone := context.WithCancel(t.Context())
	r, w := newPipe()
	defer w.Close()
	e := post(r, -1)
	if err := p.Do(ctx, &upstream.Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	gone()
	if _, err := io.ReadAll(e.Response.Body); kind(err) != upstream.Canceled {
		t.Errorf("%v", err)
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err == nil {
		t.Error("the backend goes on")
	}
	if p.Open() != 1 {
		t.Errorf("%d connections: other calls may be on it", p.Open())
	}
}

func TestAnExchangeThatEndsEarlyStopsTheBackend(t *testing.T) {
	stopped := make(chan struct{})
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(stopped)
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	r, w := newPipe()
	defer w.Close()
	e := post(r, -1)
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
	<-stopped
}

func TestABackendThatStopsFailsTheResponse(t *testing.T) {
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "a part")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	e := get("/")
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(e.Response.Body)
	if string(b) != "a part" || kind(err) != upstream.Reset {
		t.Errorf("%q %v", b, err)
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
}

func TestABrokenRequestBodyIsNotTakenForTheWhole(t *testing.T) {
	ended := make(chan error, 1)
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		ended <- err
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	r, w := newPipe()
	e := post(r, -1)
	go func() {
		_, _ = io.WriteString(w, "half") // the reader tells
		w.CloseWithError(errors.New("the client is gone"))
	}()
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); kind(err) != upstream.RequestBody {
		t.Errorf("%v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the backend takes half a body for the whole")
	}
	if err := e.Finish(); err != nil {
		t.Error(err)
	}
}

func TestCallsShareConnections(t *testing.T) {
	const calls = 3 * maxStreams
	var in sync.WaitGroup
	in.Add(calls)
	leave := make(chan struct{})
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		in.Done()
		<-leave
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			e := get("/")
			if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
				t.Error(err)
			}
			read(t, e)
		})
	}
	in.Wait()
	close(leave)
	wg.Wait()
	if n := s.dials.Load(); n < 3 || n > 6 {
		t.Errorf("%d connections for %d calls", n, calls)
	}
}

func TestConnectionsAreNotSharedBetweenZones(t *testing.T) {
	s := open(t, func(http.ResponseWriter, *http.Request) {})
	p := pool(t, upstream.Config{Dial: s.dial})
	for i, zone := range []string{"a", "b", "a", "b"} {
		target := backend
		target.Zone = zone
		e := get("/")
		if err := p.Do(t.Context(), &upstream.Call{Target: target}, e); err != nil {
			t.Fatal(err)
		}
		read(t, e)
		if n, want := int(s.dials.Load()), min(i+1, 2); n != want {
			t.Errorf("%d connections after call %d", n, i+1)
		}
	}
}

func TestReviewClosesWhatMayNoLongerBe(t *testing.T) {
	s := open(t, echo)
	p := pool(t, upstream.Config{Dial: s.dial})
	call := func() *exchange.Exchange {
		r, w := newPipe()
		e := post(r, -1)
		if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
			t.Fatal(err)
		}
		e.OnDone(func(*exchange.Exchange) {})
		t.Cleanup(func() { w.Close() })
		return e
	}
	e := call()
	p.Review(func(upstream.Target, net.Conn) bool { return false })
	if p.Open() != 1 {
		t.Error("a connection that stands is closed")
	}
	p.Review(func(target upstream.Target, c net.Conn) bool { return target == backend && c.RemoteAddr() != nil })
	if p.Open() != 1 {
		t.Error("a call under way is cut")
	}
	other := call()
	if n := s.dials.Load(); n != 2 {
		t.Error("a call goes over a connection that may no longer be")
	}
	for _, e := range []*exchange.Exchange{e, other} {
		if err := e.Finish(); err != nil {
			t.Error(err)
		}
	}
	if p.Open() != 1 {
		t.Errorf("%d connections stay", p.Open())
	}
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	asked := make(chan struct{})
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	p := pool(t, upstream.Config{Dial: s.dial})
	failed := make(chan error)
	go func() { failed <- p.Do(t.Context(), &upstream.Call{Target: backend}, get("/")) }()
	<-asked
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; kind(err) != upstream.Canceled {
		t.Errorf("%v", err)
	}
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, get("/")); kind(err) != upstream.Canceled {
		t.Errorf("after Close: %v", err)
	}
}

func TestFailuresToConnectAreToldApart(t *testing.T) {
	for want, err := range map[upstream.Kind]error{
		upstream.DNS: upstream.ErrDNS, upstream.Refused: upstream.ErrRefused, upstream.Unreachable: upstream.ErrUnreachable,
	} {
		p := pool(t, upstream.Config{Dial: func(context.Context, upstream.Target) (net.Conn, error) { return nil, err }})
		got := p.Do(t.Context(), &upstream.Call{Target: backend}, get("/"))
		if kind(got) != want || !errors.Is(got, err) {
			t.Errorf("%v is %s", got, kind(got))
		}
	}
}

func TestABackendOfAnotherVersionFails(t *testing.T) {
	p := pool(t, upstream.Config{Dial: func(context.Context, upstream.Target) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			_, _ = b.Read(make([]byte, 1000))
			_, _ = io.WriteString(b, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, b)
			b.Close()
		}()
		return a, nil
	}})
	if err := p.Do(t.Context(), &upstream.Call{Target: backend}, get("/")); err == nil {
		t.Error("it answers")
	}
}

func TestWhatTheGrammarForbidsIsNotSent(t *testing.T) {
	p := pool(t, upstream.Config{Dial: func(context.Context, upstream.Target) (net.Conn, error) {
		t.Error("it dials")
		return nil, upstream.ErrRefused
	}})
	for _, path := range []string{"/a b", "/a\r\nx: y", ""} {
		e := get("/")
		h := new(exchange.Header)
		if path == "" {
			path = "/"
			h.Add("a", "b\r\nc: d")
		}
		err := p.Do(t.Context(), &upstream.Call{Target: backend, Path: path, Header: h}, e)
		if kind(err) != upstream.Request {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// secured is a backend with TLS, and the roots to trust it by.
func secured(t *testing.T, http2 bool) (*httptest.Server, upstream.Config, upstream.Target) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	srv.EnableHTTP2 = http2
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, upstream.Config{
		Dial: func(ctx context.Context, _ upstream.Target) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
		},
		TLS: func(upstream.Target) *tls.Config { return &tls.Config{RootCAs: roots} },
	}, upstream.Target{Scheme: "https", Host: "example.com", Port: 443}
}

func TestTheVersionIsAgreedUnderTLS(t *testing.T) {
	_, cfg, target := secured(t, true)
	p := pool(t, cfg)
	for _, scheme := range []string{"https", GRPCS} {
		target.Scheme = scheme
		e := get("/")
		if err := p.Do(t.Context(), &upstream.Call{Target: target}, e); err != nil {
			t.Fatal(err)
		}
		if got := read(t, e); got != "HTTP/2.0" {
			t.Errorf("%s: %s", scheme, got)
		}
	}
	target.Host = "example.net"
	if err := p.Do(t.Context(), &upstream.Call{Target: target}, get("/")); kind(err) != upstream.TLS {
		t.Errorf("a certificate for another name: %v", err)
	}
}

func TestATargetThatSpeaksNoHTTP2IsLeftToHTTP1(t *testing.T) {
	_, cfg, target := secured(t, false)
	var dials atomic.Int32
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context, t upstream.Target) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, t)
	}
	p := pool(t, cfg)
	for range 3 {
		err := p.Do(t.Context(), &upstream.Call{Target: target}, get("/"))
		if !errors.Is(err, ErrOldVersion) {
			t.Errorf("%v", err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("it is asked %d times", n)
	}
}

func TestTimeouts(t *testing.T) {
	tests := []struct {
		name  string
		call  upstream.Call
		edit  func(*exchange.Exchange)
		head  time.Duration // when the head comes
		every time.Duration // between parts, of which there are 10
		media string
		err   upstream.Kind // of the call
		body  upstream.Kind // of its body
		took  time.Duration
	}{
		{name: "a slow head", call: upstream.Call{Timeout: time.Minute}, head: time.Hour, err: upstream.Timeout, took: 29 * time.Second},
		{name: "the whole", call: upstream.Call{Timeout: 3 * time.Second}, every: time.Second, body: upstream.Timeout, took: 3 * time.Second},
		{name: "events", call: upstream.Call{Timeout: 3 * time.Second}, every: 4 * time.Second, media: "text/event-stream", took: 40 * time.Second},
		{
			name: "silent events", call: upstream.Call{Timeout: 3 * time.Second, Stream: 2 * time.Second},
			every: 4 * time.Second, media: "text/event-stream", body: upstream.Timeout, took: 2 * time.Second,
		},
		{
			name: "gRPC", edit: func(e *exchange.Exchange) { e.Request.Header.Add("content-type", "application/grpc") },
			head: time.Minute, every: 4 * time.Minute, took: 41 * time.Minute,
		},
		{
			name: "silent gRPC", edit: func(e *exchange.Exchange) { e.Request.Header.Add("content-type", "application/grpc") },
			head: time.Hour, err: upstream.Timeout, took: 5 * time.Minute,
		},
		{
			name: "a stream of Connect", edit: func(e *exchange.Exchange) { e.Request.Header.Add("content-type", "application/connect+proto") },
			every: 40 * time.Second, took: 400 * time.Second,
		},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, func(w http.ResponseWriter, r *http.Request) {
				wait := func(d time.Duration) bool {
					select {
					case <-time.After(d):
						return true
					case <-r.Context().Done():
						return false
					}
				}
				if tt.media != "" {
					w.Header().Set("Content-Type", tt.media)
				}
				if !wait(tt.head) || http.NewResponseController(w).Flush() != nil {
					return
				}
				for range 10 {
					if !wait(tt.every) {
						return
					}
					fmt.Fprint(w, ".")
					if http.NewResponseController(w).Flush() != nil {
						return
					}
				}
			})
			p := New(upstream.Config{Dial: s.dial})
			defer p.Close()
			e := post(strings.NewReader("x"), 1)
			if tt.edit != nil {
				tt.edit(e)
			}
			began := time.Now()
			call := tt.call
			call.Target = backend
			err := p.Do(t.Context(), &call, e)
			if kind(err) != tt.err {
				t.Errorf("%s: %v", tt.name, err)
			}
			if err == nil {
				_, err := io.ReadAll(e.Response.Body)
				if kind(err) != tt.body {
					t.Errorf("%s: reading: %v", tt.name, err)
				}
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

func TestAHeadThatComesBeforeTheRequestHasEndedIsNotWaitedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			err := http.NewResponseController(w).Flush()
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
			}
			if err != nil {
				return
			}
			select {
			case <-time.After(time.Minute):
				fmt.Fprint(w, "event")
			case <-r.Context().Done():
			}
		})
		p := New(upstream.Config{Dial: s.dial})
		defer p.Close()
		in, out := io.Pipe()
		e := post(in, -1)
		if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		if got := read(t, e); got != "event" {
			t.Errorf("got %q", got)
		}
	})
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
			s := open(t, func(w http.ResponseWriter, r *http.Request) {
				err := http.NewResponseController(w).Flush()
				if err == nil {
					_, err = io.Copy(w, r.Body)
				}
				if err != nil {
					t.Error(err)
				}
			})
			p := New(upstream.Config{Dial: s.dial})
			defer p.Close()
			e := post(&late{}, -1)
			e.Request.Continue = waits
			began := time.Now()
			if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
				t.Fatal(err)
			}
			if asked := time.Since(began) == time.Second; asked != waits {
				t.Errorf("waits %v: answered after %s", waits, time.Since(began))
			}
			if got := read(t, e); got != "late" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(http.ResponseWriter, *http.Request) {})
		p := New(upstream.Config{Dial: s.dial})
		defer p.Close()
		e := get("/")
		if err := p.Do(t.Context(), &upstream.Call{Target: backend}, e); err != nil {
			t.Fatal(err)
		}
		read(t, e)
		if p.Open() != 1 {
			t.Errorf("%d connections", p.Open())
		}
		time.Sleep(46 * time.Second)
		if p.Open() != 0 {
			t.Error("it stays")
		}
	})
}
