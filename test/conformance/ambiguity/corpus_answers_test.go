// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ambiguity

import (
	"fmt"
	"strings"
	"testing"
)

// A backend closes the connection behind an answer, unless its name ends so: then
// it waits for the next request.
const stays = "-stays"

// An answer to HEAD has a name with this class.
const headClass = "head"

// answers is the corpus of answers.
func answers(t testing.TB) []sample {
	c := &corpus{}
	c.answerLengths()
	c.answerCodings()
	c.answerChunks()
	c.statusLines()
	c.answerFields()
	c.answerLineEnds()
	c.bodiless()
	c.heads()
	c.extras()
	c.interims()
	c.answerHops()
	c.found(t, "found-answers")
	return c.samples
}

// ok is an answer with fields, each with its end, and a body.
func ok(fields, body string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + fields + "\r\n" + body
}

// forged is what a reader that finds another end would take for the next answer.
const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Forged: yes\r\n\r\nforged"

func (c *corpus) answerLengths() {
	c.class = "length"
	for i, v := range []string{
		"3", "", " ", "+3", "-3", "-0", "0", "03", "0000000000000000000003", "0x3", "3h", "3.0", "3,3", "3, 3", "3,4", ",3", "3;", "3 3", "3\t", "\t3", "   3   ", "three", `"3"`, "3#", "null", "3e0", "1_0", "3\x0b", "\x0c3", "3\x00", "3\xa0", "\u0663", "\uff13",
		"3\r\n 0", "\r\n 3", "4294967299", "9223372036854775807", "9223372036854775808", "18446744073709551619", "999999999999999999", "99999999999999999999999999", "-1", "2", "4", "999",
	} {
		f := "Content-Length: " + v + "\r\n"
		c.add(ok(f, "abc"), "%d", i)
		c.add(ok(f, "abc"+forged), "%d-more", i)
		c.add(ok(f+"Content-Length: 3\r\n", "abc"+forged), "%d-first", i)
		c.add(ok("Content-Length: 3\r\n"+f, "abc"+forged), "%d-second", i)
	}
	for i, n := range []string{"Content_Length", "Content Length", "Content-Length ", "Content-Length\t", " Content-Length", "Content-Length\x00", "content-length", "CONTENT-LENGTH", "X: y\nContent-Length", "X: y\rContent-Length"} {
		c.add(ok(n+": 3\r\n", "abc"+forged), "name-%d", i)
		c.add(ok(n+": 0\r\nContent-Length: 3\r\n", "abc"), "name-%d-first", i)
		c.add(ok("Content-Length: 3\r\n"+n+": 0\r\n", "abc"), "name-%d-second", i)
	}
}

func (c *corpus) answerCodings() {
	c.class = "coding"
	const body = "3\r\nabc\r\n0\r\n\r\n"
	for i, v := range []string{
		"chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked", "\x0bchunked", "chunked\x0b", "\x0cchunked", "xchunked", "chunkedx", "x-chunked", "chunk", "c hunked", "chunked\x00", "chunked\xa0", "chunked, identity", "identity, chunked", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,", ",chunked", ",", "chunked;q=1", `"chunked"`, "", "deflate", "chun\u212aed", "chunked\r\n identity", "\r\n chunked", "chunked\r", "chunked\n", "chu\rnked", "gzip", "chunked identity",
	} {
		te := "Transfer-Encoding: " + v + "\r\n"
		c.add(ok(te, body), "%d", i)
		c.add(ok(te, body+forged), "%d-more", i)
		c.add(ok("Content-Length: 3\r\n"+te, body), "%d-after-length", i)
		c.add(ok(te+fmt.Sprintf("Content-Length: %d\r\n", len(body)), body), "%d-before-length", i)
		c.add("HTTP/1.0 200 OK\r\n"+te+"\r\n"+body, "%d-old", i)
		c.add(ok(te+"Transfer-Encoding: chunked\r\n", body), "%d-repeated", i)
	}
	for i, n := range []string{"Transfer_Encoding", "Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "X: X\nTransfer-Encoding", "X: X\rTransfer-Encoding", "Transfer-Encoding\x00", "Transfer-Encoding\r\n ", "X-Transfer-Encoding", "transfer-encoding"} {
		c.add(ok(n+": chunked\r\n", body), "name-%d", i)
		c.add(ok(n+": chunked\r\nContent-Length: 3\r\n", "abc"), "name-%d-length", i)
	}
}

func (c *corpus) answerChunks() {
	c.class = "chunk"
	for i, size := range []string{
		"3", "03", "+3", "-3", "0x3", "3h", "3.0", " 3", "3 ", "\t3", "3\t", "3\x0b", "3\x00", "", "g", "3_", "\u0663", "fffffffffffffffd", "10000000000000003", "100000003", "7fffffffffffffff", "000000000000003", "0000000000000003", "a", "2", "4", "3\r\r", "3\n", "3\r", "3;a", "3;a=b", "3;a=\"b\"", "3; a=b", "3 ;a", "3;", "3;;", "3;a\n", "3;\x00", "3;a=\"\n\"", "3\ta", "3,a", "3;" + strings.Repeat("a", 300),
	} {
		c.add(ok(chunked, size+"\r\nabc\r\n0\r\n\r\n"), "size-%d", i)
		c.add(ok(chunked, "3\r\nabc\r\n"+size+"\r\nabc\r\n0\r\n\r\n"), "second-%d", i)
	}
	for i, body := range []string{
		"3\r\nabc0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nab\r\n0\r\n\r\n", "3\r\nabc\r\n\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n", "3\r\nabc\r\n0", "3\r\nabc\r\n", "3\r\nabc", "3\r\nab", "3\r\n", "3", "", "0\r\n\r\n", "0\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "3\r\nabcXX0\r\n\r\n", "3\r\nabc\r\n000\r\n\r\n", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nX", "3\nabc\n0\n\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabc\r\n0\n\n",
		"3\r\nabc\r\n0\r\nX-T: v\r\n\r\n", "3\r\nabc\r\n0\r\nContent-Length: 6\r\n\r\n", "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\nSet-Cookie: a=b\r\n\r\n", "3\r\nabc\r\n0\r\nX-T : v\r\n\r\n", "3\r\nabc\r\n0\r\n X-T: v\r\n\r\n", "3\r\nabc\r\n0\r\nX-T\r\n\r\n", "3\r\nabc\r\n0\r\nX-T: a\x00b\r\n\r\n", "3\r\nabc\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n", "3\r\nabc\r\n0\r\nX-T: " + strings.Repeat("v", 11000) + "\r\n\r\n",
		strings.Repeat("1\r\na\r\n", 2000) + "0\r\n\r\n", "ffff\r\n" + strings.Repeat("a", 0xffff) + "\r\n0\r\n\r\n",
	} {
		c.add(ok(chunked, body), "form-%d", i)
		c.add(ok(chunked+"Trailer: X-T\r\n", body+forged), "form-%d-more", i)
	}
}

func (c *corpus) statusLines() {
	c.class = "status"
	for i, l := range []string{
		"HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.1 200\tOK", "HTTP/1.1  200 OK", "HTTP/1.1\t200 OK", " HTTP/1.1 200 OK", "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 O\rK", "HTTP/1.1 200 \xff\xfe", "HTTP/1.1 200 " + strings.Repeat("r", 5000), "HTTP/1.1 200 OK ", "HTTP/1.1 +200 OK", "HTTP/1.1 0200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 200OK", "HTTP/1.1 200.1 OK", "HTTP/1.1 20O OK", "HTTP/1.1 -20 OK", "HTTP/1.1 000 OK", "HTTP/1.1 099 OK", "HTTP/1.1 600 OK", "HTTP/1.1 999 OK", "HTTP/1.1 299 OK", "HTTP/1.1 OK", "HTTP/1.1", "HTTP/1.1 ",
		"HTTP/1.0 200 OK", "HTTP/0.9 200 OK", "HTTP/1.2 200 OK", "HTTP/1.9 200 OK", "HTTP/2.0 200 OK", "HTTP/2 200 OK", "HTTP/1 200 OK", "HTTP/1.10 200 OK", "HTTP/01.1 200 OK", "HTTP/11 200 OK", "http/1.1 200 OK", "Http/1.1 200 OK", "HTTPS/1.1 200 OK", "ICY 200 OK", "RTSP/1.0 200 OK", "HTTP /1.1 200 OK", "HTTP/1.1 200 OK HTTP/1.1", "200 OK", "", "GET / HTTP/1.1", "<html>", "\x00\x00", "\r\nHTTP/1.1 200 OK", "\nHTTP/1.1 200 OK", "X: y\r\nHTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK", "HTTP/1.1 200 OK\nX: y", "HTTP/1.1 200 OK\r\n X: y",
		"HTTP/1.1 201 Created", "HTTP/1.1 202 A", "HTTP/1.1 203 N", "HTTP/1.1 206 P", "HTTP/1.1 226 I", "HTTP/1.1 300 M", "HTTP/1.1 302 F", "HTTP/1.1 305 U", "HTTP/1.1 400 B", "HTTP/1.1 401 U", "HTTP/1.1 407 P", "HTTP/1.1 408 T", "HTTP/1.1 417 E", "HTTP/1.1 421 M", "HTTP/1.1 426 U", "HTTP/1.1 451 L", "HTTP/1.1 500 I", "HTTP/1.1 503 U", "HTTP/1.1 505 V", "HTTP/1.1 599 X",
	} {
		c.add(l+"\r\nContent-Length: 3\r\n\r\nabc", "%d", i)
	}
	for i, s := range []string{"", "H", "HTTP/1.1", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r", "abc", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nabc", "HTTP/1.1 200 OK\n\nabc", "HTTP/1.1 200 OK\r\n\r\n" + forged, "HTTP/1.0 200 OK\r\n\r\nabc", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc"} {
		c.add(s, "cut-%d", i)
	}
}

func (c *corpus) answerFields() {
	c.class = "field"
	for b := range 256 {
		s := string([]byte{byte(b)})
		if b <= 0x20 || b >= 0x7f && b <= 0x81 || b == 0xff || strings.Contains("\"(),/:;<=>?@[\\]{}", s) {
			c.add(ok("X"+s+"Y: v\r\nContent-Length: 3\r\n", "abc"), "name-%02x", b)
			c.add(ok("X"+s+": v\r\nContent-Length: 3\r\n", "abc"), "name-end-%02x", b)
		}
		if b < 0x20 || b >= 0x7f && b <= 0x81 || b == 0xff {
			c.add(ok("X-V: a"+s+"b\r\nContent-Length: 3\r\n", "abc"), "value-%02x", b)
			c.add(ok("X-V: a"+s+"\r\nContent-Length: 3\r\n", "abc"), "value-end-%02x", b)
		}
	}
	for i, f := range []string{
		": v", ":", "X", "X v", "X : v", " X: v", "X:", "X:v", "X::v", "X: a\r\n b", "X: a\r\n\tb", "X:\r\n a", "X: a\r\n ", "X: a\r\n\r\n b", "X: a\r\n Content-Length: 9", "X: a\n b", "X: a\r b", "X-V: \u010a", "X-V: \u560d\u560aX-Forged: yes", "X-V: %0d%0aX-Forged: yes", strings.Repeat("n", 9000) + ": v", "X-V: " + strings.Repeat("v", 9000), "X-V: " + strings.Repeat("v", 12000), strings.TrimSuffix(strings.Repeat("X: v\r\n", 90), "\r\n"), strings.TrimSuffix(strings.Repeat("X: v\r\n", 200), "\r\n"),
		"Set-Cookie: a=b\r\nSet-Cookie: c=d", "Location: /x\r\nLocation: /y", "Content-Type: a/b\r\nContent-Type: c/d", "Content-Encoding: gzip", "Content-Range: bytes 0-2/3", "Date: x", "Date: a\r\nDate: b", "Server: x", "Via: 1.1 x", "X_V: v\r\nX-V: w", "x-amzn-RequestId: forged", "x-postern-request-id: forged", "Trailer: X", "TE: trailers", "Expect: 100-continue", "Host: evil.example", "WWW-Authenticate: Basic", "Proxy-Authenticate: Basic", "Age: 1", "Warning: 1", "Alt-Svc: h2=\":1\"", "Content-MD5: x", "Content_Length: 9",
	} {
		c.add(ok(f+"\r\nContent-Length: 3\r\n", "abc"), "form-%d", i)
		c.add(ok("Content-Length: 3\r\n"+f+"\r\n", "abc"+forged), "form-%d-more", i)
	}
}

func (c *corpus) answerLineEnds() {
	c.class = "line-end"
	for i, s := range []string{
		"HTTP/1.1 200 OK@Content-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 3@\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 3@@abc",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n@abc",
		"HTTP/1.1 200 OK\r\nX: a@Y: b\r\nContent-Length: 3\r\n\r\nabc",
		"@HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3@abc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc@0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0@\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n@",
	} {
		for _, m := range marks {
			c.add(strings.ReplaceAll(s, "@", m), "%d-%q", i, m)
		}
	}
}

// bodiless has statuses that have no body, with one.
func (c *corpus) bodiless() {
	c.class = "bodiless"
	for _, status := range []string{"204 No Content", "304 Not Modified", "205 Reset Content"} {
		for i, f := range []string{"", "Content-Length: 0\r\n", "Content-Length: 3\r\n", chunked, "Content-Length: 3\r\n" + chunked, "Connection: close\r\n", "Transfer-Encoding: identity\r\n", "Content-Length: 3\r\nContent-Length: 4\r\n", "Content-Length: x\r\n"} {
			for j, body := range []string{"", "abc", "3\r\nabc\r\n0\r\n\r\n", forged} {
				c.add("HTTP/1.1 "+status+"\r\n"+f+"\r\n"+body, "%.3s-%d-%d", status, i, j)
			}
		}
	}
}

func (c *corpus) heads() {
	c.class = headClass
	for i, f := range []string{"", "Content-Length: 0\r\n", "Content-Length: 3\r\n", chunked, "Content-Length: 3\r\n" + chunked, "Connection: close\r\n", "Content-Length: 999999999999\r\n", "Content-Length: 3\r\nContent-Length: 3\r\n", "Transfer-Encoding: gzip\r\n", "Content-Length: +3\r\n"} {
		for j, body := range []string{"", "abc", "3\r\nabc\r\n0\r\n\r\n", forged} {
			for _, status := range []string{"200 OK", "204 No Content", "304 Not Modified", "404 Not Found"} {
				c.add("HTTP/1.1 "+status+"\r\n"+f+"\r\n"+body, "%.3s-%d-%d", status, i, j)
			}
		}
	}
}

// extras sends more than one answer to one request.
func (c *corpus) extras() {
	c.class = "extra"
	for i, s := range []string{
		ok("Content-Length: 3\r\n", "abc"), ok(chunked, "3\r\nabc\r\n0\r\n\r\n"), ok("Content-Length: 0\r\n", ""), "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nabc",
	} {
		for j, more := range []string{forged, forged + forged, "x", "\r\n", "\r\n\r\n", "\x00", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "0\r\n\r\n", strings.Repeat("z", 20000)} {
			c.add(s+more, "%d-%d%s", i, j, stays)
		}
	}
}

func (c *corpus) interims() {
	c.class = "interim"
	final := ok("Content-Length: 3\r\n", "abc")
	for i, s := range []string{
		"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", "HTTP/1.1 199 X\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nX: a\x00b\r\n\r\n", "HTTP/1.0 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n", "HTTP/1.1 103 E\r\nX: " + strings.Repeat("v", 9000) + "\r\n\r\n", "HTTP/1.1 103 E\nX: y\n\n", "HTTP/1.1 103 E\r\nX : y\r\n\r\n", "HTTP/1.1 103 E\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 100", "HTTP/1.1 100 Continue\r\n",
	} {
		c.add(s+final, "%d", i)
		c.add(s+s+final, "%d-twice", i)
		c.add(s, "%d-alone", i)
		c.add(final+s, "%d-behind%s", i, stays)
		c.add(s+"HTTP/1.1 204 No Content\r\n\r\n", "%d-none", i)
	}
	for _, n := range []int{6, 7, 8, 9, 100} {
		c.add(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", n)+final, "many-%d", n)
		c.add(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", n)+final, "hints-%d", n)
	}
}

func (c *corpus) answerHops() {
	c.class = "hop"
	for i, v := range []string{"close", "keep-alive", "close, keep-alive", "X-Hop", "X-Hop, Content-Length", "Content-Length", "Transfer-Encoding", "Set-Cookie", "Date", "Via", "", ",", "\"close\"", "clos e", "close\x00", "\u00e4", strings.Repeat("X,", 40), "X-Hop\r\nConnection: X-User", "Content-Type", "x-amzn-requestid", "Upgrade"} {
		c.add(ok("Connection: "+v+"\r\nX-Hop: one\r\nX-User: u\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nContent-Length: 3\r\n", "abc"), "%d%s", i, stays)
		c.add(ok("Connection: "+v+"\r\nX-Hop: one\r\n"+chunked, "3\r\nabc\r\n0\r\n\r\n"), "%d-chunked%s", i, stays)
		c.add(ok("Connection: "+v+"\r\nX-Hop: one\r\n", "abc"), "%d-until-close", i)
	}
}
