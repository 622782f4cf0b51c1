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
	"strings"
	"testing"
)

// TestTheEnginesOwnAnswersAreAnswersToo holds what is said where no operation
// and no decision came to an answer to what every answer has.
func TestTheEnginesOwnAnswersAreAnswersToo(t *testing.T) {
	l := newLab(t, `{"openapi":"3.0.1","paths":{"/{p}":{"x-amazon-apigateway-any-method":{"x-amazon-apigateway-integration":{"type":"http_proxy","uri":"http://b.example/"}}}}}`)
	backend := "" // what it answers before it closes
	l.dial = func(context.Context, string, string, uint16) (net.Conn, error) {
		if backend == "" {
			panic("a fault of ours")
		}
		c, s := net.Pipe()
		go func(answer string) {
			defer s.Close()
			b := make([]byte, 1024)
			if _, err := s.Read(b); err == nil {
				_, _ = io.WriteString(s, answer)
			}
		}(backend)
		return c, nil
	}
	for _, x := range []struct {
		name, backend, kind, text string
		length, status            int
	}{
		{name: "a panic", status: 500, kind: "InternalServerErrorException", text: `{"message":"Internal server error"}`},
		{name: "a backend that breaks off", backend: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", status: 502, kind: "InternalServerErrorException", text: `{"message":"Internal server error"}`},
		{name: "a body above the limit", length: 10<<20 + 1, status: 413, kind: "RequestTooLargeException", text: `{"message":"Request Too Long"}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			backend = x.backend
			c := tls.Client(l.connect(t, false, 443), &tls.Config{RootCAs: l.ca.pool, ServerName: l.pub.Host})
			defer c.Close()
			if _, err := fmt.Fprintf(c, "PUT /prod/x HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", l.pub.Host, x.length); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			body := string(b)
			id := res.Header.Get("x-postern-request-id")
			if res.StatusCode != x.status || body != x.text || res.Header.Get("x-amzn-ErrorType") != x.kind || len(id) != uuidLen || res.Header.Get("x-amzn-RequestId") != id || res.Header.Get("x-amz-apigw-id") == "" {
				t.Fatalf("%d %q %v", res.StatusCode, body, res.Header)
			}
			rec, ok := l.Recent(id)
			if !ok || rec.Status != x.status || rec.Path != "/prod/x" {
				t.Errorf("remembered: %v %+v", ok, rec)
			}
		})
	}
}

// TestValuesDoNotBecomeStructure sends values that would change a message if
// they were copied as they are.
func TestValuesDoNotBecomeStructure(t *testing.T) {
	op := func(in string) string {
		return `{"x-amazon-apigateway-any-method":{"x-amazon-apigateway-integration":` + in + `}}`
	}
	big := strings.Repeat("$input.params('q')", 2000)
	l := newLab(t, `{"openapi":"3.0.1","paths":{
		"/answer":`+op(`{"type":"http","uri":"http://b.example/","responses":{"default":{"statusCode":"200","responseParameters":{"method.response.header.X-Q":"integration.response.body.body"}}}}`)+`,
		"/call":`+op(`{"type":"http_proxy","uri":"http://b.example/","requestParameters":{"integration.request.header.X-Q":"method.request.querystring.q"}}`)+`,
		"/framing":`+op(`{"type":"http_proxy","uri":"http://b.example/","requestParameters":{"integration.request.header.Transfer-Encoding":"method.request.querystring.q","integration.request.header.Content-Length":"method.request.querystring.q","integration.request.header.Host":"method.request.querystring.q"}}`)+`,
		"/large":`+op(`{"type":"mock","requestTemplates":{"application/json":"{\"statusCode\": 200}"},"responses":{"default":{"statusCode":"200","responseTemplates":{"text/plain":"`+big+`"}}}}`)+`
	}}`)
	backend(t, l)
	for _, x := range []struct{ path, body, want string }{
		{"/answer", "a\r\nSet-Cookie: x", "500"},
		{"/answer", "a", "200"},
		{"/call?q=a%0d%0aX:%20y", "", "500"},
		{"/call?q=a", "", "200 POST b.example /?q=a"},
		{"/framing?q=chunked", "", "200 POST b.example /?q=chunked"},
		{"/large?q=" + strings.Repeat("x", 9000), "", "500"},
		{"/large?q=x", "", "200"},
	} {
		res, body := l.get(t, false, "POST", "https://"+l.pub.Host+"/prod"+x.path, nil, x.body)
		status, asked, _ := strings.Cut(x.want, " ")
		if fmt.Sprint(res.StatusCode) != status || res.Header.Get("Set-Cookie") != "" || !strings.Contains(body, asked) {
			t.Errorf("%.40s: %d %v %.200s", x.path, res.StatusCode, res.Header, body)
		}
	}
}

func TestALongRequestIsRememberedWhole(t *testing.T) {
	l := newLab(t, `"example:petstore"`)
	path := "/prod/pets/1/" + strings.Repeat("x", 9000)
	res, _ := l.get(t, false, "GET", "https://"+l.pub.Host+path, nil, "")
	if rec, ok := l.Recent(res.Header.Get("x-postern-request-id")); !ok || rec.Path != path {
		t.Errorf("%v, %d bytes of %d", ok, len(rec.Path), len(path))
	}
}
