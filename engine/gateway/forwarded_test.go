// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBackendsLearnWhereARequestComesFrom: what a caller says of itself never
// reaches a backend, what a trusted proxy says of it does.
func TestBackendsLearnWhereARequestComesFrom(t *testing.T) {
	l := newLab(t, `{"openapi":"3.0.1","paths":{"/x":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":"http://up.example/"}}}}}`)
	l.g.HTTP = "serve"
	told := make(chan http.Header, 1)
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		c, s := loopback(t)
		go func() {
			defer s.Close()
			q, err := http.ReadRequest(bufio.NewReader(s))
			if err != nil {
				t.Error(err)
			}
			told <- q.Header
			_, _ = s.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
		}()
		return c, nil
	}
	const spoofed = "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nX_Forwarded_For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Host: shop.example:8443\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\nVia: 1.0 front\r\n"
	own := map[string][]string{
		"X-Forwarded-For": {"198.51.100.7"}, "Forwarded": {"for=198.51.100.7;host=" + l.pub.Host + ";proto=http"},
		"X-Forwarded-Host": {l.pub.Host}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Port": {"80"}, "Via": {"1.0 front", "1.1 postern"},
	}
	for _, tt := range []struct {
		name    string
		trusted string
		fields  string
		want    map[string][]string
	}{
		{"a stranger", "192.0.2.0/24", spoofed, own},
		{"a proxy", "198.51.100.0/24", spoofed, map[string][]string{
			"X-Forwarded-For": {"203.0.113.9, 198.51.100.7"}, "Forwarded": {`for=203.0.113.9;host="shop.example:8443";proto=https, for=198.51.100.7`},
			"X-Forwarded-Host": {"shop.example:8443"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"8443"}, "Via": {"1.0 front", "1.1 postern"},
		}},
		{"a proxy of few words", "198.51.100.0/24", "X-Forwarded-For: 2001:db8::9\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 1e4\r\nX-Forwarded-Host: a b\r\n", map[string][]string{
			"X-Forwarded-For": {"2001:db8::9, 198.51.100.7"}, "Forwarded": {`for="[2001:db8::9]";host=` + l.pub.Host + `;proto=http, for=198.51.100.7`},
			"X-Forwarded-Host": {l.pub.Host}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Port": {"80"}, "Via": {"1.1 postern"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.g.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
			c := l.connect(t, false, 80)
			fmt.Fprintf(c, "GET /prod/x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", l.pub.Host, tt.fields)
			got := map[string][]string{}
			for n, v := range <-told {
				if n == "Via" || strings.Contains(strings.ReplaceAll(n, "_", "-"), "Forwarded") {
					got[n] = v
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("the backend is told (-want +got):\n%s", d)
			}
		})
	}
}

// TestARequestIsRememberedWithTheProxysWord, so that it can be asked again.
func TestARequestIsRememberedWithTheProxysWord(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	l.g.HTTP = "serve"
	said := map[string]string{"X-Forwarded-For": "203.0.113.9"}
	for _, tt := range []struct{ trusted, want string }{{"198.51.100.0/24", "203.0.113.9"}, {"192.0.2.0/24", ""}} {
		l.g.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(tt.trusted)}
		res, _ := l.get(t, false, "GET", "http://"+l.pub.Host+"/prod/pets", said, "")
		rec, ok := l.Recent(res.Header.Get("x-postern-request-id"))
		if !ok || rec.ForwardedFor != tt.want {
			t.Errorf("trusting %s: %v, %q", tt.trusted, ok, rec.ForwardedFor)
		}
	}
	l.g.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	c := l.connect(t, false, 80)
	fmt.Fprintf(c, "GET /prod/pets HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For:\r\n\r\n", l.pub.Host)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if rec, ok := l.Recent(res.Header.Get("x-postern-request-id")); !ok || rec.ForwardedFor != "192.0.2.1, 203.0.113.9" {
		t.Errorf("of several fields, one of them empty: %v, %q", ok, rec.ForwardedFor)
	}
}
