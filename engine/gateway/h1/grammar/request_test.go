// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"postern.dev/postern/engine/gateway/exchange"
)

var defaults = Limits{}.WithDefaults()

// parsed is a whole request, read.
type parsed struct {
	r    exchange.Request
	cn   Connection
	body string
	rest string // what follows the request
	src  Source
}

// parse reads one whole request.
func parse(r io.Reader, l Limits) (*parsed, error) {
	p := &parsed{}
	p.src.Reset(r)
	head, err := p.src.Head(&l, true)
	if err != nil {
		return nil, err
	}
	cn, bad := ParseRequest(head, &p.r, &l)
	if bad != nil {
		return nil, bad
	}
	p.cn = cn
	var b Body
	kind := Sized
	if p.r.Length < 0 {
		kind = Chunked
	}
	b.Reset(&p.src, kind, p.r.Length, &l, &p.r.Trailer)
	body, err := io.ReadAll(&b)
	if err != nil {
		return nil, err
	}
	p.body = string(body)
	rest, err := io.ReadAll(io.MultiReader(strings.NewReader(string(p.src.buf[p.src.pos:p.src.end])), r))
	p.rest = string(rest)
	return p, err
}

const host = "Host: a.example\r\n"

func TestRequestsThatMeanOneThingAreAccepted(t *testing.T) {
	long := strings.Repeat("a", 10240)
	tests := []struct {
		name, in                 string
		path, query, host, rest  string
		method, body             string
		close, continue_, length bool // length: unknown
	}{
		{name: "plain", in: "GET / HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "an empty line before", in: "\r\nGET / HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "any token is a method", in: "M-SEARCH /x HTTP/1.1\r\n" + host + "\r\n", method: "M-SEARCH", path: "/x", host: "a.example"},
		{name: "query", in: "GET /a/b?c=d&e=?/ HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/a/b", query: "c=d&e=?/", host: "a.example"},
		{name: "query as browsers send it", in: "GET /?a[]=1&b={x}^` HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/", query: "a[]=1&b={x}^`", host: "a.example"},
		{name: "percent-encoded", in: "GET /%2e%2E/%C3%A9 HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/%2e%2E/%C3%A9", host: "a.example"},
		{name: "double slash", in: "GET //x HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "//x", host: "a.example"},
		{name: "absolute", in: "GET http://A.example/x?y HTTP/1.1\r\nHost: a.EXAMPLE\r\n\r\n", method: "GET", path: "/x", query: "y", host: "a.example"},
		{name: "absolute without path", in: "GET http://a.example?y HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/", query: "y", host: "a.example"},
		{name: "asterisk", in: "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", method: "OPTIONS", path: "*", host: "a.example"},
		{name: "port", in: "GET / HTTP/1.1\r\nHost: a.example:8443\r\n\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "IPv6", in: "GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", method: "GET", path: "/", host: "2001:db8::1"},
		{name: "no space after the colon", in: "GET / HTTP/1.1\r\nHost:a.example\r\n\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "white space around a value", in: "GET / HTTP/1.1\r\nHost: \t a.example\t \r\n\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "empty value", in: "GET / HTTP/1.1\r\n" + host + "X:\r\n\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "obs-text", in: "GET / HTTP/1.1\r\n" + host + "X: \xe9\r\n\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "length", in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhelloGET", method: "POST", path: "/", host: "a.example", body: "hello", rest: "GET"},
		{name: "leading zeros", in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 005\r\n\r\nhello", method: "POST", path: "/", host: "a.example", body: "hello"},
		{name: "GET with a body", in: "GET / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi", method: "GET", path: "/", host: "a.example", body: "hi"},
		{name: "chunked", in: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n3\r\nfoo\r\n0A\r\n0123456789\r\n0\r\n\r\nGET", method: "POST", path: "/", host: "a.example", body: "foo0123456789", length: true, rest: "GET"},
		{name: "chunk extensions", in: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;a;b=c;d=\"e;\\\"\"\r\nfoo\r\n0;z\r\n\r\n", method: "POST", path: "/", host: "a.example", body: "foo", length: true},
		{name: "trailer", in: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\nX-Sum: 1\r\n\r\n", method: "POST", path: "/", host: "a.example", body: "foo", length: true},
		{name: "close", in: "GET / HTTP/1.1\r\n" + host + "Connection: foo, Close\r\n\r\n", method: "GET", path: "/", host: "a.example", close: true},
		{name: "expect", in: "POST / HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", method: "POST", path: "/", host: "a.example", body: "x", continue_: true},
		{name: "HTTP/1.0", in: "GET / HTTP/1.0\r\n\r\n", method: "GET", path: "/", close: true},
		{name: "HTTP/1.0 kept", in: "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", method: "GET", path: "/"},
		{name: "a later minor version", in: "GET / HTTP/1.2\r\n" + host + "\r\n", method: "GET", path: "/", host: "a.example"},
		{name: "longest target", in: "GET /" + long[:10239] + " HTTP/1.1\r\n" + host + "\r\n", method: "GET", path: "/" + long[:10239], host: "a.example"},
		{name: "largest fields", in: "GET / HTTP/1.1\r\n" + host + "X: " + long[:10240-len(host)-5] + "\r\n\r\n", method: "GET", path: "/", host: "a.example"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
				p, err := parse(r, defaults)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				q := &p.r
				if q.Method != tt.method || q.Path != tt.path || q.RawQuery != tt.query || q.Host != tt.host {
					t.Errorf("%s: %s %s ? %s at %s", how, q.Method, q.Path, q.RawQuery, q.Host)
				}
				if p.body != tt.body || p.rest != tt.rest || (q.Length < 0) != tt.length {
					t.Errorf("%s: body %q, length %d, rest %q", how, p.body, q.Length, p.rest)
				}
				if p.cn.Close != tt.close || p.cn.Continue != tt.continue_ {
					t.Errorf("%s: connection %+v", how, p.cn)
				}
				if q.Host != "" {
					oneMeaning(t, tt.in, p)
				}
			}
		})
	}
}

// fields is a request with these fields beside Host.
func fields(s string) string { return "POST / HTTP/1.1\r\n" + host + s + "\r\n" }

// chunks is a request with this chunked body.
func chunks(s string) string { return fields("Transfer-Encoding: chunked\r\n") + s }

// refusal is a request and why it is refused.
type refusal struct {
	in   string
	want *Error
}

func refusals() []refusal {
	long := strings.Repeat("a", 10240)
	return []refusal{
		// Lines.
		{"GET / HTTP/1.1\nHost: a.example\n\n", ErrBareLF},
		{"GET / HTTP/1.1\r\nHost: a.example\n\r\n", ErrBareLF},
		{"GET / HTTP/1.1\r\nHost: a.example\r\n\n", ErrBareLF},
		{"GET / HTTP/1.1\r\nHost: a.example\r\nX: a\rb\r\n\r\n", ErrBareCR},
		{"GET / HTTP/1.1\r\nHost: a.example\r\nX: a\r\r\n\r\n", ErrBareCR},
		{"GET / HTTP/1.1\r\r\nHost: a.example\r\n\r\n", ErrVersion},
		{"\nGET / HTTP/1.1\r\n" + host + "\r\n", ErrBareLF},
		{"\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"\r\n GET / HTTP/1.1\r\n" + host + "\r\n", ErrNotHTTP},
		{"\x16\x03\x01\x02\x00", ErrNotHTTP},
		{" GET / HTTP/1.1\r\n" + host + "\r\n", ErrNotHTTP},
		// The request line.
		{"GET /\r\n" + host + "\r\n", ErrRequestLine},
		{"GET\r\n\r\n", ErrRequestLine},
		{"GET  / HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /  HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET / HTTP/1.1 \r\n" + host + "\r\n", ErrVersion},
		{"GET\t/ HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"GET\t/ x HTTP/1.1\r\n" + host + "\r\n", ErrMethod},
		{"G(T / HTTP/1.1\r\n" + host + "\r\n", ErrMethod},
		{strings.Repeat("A", 33) + " / HTTP/1.1\r\n" + host + "\r\n", ErrMethodTooLong},
		{"CONNECT a.example:443 HTTP/1.1\r\n" + host + "\r\n", ErrConnect},
		{"GET / HTTP/2.0\r\n" + host + "\r\n", ErrVersionUnknown},
		{"GET / HTTP/0.9\r\n" + host + "\r\n", ErrVersionUnknown},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrVersionUnknown},
		{"GET / HTTP/11\r\n" + host + "\r\n", ErrVersion},
		{"GET / HTTP/1.10\r\n" + host + "\r\n", ErrVersion},
		{"GET / http/1.1\r\n" + host + "\r\n", ErrVersion},
		{"GET / HTTP/1,1\r\n" + host + "\r\n", ErrVersion},
		{"GET / HTTP/+1.1\r\n" + host + "\r\n", ErrVersion},
		// The target.
		{"GET x HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET * HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET a.example:443 HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET ?x HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /a#b HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /a b HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /a\\b HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /a\"b HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /\x80 HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /\x00 HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /a\rb HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /\x7f HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /%zz HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /%2 HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /?a=%g1 HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /?a=b|c HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET ftp://a.example/ HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"GET /" + long + " HTTP/1.1\r\n" + host + "\r\n", ErrTargetTooLong},
		{"GET /" + long + long, ErrTargetTooLong},
		// Host.
		{"GET / HTTP/1.1\r\n\r\n", ErrHostMissing},
		{"GET http://a.example/ HTTP/1.1\r\n\r\n", ErrHostMissing},
		{"GET / HTTP/1.1\r\n" + host + host + "\r\n", ErrHostRepeated},
		{"GET / HTTP/1.0\r\n" + host + "hOST: b\r\n\r\n", ErrHostRepeated},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example b\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example:x\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example:99999\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example:0\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a.example:80:80\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a%2eexample\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: a..example\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: .example\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: [127.0.0.1]\r\n\r\n", ErrHostInvalid},
		{"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", ErrHostInvalid},
		{"GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n", ErrHostDisagrees},
		{"GET http://a.example:80/ HTTP/1.1\r\n" + host + "\r\n", ErrHostDisagrees},
		{"GET http://u@a.example/ HTTP/1.1\r\n" + host + "\r\n", ErrHostInvalid},
		{"GET http:///x HTTP/1.1\r\n" + host + "\r\n", ErrHostInvalid},
		// Fields.
		{"GET / HTTP/1.1\r\n X: a\r\n" + host + "\r\n", ErrFoldedField},
		{fields("X: a\r\n b\r\n"), ErrFoldedField},
		{fields("X: a\r\n\tb\r\n"), ErrFoldedField},
		{fields("X : a\r\n"), ErrFieldName},
		{fields("X\t: a\r\n"), ErrFieldName},
		{fields("Content-Length : 1\r\n"), ErrFieldName},
		{fields(": a\r\n"), ErrFieldName},
		{fields("X\r\n"), ErrFieldName},
		{fields("X\x00: a\r\n"), ErrFieldName},
		{fields("X(: a\r\n"), ErrFieldName},
		{fields("\xc3\xa9: a\r\n"), ErrFieldName},
		{fields("X: a\x00b\r\n"), ErrFieldValue},
		{fields("X: a\x0bb\r\n"), ErrFieldValue},
		{fields("X: a\x7fb\r\n"), ErrFieldValue},
		{fields("X: " + long + "\r\n"), ErrFieldsTooLarge},
		{"GET / HTTP/1.1\r\n" + host + "X: " + long + long, ErrFieldsTooLarge},
		{fields(strings.Repeat("X: a\r\n", 100)), ErrTooManyFields},
		// Framing.
		{fields("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), ErrLengthAndTE},
		{fields("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), ErrLengthAndTE},
		{fields("Transfer-Encoding: gzip\r\nContent-Length: 1\r\n"), ErrLengthAndTE},
		{fields("Content-Length: 1\r\nContent-Length: 1\r\n"), ErrLengthRepeated},
		{fields("Content-Length: 1\r\nContent-Length: 2\r\n"), ErrLengthRepeated},
		{fields("Content-Length: 1, 1\r\n"), ErrLengthInvalid},
		{fields("Content-Length: +1\r\n"), ErrLengthInvalid},
		{fields("Content-Length: -1\r\n"), ErrLengthInvalid},
		{fields("Content-Length: 0x1\r\n"), ErrLengthInvalid},
		{fields("Content-Length: 1.0\r\n"), ErrLengthInvalid},
		{fields("Content-Length: 1 1\r\n"), ErrLengthInvalid},
		{fields("Content-Length: 1_0\r\n"), ErrLengthInvalid},
		{fields("Content-Length:\r\n"), ErrLengthInvalid},
		{fields("Content-Length: 9223372036854775808\r\n"), ErrLengthInvalid},
		{fields("Content-Length: 18446744073709551617\r\n"), ErrLengthInvalid},
		{fields("Content-Length: \xd9\xa1\r\n"), ErrLengthInvalid},
		{fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), ErrCodingInvalid},
		{fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), ErrCodingInvalid},
		{fields("Transfer-Encoding:\r\n"), ErrCodingInvalid},
		{fields("Transfer-Encoding: ,chunked\r\n"), ErrCodingInvalid},
		{fields("Transfer-Encoding: chunked,\r\n"), ErrCodingNotLast},
		{fields("Transfer-Encoding: chunked;q=1\r\n"), ErrCodingInvalid},
		{fields("Transfer-Encoding: \"chunked\"\r\n"), ErrCodingInvalid},
		{fields("Transfer-Encoding: \x0bchunked\r\n"), ErrFieldValue},
		{fields("Transfer-Encoding: chunked, chunked\r\n"), ErrCodingNotLast},
		{fields("Transfer-Encoding: chunked, gzip\r\n"), ErrCodingNotLast},
		{fields("Transfer-Encoding: chunked, identity\r\n"), ErrCodingNotLast},
		{fields("Transfer-Encoding: gzip, chunked\r\n"), ErrCodingUnknown},
		{fields("Transfer-Encoding: identity\r\n"), ErrCodingUnknown},
		{fields("Transfer-Encoding: xchunked\r\n"), ErrCodingUnknown},
		{fields("Transfer-Encoding: chunkedx\r\n"), ErrCodingUnknown},
		{"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", ErrCodingVersion},
		{fields("Connection: close, host\r\n"), ErrConnection},
		{fields("Connection: content-length\r\n"), ErrConnection},
		{fields("Connection: transfer-encoding\r\n"), ErrConnection},
		{fields("Connection: a b\r\n"), ErrConnection},
		{fields("Connection: " + strings.Repeat("a,", 33) + "\r\n"), ErrConnection},
		{fields("Expect: 200-ok\r\n"), ErrExpectation},
		{fields("Expect: 100-continue\r\nExpect: 100-continue\r\n"), ErrExpectation},
		// Chunks.
		{chunks("\r\n"), ErrChunkSize},
		{chunks("x\r\n"), ErrChunkSize},
		{chunks("+3\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("-3\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("0x3\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks(" 3\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("3 \r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("3 ;a\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("3,\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("3\nfoo\r\n0\r\n\r\n"), ErrBareLF},
		{chunks("3\r\nfoo\n0\r\n\r\n"), ErrBareLF},
		{chunks("3\r\nfooo\r\n0\r\n\r\n"), ErrChunkEnd},
		{chunks("3\r\nfoo0\r\n\r\n"), ErrChunkEnd},
		{chunks("3\r\nfoo\r\r\n0\r\n\r\n"), ErrChunkEnd},
		{chunks("10000000000000003\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("0000000000000003\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks("ffffffff\r\n"), ErrBodyTooLarge},
		{chunks("3;\r\nfoo\r\n0\r\n\r\n"), ErrChunkExt},
		{chunks("3; a\r\nfoo\r\n0\r\n\r\n"), ErrChunkExt},
		{chunks("3;a=\r\nfoo\r\n0\r\n\r\n"), ErrChunkExt},
		{chunks("3;a=\"b\r\nfoo\r\n0\r\n\r\n"), ErrChunkExt},
		{chunks("3;a\rb\r\nfoo\r\n0\r\n\r\n"), ErrChunkExt},
		{chunks("3;a=b c\r\nfoo\r\n0\r\n\r\n"), ErrChunkExt},
		{chunks("3;a\nfoo\r\n0\r\n\r\n"), ErrBareLF},
		{chunks("3;" + strings.Repeat("a", 300) + "\r\nfoo\r\n0\r\n\r\n"), ErrChunkSize},
		{chunks(strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 30) + "0\r\n\r\n"), ErrChunkExt},
		{chunks("0\r\nX: a\n\r\n"), ErrBareLF},
		{chunks("0\r\nX: a\r\n b\r\n\r\n"), ErrFoldedField},
		{chunks("0\r\nX : a\r\n\r\n"), ErrFieldName},
		{chunks("0\r\nContent-Length: 3\r\n\r\n"), ErrTrailerField},
		{chunks("0\r\nTransfer-Encoding: chunked\r\n\r\n"), ErrTrailerField},
		{chunks("0\r\nHost: b\r\n\r\n"), ErrTrailerField},
		{chunks("0\r\nAuthorization: x\r\n\r\n"), ErrTrailerField},
		{chunks("0\r\nX: " + long + "\r\n\r\n"), ErrFieldsTooLarge},
		{chunks("0\r\nGET / HTTP/1.1\r\n\r\n"), ErrFieldName},
	}
}

func TestRequestsThatCouldMeanTwoThingsAreRefused(t *testing.T) {
	for _, tt := range refusals() {
		for how, r := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
			_, err := parse(r, defaults)
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: %.80q: got %v, want %v", how, tt.in, err, tt.want)
			}
		}
	}
}

func TestEndWithinARequestIsNoRequest(t *testing.T) {
	whole := "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\nX: a\r\n\r\n"
	for i := range len(whole) {
		want := io.ErrUnexpectedEOF
		if i == 0 {
			want = io.EOF
		}
		if _, err := parse(strings.NewReader(whole[:i]), defaults); !errors.Is(err, want) {
			t.Errorf("%q: got %v", whole[:i], err)
		}
	}
	if _, err := parse(strings.NewReader(whole), defaults); err != nil {
		t.Error(err)
	}
}

func TestHopByHopFieldsStayBehind(t *testing.T) {
	in := "GET / HTTP/1.1\r\n" + host + "Connection: X-Hop , close\r\nX-Hop: 1\r\nKeep-Alive: 2\r\nTE: trailers\r\n" +
		"Trailer: X\r\nUpgrade: x\r\nProxy-Connection: y\r\nX-End: 3\r\nx-hop: 4\r\n\r\n"
	p, err := parse(strings.NewReader(in), defaults)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for f := range p.r.Header.All() {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "Host X-End" {
		t.Errorf("fields left: %s", got)
	}
	if !p.r.AcceptsTrailers || p.r.Upgrade != "" {
		t.Errorf("trailers %v, upgrade %q: the Connection field does not list Upgrade", p.r.AcceptsTrailers, p.r.Upgrade)
	}
}

func TestEveryByteOfAValueIsLookedAt(t *testing.T) {
	for c := range 256 {
		for n := 1; n <= 25; n++ {
			for at := range n {
				b := []byte("abcdefghijklmnopqrstuvwxy"[:n])
				b[at] = byte(c)
				if got, want := validValue(string(b)), class[c]&isValue != 0; got != want {
					t.Errorf("byte %#x at %d of %d: %v", c, at, n, got)
				}
			}
		}
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	in := strings.NewReader("")
	var src Source
	var r exchange.Request
	src.Reset(in)
	msg := "POST /prod/pets?a=b HTTP/1.1\r\nHost: API.example.com\r\nConnection: x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n"
	var b Body
	buf := make([]byte, 64)
	once := func() {
		in.Reset(msg)
		r.Header.Reset()
		head, err := src.Head(&defaults, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRequest(head, &r, &defaults); err != nil {
			t.Fatal(err)
		}
		b.Reset(&src, Chunked, 0, &defaults, &r.Trailer)
		if n, err := b.Read(buf); n != 3 || err != io.EOF {
			t.Fatal(n, err)
		}
		src.Release()
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("parsing allocates %v times", n)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	head := []byte("GET /prod/pets?type=dog HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nX-Api-Key: 0123456789abcdef0123456789abcdef\r\n\r\n")
	var r exchange.Request
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		r.Header.Reset()
		if _, err := ParseRequest(head, &r, &defaults); err != nil {
			b.Fatal(err)
		}
	}
}
