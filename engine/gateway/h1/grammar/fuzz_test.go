// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"bytes"
	"errors"
	"io"
	"net/http/httputil"
	"testing"
	"testing/iotest"

	"postern.dev/postern/engine/gateway/exchange"
)

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nPragma: no-cache\r\n\r\n",
		"POST /%41 HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n\r\nfooGET / HTTP/1.1\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x-a\r\nX-A: b\r\n\r\n3;a=\"b\"\r\nfoo\r\n0\r\nX: y\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"\r\nGET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, r := range refusals() {
		if len(r.in) < 1000 {
			f.Add([]byte(r.in))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := parse(bytes.NewReader(in), defaults)
		slow, serr := parse(iotest.OneByteReader(bytes.NewReader(in)), defaults)
		if (err == nil) != (serr == nil) {
			t.Fatalf("%q: whole %v, byte by byte %v", in, err, serr)
		}
		if err != nil {
			var g *Error
			if !errors.As(err, &g) && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("an error without a type: %v", err)
			}
			return
		}
		if slow.body != p.body || slow.rest != p.rest {
			t.Fatalf("%q: byte by byte it reads otherwise", in)
		}
		if p.r.Authority == "" {
			return // HTTP/1.0 without Host is not forwarded under its own name
		}
		if _, ok := p.r.DecodedPath(); !ok {
			t.Fatalf("%q was accepted but does not decode", p.r.Path)
		}
		oneMeaning(t, string(in), p)
	})
}

func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\n\r\nbody",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
	} {
		f.Add([]byte(s), "GET")
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), "HEAD")
	f.Fuzz(func(t *testing.T, in []byte, method string) {
		rs, body, err := readResponse(bytes.NewReader(in), method)
		if err != nil {
			return
		}
		a := Answer{Status: rs.Status, Header: &rs.Header, Length: rs.Length}
		if method != "HEAD" && !BodyAllowed(rs.Status) || method == "HEAD" && rs.Length < 0 {
			a.Length = NoLength
		}
		if rs.Status == 101 && !rs.Header.Has("Upgrade") {
			return
		}
		write := func(a *Answer, body string) []byte {
			out, bad := AppendResponse(nil, a)
			if bad != nil {
				t.Fatalf("%q was accepted but cannot be sent: %v", in, bad)
			}
			if a.Length == -1 {
				if body != "" {
					out = AppendChunkHead(out, len(body))
					out = append(append(out, body...), "\r\n"...)
				}
				out, _ = AppendLastChunk(out, nil)
				return out
			}
			return append(out, body...)
		}
		once := write(&a, body)
		again, body2, err := readResponse(bytes.NewReader(once), method)
		if err != nil {
			t.Fatalf("we refuse what we send for %q: %q: %v", in, once, err)
		}
		b := a
		b.Header = &again.Header
		if twice := write(&b, body2); body2 != body || again.Status != rs.Status || !bytes.Equal(once, twice) {
			t.Fatalf("sending is no fixed point: %q, then %q", once, twice)
		}
	})
}

func readResponse(r io.Reader, method string) (*exchange.Response, string, error) {
	var src Source
	src.Reset(r)
	l := Limits{Fields: 30 << 10, Count: 300}.WithDefaults()
	head, err := src.Head(&l, false)
	if err != nil {
		return nil, "", err
	}
	rs := &exchange.Response{}
	_, untilClose, bad := ParseResponse(head, rs, method, &l)
	if bad != nil {
		return nil, "", bad
	}
	kind, n := Sized, rs.Length
	switch {
	case method == "HEAD":
		n = 0
	case untilClose:
		kind = UntilClose
	case n < 0:
		kind = Chunked
	}
	var b Body
	b.Reset(&src, kind, n, &l, &rs.Trailer)
	body, err := io.ReadAll(&b)
	return rs, string(body), err
}

func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"3\r\nfoo\r\n0\r\n\r\n", "3;a=b\r\nfoo\r\n00\r\nX: y\r\n\r\nrest", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "0\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(4))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, rest, err := readChunked(bytes.NewReader(in), 512)
		slow, srest, serr := readChunked(iotest.OneByteReader(bytes.NewReader(in)), int(size)+1)
		if (err == nil) != (serr == nil) || err == nil && (slow != whole || srest != rest) {
			t.Fatalf("%q: %q %v, in small reads %q %v", in, whole, err, slow, serr)
		}
		if err != nil {
			return
		}
		theirs, terr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
		if terr != nil || string(theirs) != whole {
			t.Fatalf("net/http reads %q as %q, %v; we as %q", in, theirs, terr, whole)
		}
	})
}

func readChunked(r io.Reader, size int) (body, rest string, err error) {
	var src Source
	src.Reset(r)
	var b Body
	var trailer exchange.Header
	b.Reset(&src, Chunked, 0, &defaults, &trailer)
	var out []byte
	buf := make([]byte, size)
	for {
		n, err := b.Read(buf)
		out = append(out, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", "", err
		}
	}
	left, err := io.ReadAll(io.MultiReader(bytes.NewReader(src.buf[src.pos:src.end]), r))
	return string(out), string(left), err
}
