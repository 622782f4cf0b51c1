// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hinting is a lab whose backend sends interim responses before each response.
func hinting(t *testing.T, kind string) *lab {
	t.Helper()
	l := newLab(t, `{"openapi":"3.0.1","paths":{"/x":{"get":{"x-amazon-apigateway-integration":{"type":"`+kind+`","httpMethod":"GET","uri":"http://up.example/","responses":{"default":{"statusCode":"200"}}},"responses":{"200":{"description":"ok"}}}}}}`)
	l.g.HTTP = "serve"
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		c, s := loopback(t)
		go func() {
			defer s.Close()
			in := bufio.NewReader(s)
			for {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				_, _ = io.WriteString(s, "HTTP/1.1 100 Continue\r\nX-No: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nVia: 1.1 x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 7\r\n\r\n"+
					"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}()
		return c, nil
	}
	return l
}

func TestHintsReachClientsThatCanHaveThem(t *testing.T) {
	heads := regexp.MustCompile(`(?s)HTTP/1\.1 1\d\d.*?\r\n\r\n`)
	for _, tt := range []struct {
		name, kind, version string
		want                []string
	}{
		{"HTTP/1.1", "http_proxy", "HTTP/1.1", []string{"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", "HTTP/1.1 102 \r\n\r\n"}},
		{"HTTP/1.0 has none", "http_proxy", "HTTP/1.0", nil},
		{"a mapped answer has none", "http", "HTTP/1.1", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := hinting(t, tt.kind)
			c := l.connect(t, false, 80)
			fmt.Fprintf(c, "GET /prod/x %s\r\nHost: %s\r\nConnection: close\r\n\r\n", tt.version, l.pub.Host)
			b, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			got := string(b)
			if hints := heads.FindAllString(got, -1); !slices.Equal(hints, tt.want) {
				t.Errorf("%q, want %q", hints, tt.want)
			}
			if strings.Count(got, "HTTP/1.1 200 OK\r\n") != 1 || !strings.HasSuffix(got, "\r\n\r\nok") {
				t.Errorf("the response is not as it should be:\n%s", got)
			}
		})
	}
}

func TestHintsReachHTTP2(t *testing.T) {
	l := hinting(t, "http_proxy")
	var got []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		got = append(got, fmt.Sprint(code, h))
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, "GET", "https://"+l.pub.Host+"/prod/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: l.ca.pool},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return l.connect(t, false, 443), nil },
	}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "ok" || res.ProtoMajor != 2 || res.Header.Get("Link") != "" {
		t.Errorf("%v, %q, %s, %v", err, body, res.Proto, res.Header)
	}
	if want := []string{"103 map[Link:[</a.css>; rel=preload]]", "102 map[]"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
