// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/snapshot"
)

// speak prepares a keep-alive connection in clear to the public API and a
// backend that answers the least there is, both without allocating themselves.
func speak(t testing.TB, to func(*lab) net.Conn) (ask func(), l *lab) {
	t.Helper()
	return speakWith(t, to, func(*gateway.Options) {})
}

// speakWith is speak to an Engine of other options.
func speakWith(t testing.TB, to func(*lab) net.Conn, more func(*gateway.Options)) (ask func(), l *lab) {
	t.Helper()
	l = newLabWith(t, `{"openapi":"3.0.1","paths":{"/x/{id}":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","uri":"http://up.example/base/{id}"}}}}}`, more)
	l.g.HTTP = "serve"
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		c, s := loopback(t)
		go func() {
			defer s.Close()
			buf := make([]byte, 4096)
			answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: x\r\nContent-Length: 2\r\n\r\nok")
			for {
				if _, err := s.Read(buf); err != nil {
					return
				}
				if _, err := s.Write(answer); err != nil {
					return
				}
			}
		}()
		return c, nil
	}
	c := to(l)
	request := fmt.Appendf(nil, "GET /prod/x/42?a=1 HTTP/1.1\r\nHost: %s\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n", l.pub.Host)
	buf := make([]byte, 8192)
	ask = func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil || n < 100 || string(buf[n-6:n]) != "\r\n\r\nok" {
			t.Fatalf("%v: %q", err, buf[:n])
		}
	}
	return ask, l
}

func TestAProxiedRequestCostsNoAllocation(t *testing.T) {
	for name, to := range map[string]func(*lab) net.Conn{
		"on the segment": func(l *lab) net.Conn { return l.connect(t, false, 80) },
		"by a real socket": func(l *lab) net.Conn {
			l.g.PublicPorts[80] = snapshot.Components{snapshot.ComponentGateway}
			return l.arrive(t, &snapshot.Origin{Source: netip.MustParseAddrPort("198.51.100.7:50000"), Local: netip.MustParseAddrPort("203.0.113.1:80")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ask, _ := speak(t, to)
			for range 2 * remembered { // until every buffer has been there before
				ask()
			}
			if n := testing.AllocsPerRun(200, ask); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestIDsAreNotRepeated(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "serve"
	c := l.connect(t, false, 80)
	in := bufio.NewReader(c)
	seen := map[string]bool{}
	for range 20 {
		fmt.Fprintf(c, "GET /prod/pets HTTP/1.1\r\nHost: %s\r\n\r\n", l.pub.Host)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		for _, k := range []string{"x-amzn-RequestId", "x-amz-apigw-id", "X-Amzn-Trace-Id"} {
			if v := res.Header.Get(k); v == "" || seen[v] {
				t.Errorf("%s: %q again", k, v)
			} else {
				seen[v] = true
			}
		}
	}
}

func TestOnlyTheLastRequestsAreRemembered(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "serve"
	first := ""
	for i := range remembered + 1 {
		res, _ := l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/pets", nil, "")
		id := res.Header.Get("x-postern-request-id")
		if i == 0 {
			first = id
		}
		if _, ok := l.Recent(id); !ok {
			t.Errorf("request %d is forgotten at once", i)
		}
	}
	if _, ok := l.Recent(first); ok {
		t.Error("the first one is remembered although the memory is full of later ones")
	}
	if _, ok := l.Recent(""); ok {
		t.Error("an empty id found something")
	}
}

func BenchmarkProxiedRequest(b *testing.B) {
	ask, _ := speak(b, func(l *lab) net.Conn { return l.connect(b, false, 80) })
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}
