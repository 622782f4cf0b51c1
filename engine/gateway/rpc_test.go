// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/snapshot"
)

const rpcs = `{"openapi":"3.0.1","paths":{
	"/rpc":{"post":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"POST","uri":"backend://rpc/service/method"}}},
	"/events":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"backend://plain/events"}}}}}`

// rpcLab is a lab with a backend of HTTP/2 in clear and one of HTTP/1.1.
func rpcLab(t *testing.T, h http.HandlerFunc, more ...func(*gateway.Options)) *lab {
	l := newLabWith(t, rpcs, func(o *gateway.Options) {
		for _, f := range more {
			f(o)
		}
	})
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Start()
	t.Cleanup(srv.Close)
	l.dial = func(ctx context.Context, _, _ string, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}
	target := []snapshot.Target{{Host: "10.1.0.30", Port: 9000, Weight: 1}}
	l.s.Backends["rpc"] = &snapshot.Backend{Name: "rpc", Protocol: "grpc", Targets: target}
	l.s.Backends["plain"] = &snapshot.Backend{Name: "plain", Protocol: "http", Targets: target}
	l.Swap(l.s)
	return l
}

func TestAStreamOfGRPCGoesBothWaysAtOnce(t *testing.T) {
	l := rpcLab(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("X-Seen", fmt.Sprint(r.Proto, " ", r.URL.Path, " ", r.Header.Get("Te"), " ", r.Header.Get("Grpc-Timeout")))
		for err := rc.Flush(); err == nil; {
			b := make([]byte, 100)
			var n int
			if n, err = r.Body.Read(b); n > 0 {
				if _, werr := w.Write(b[:n]); werr != nil || rc.Flush() != nil {
					return
				}
			}
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "done")
	})
	body, send := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.pub.Host+"/prod/rpc", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	r.Header.Set("Grpc-Timeout", "1H")
	// The head of the answer is here before the request has any body.
	res, err := l.h2client(t, false, "").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("X-Seen"); got != "HTTP/2.0 /service/method trailers 1H" || res.StatusCode != 200 {
		t.Errorf("%d, the backend saw %q", res.StatusCode, got)
	}
	b := make([]byte, 20)
	for i := range 10 {
		text := fmt.Sprint("message ", i)
		if _, err := io.WriteString(send, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, b[:len(text)]); err != nil || string(b[:len(text)]) != text {
			t.Fatalf("%q %v", b, err)
		}
	}
	send.Close()
	rest, err := io.ReadAll(res.Body)
	if err != nil || len(rest) != 0 || res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "done" {
		t.Errorf("%q %v %v", rest, res.Trailer, err)
	}
}

func TestACallerThatCancelsStopsTheBackend(t *testing.T) {
	stopped := make(chan struct{})
	l := rpcLab(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush() // the caller tells
		<-r.Context().Done()
		close(stopped)
	})
	ctx, cancel := context.WithCancel(t.Context())
	body, send := io.Pipe()
	defer send.Close()
	r, err := http.NewRequestWithContext(ctx, "POST", "https://"+l.pub.Host+"/prod/rpc", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.h2client(t, false, "").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cancel()
	send.CloseWithError(context.Canceled) // the client's transport sees to nothing else while it reads
	<-stopped
}

// TestASilentCallerOfAStreamIsWaitedFor: how long a request's body may take is
// no bound of a stream.
func TestASilentCallerOfAStreamIsWaitedFor(t *testing.T) {
	const short = 20 * time.Millisecond
	l := rpcLab(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.Flush() // the caller tells
		_, _ = io.Copy(w, r.Body)
	}, func(o *gateway.Options) { o.Timeouts.Body = short })
	body, send := io.Pipe()
	defer send.Close()
	res, err := l.h2client(t, false, "").Post("https://"+l.pub.Host+"/prod/rpc", "application/grpc", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-time.After(5 * short)
	if _, err := io.WriteString(send, "at last"); err != nil {
		t.Fatal(err)
	}
	send.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "at last" {
		t.Errorf("%q %v", b, err)
	}
}

func TestABackendThatResetsStopsTheCaller(t *testing.T) {
	l := rpcLab(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a part") // the caller tells
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	body, send := io.Pipe()
	defer send.Close()
	res, err := l.h2client(t, false, "").Post("https://"+l.pub.Host+"/prod/rpc", "application/grpc", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil || string(b) != "a part" {
		t.Errorf("%q %v", b, err)
	}
}

// TestEventsAreNotHeldBack: the next event is only sent when the caller has the
// one before.
func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan struct{})
	l := rpcLab(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		for i := range 5 {
			if rc.Flush() != nil {
				return
			}
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
		}
	})
	for _, c := range []*http.Client{l.h2client(t, false, ""), l.h1client(t)} {
		res, err := c.Get("https://" + l.pub.Host + "/prod/events")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len("data: 0\n\n"))
		for i := range 5 {
			next <- struct{}{}
			if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("%q %v", b, err)
			}
		}
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
			t.Errorf("%q %v", rest, err)
		}
		res.Body.Close()
	}
}

func (l *lab) h1client(t *testing.T) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: l.ca.pool, NextProtos: []string{"http/1.1"}},
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return l.connect(t, false, 443), nil },
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
