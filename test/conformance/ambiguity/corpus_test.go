// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ambiguity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a message, or several, of the corpus.
type sample struct {
	name  string // class/variant
	bytes string
}

// corpus collects samples of one class after the other. What it makes depends on
// nothing but this code.
type corpus struct {
	class   string
	samples []sample
	seen    map[string]bool
}

// add adds a sample unless there is one of the same bytes.
func (c *corpus) add(bytes, format string, args ...any) {
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	if c.seen[bytes] {
		return
	}
	c.seen[bytes] = true
	c.samples = append(c.samples, sample{c.class + "/" + fmt.Sprintf(format, args...), bytes})
}

// The pieces of requests. The tail is what a reader that finds another end would
// see as a request of its own.
const (
	host = "Host: " + name + "\r\n"
	tail = "GET /tail HTTP/1.1\r\n" + host + "X-Tail: yes\r\n\r\n"
)

func get(target, fields string) string {
	return "GET " + target + " HTTP/1.1\r\n" + host + fields + "\r\n"
}

func post(fields, body string) string {
	return "POST /body HTTP/1.1\r\n" + host + fields + "\r\n" + body
}

// found adds the files of a folder of testdata: messages that once made a
// difference, or that others have published as having made one elsewhere.
func (c *corpus) found(t testing.TB, folder string) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	c.class = "found"
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c.add(string(b), "%s", filepath.Base(f))
	}
}

// requests is the corpus of requests.
func requests(t testing.TB) []sample {
	c := &corpus{}
	c.lengths()
	c.repeatedLengths()
	c.codings()
	c.codingNames()
	c.lineEnds()
	c.names()
	c.values()
	c.folds()
	c.twins()
	c.targets()
	c.hosts()
	c.chunks()
	c.trailers()
	c.versions()
	c.methods()
	c.connections()
	c.expectations()
	c.upgrades()
	c.pipelines()
	c.sizes()
	c.found(t, "found")
	return c.samples
}

// marks are bytes that parsers have taken for white space, for the end of a
// line, or for nothing at all.
var marks = []string{
	"\x00", "\x01", "\x08", "\t", "\n", "\v", "\f", "\r", "\r\n", "\n\r", "\r\r\n", "\r\n\r", "\x1b", "\x1f", " ", "\x7f", "\x80", "\x85", "\xa0", "\xad", "\xff",
	"\u00a0", "\u0085", "\u2028", "\u3000", "\ufeff", "\u010a", "\u010d", "\u560a", "\u560d", "%0d%0a", "\\r\\n",
}

// lengths says how long a body is in ways that are not plain.
func (c *corpus) lengths() {
	c.class = "length"
	values := []string{
		"3", "", " ", "+3", "-3", "-0", "+0", "0", "00", "03", "003", "0000000000000000000003", "0x3", "0X3", "3h", "3.0", "3.", ".3", "3,3", "3, 3", "3,4", "3 ,3", ",3", "3,",
		"3;", "3;q=1", "3 3", "3 bytes", "3\t", "\t3", "\t3\t", "3 ", "   3   ", "three", `"3"`, "'3'", "3#", "3/3", "3%", "NaN", "null", "Infinity", "0b11", "0o3", "3e0", "1e1", "1_0", "3L", "3u",
		"3\x0b", "\x0b3", "3\x0c", "\x0c3", "3\x00", "\x003", "3\xa0", "\xa03", "3\u00a0", "\u0663", "\uff13", "\u00b3", "3\r\n 0", "3\r\n\t4", "\r\n 3",
		"65539", "4294967299", "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551619", "340282366920938463463374607431768211459",
		"999999999999999999", "1000000000000000000", "99999999999999999999999999999999999999", "-9223372036854775808", "-1", "2", "4", "10485761",
	}
	for _, method := range []string{"POST", "GET", "DELETE"} {
		for i, v := range values {
			c.add(method+" /body HTTP/1.1\r\n"+host+"Content-Length: "+v+"\r\n\r\nabc"+tail, "%s-%d", method, i)
		}
	}
	for _, m := range marks {
		c.add(post("Content-Length:"+m+"3\r\n", "abc"+tail), "before-%q", m)
		c.add(post("Content-Length: 3"+m+"\r\n", "abc"+tail), "behind-%q", m)
		c.add(post("Content-Length"+m+": 3\r\n", "abc"+tail), "name-%q", m)
		c.add(post(m+"Content-Length: 3\r\n", "abc"+tail), "begin-%q", m)
		c.add(post("Content-Length: 3"+m+"0\r\n", "abc"+tail), "within-%q", m)
	}
}

func (c *corpus) repeatedLengths() {
	c.class = "lengths"
	for _, first := range []string{"3", "0", "03", "+3", "2", ""} {
		for _, second := range []string{"3", "0", "4", "3, 3", "", "x"} {
			for _, n := range []string{"Content-Length", "content-length", "CONTENT-LENGTH"} {
				c.add(post("Content-Length: "+first+"\r\n"+n+": "+second+"\r\n", "abc"+tail), "%q-%q-%s", first, second, n)
			}
			c.add(post("Content-Length: "+first+"\r\nX: y\r\nContent-Length: "+second+"\r\n", "abc"+tail), "%q-%q-apart", first, second)
		}
	}
	for _, n := range []string{"Content_Length", "Content Length", "Content-Lenght", "X-Content-Length", "ContentLength", "Content-Length1", "Content--Length", "Content\u2010Length", "Content.Length", "Contenţ-Length"} {
		c.add(post(n+": 3\r\n", "abc"+tail), "like-%q", n)
		c.add(post(n+": 0\r\nContent-Length: 3\r\n", "abc"+tail), "like-%q-first", n)
		c.add(post("Content-Length: 3\r\n"+n+": 0\r\n", "abc"+tail), "like-%q-last", n)
	}
}

// codings frames a body by Transfer-Encoding in ways that are not plain, alone
// and beside a length that says something else.
func (c *corpus) codings() {
	c.class = "coding"
	values := []string{
		"chunked", "Chunked", "CHUNKED", "chunKed", "  chunked", "chunked ", "\tchunked", "chunked\t", "\x0bchunked", "chunked\x0b", "\x0cchunked", "chunked\x0c",
		"xchunked", "chunkedx", "x-chunked", "chunk", "cow", "c hunked", "chun ked", "chunked\x00", "\x00chunked", "chu\x00nked", "chunked\xa0", "\xa0chunked", "\xefchunked",
		"chunked, identity", "identity, chunked", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,chunked", "chunked,", ",chunked", ", chunked", ",", "chunked , ",
		"chunked;q=1", "chunked;", "chunked; foo=bar", `"chunked"`, "'chunked'", "(chunked)", "<chunked>", "identity;q=1", "", "trailers", "deflate", "compress, chunked",
		"chunked, cow", "cow, chunked", "chun\u212aed", "chunke\u0501", "\uff43hunked", "chunked\r\n identity", "identity\r\n chunked", "\r\n chunked", "chunked\r", "chunked\n", "chu\rnked",
		"chunked\r\n\t", "gzip", "chunked identity", "identity chunked", "chunked|identity", "chunked:identity", "Transfer-Encoding: chunked", "none", "*", "chunked\\", "%63hunked",
	}
	const body = "3\r\nabc\r\n0\r\n\r\n"
	for i, v := range values {
		te := "Transfer-Encoding: " + v + "\r\n"
		c.add(post(te, body+tail), "%d", i)
		c.add(post("Content-Length: 3\r\n"+te, body+tail), "%d-after-length", i)
		c.add(post(te+fmt.Sprintf("Content-Length: %d\r\n", len(body)), body+tail), "%d-before-length", i)
		c.add("POST /body HTTP/1.0\r\n"+host+te+"\r\n"+body, "%d-old", i)
		c.add(post(te+"Transfer-Encoding: chunked\r\n", body+tail), "%d-repeated", i)
		c.add(post("Transfer-Encoding: chunked\r\n"+te, body+tail), "%d-second", i)
	}
	c.add("GET /body HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n"+body+tail, "get")
	c.add("GET /body HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"+body+tail, "get-zero")
	c.add("HEAD /body HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n"+body+tail, "head")
}

func (c *corpus) codingNames() {
	c.class = "coding-name"
	const body = "3\r\nabc\r\n0\r\n\r\n"
	for _, n := range []string{
		"transfer-encoding", "TRANSFER-ENCODING", "Transfer_Encoding", "Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "\tTransfer-Encoding", "Transfer-\xadEncoding", "Transfer Encoding",
		"X: X\nTransfer-Encoding", "X: X\rTransfer-Encoding", "X: X\r\rTransfer-Encoding", "Transfer-Encoding\x00", "\x00Transfer-Encoding", "Transfer-Encoding\r\n ", "Transfer\x00-Encoding", "Transfer-Encodin", "Transfer-Encodings",
		"X-Transfer-Encoding", "Transfer--Encoding", "Transfer\u2010Encoding", "Transfer-Encod\u0131ng", "TransferEncoding", "Transfer-Encoding:", ":Transfer-Encoding", "\"Transfer-Encoding\"", "Transfer-Encoding\x0b", "Transfer-Encoding\xa0", "Content-Transfer-Encoding", "TE",
	} {
		c.add(post(n+": chunked\r\n", body+tail), "%q", n)
		c.add(post(n+": chunked\r\nContent-Length: 3\r\n", body+tail), "%q-length", n)
		c.add(post("Content-Length: 13\r\n"+n+": chunked\r\n", body+tail), "length-%q", n)
		c.add(post("Transfer-Encoding: chunked\r\n"+n+": identity\r\n", body+tail), "chunked-%q", n)
	}
}

// lineEnds ends each kind of line otherwise.
func (c *corpus) lineEnds() {
	c.class = "line-end"
	const at = "@"
	for i, s := range []string{
		"GET /line HTTP/1.1@" + host + "X: y\r\n\r\n" + tail,
		"GET /line HTTP/1.1\r\nHost: " + name + "@X: y\r\n\r\n" + tail,
		"GET /line HTTP/1.1\r\n" + host + "X: y@\r\n" + tail,
		"GET /line HTTP/1.1\r\n" + host + "X: y@@" + tail,
		"GET /line HTTP/1.1\r\n" + host + "X: y\r\n@" + tail,
		"@GET /line HTTP/1.1\r\n" + host + "\r\n" + tail,
		"GET /line HTTP/1.1\r\n" + host + "X: a@Y: b\r\n\r\n" + tail,
		"GET /line HTTP/1.1\r\n" + host + "\r\n@" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked@\r\n0\r\n\r\n" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3@abc\r\n0\r\n\r\n" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc@0\r\n\r\n" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0@\r\n" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n@" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: v@\r\n" + tail,
		"POST /line HTTP/1.1\r\n" + host + "Content-Length: 3\r\n@abc" + tail,
	} {
		for _, m := range marks {
			c.add(strings.ReplaceAll(s, at, m), "%d-%q", i, m)
		}
	}
}

// names puts bytes into the name of a field.
func (c *corpus) names() {
	c.class = "name"
	for b := range 256 {
		if b > 0x20 && b < 0x7f && strings.IndexByte("\"(),/:;<=>?@[\\]{}", byte(b)) < 0 || b > 0x80 && b < 0xff {
			continue
		}
		s := string([]byte{byte(b)})
		c.add(get("/name", "X"+s+"Y: v\r\n")+tail, "within-%02x", b)
		c.add(get("/name", s+"X: v\r\n")+tail, "begin-%02x", b)
		c.add(get("/name", "X"+s+": v\r\n")+tail, "end-%02x", b)
	}
	for i, f := range []string{
		": v", ":", "::", "X", "X v", "X=v", "X : v", "X\t: v", "X :v", " : v", "X:", "X: ", "X:v", "X::v", "X: :v", "\u00fc: v", "X\r\n: v", "X;Y: v", "GET / HTTP/1.1", "HTTP/1.1 200 OK",
		strings.Repeat("n", 300) + ": v", strings.Repeat("n", 9000) + ": v", "__proto__: v", "constructor: v", "X: v\r\nX: w", "x: v\r\nX: w\r\nx: u", "Cookie: a=b\r\nCookie: c=d", "Set-Cookie: a=b\r\nSet-Cookie: c=d",
	} {
		c.add(get("/name", f+"\r\n")+tail, "form-%d", i)
	}
}

// values puts bytes into the value of a field.
func (c *corpus) values() {
	c.class = "value"
	for b := range 256 {
		if b > 0x21 && b < 0x7e || b > 0x82 && b < 0xfd {
			continue
		}
		s := string([]byte{byte(b)})
		c.add(get("/value", "X-V: a"+s+"b\r\n")+tail, "within-%02x", b)
		c.add(get("/value", "X-V: "+s+"b\r\n")+tail, "begin-%02x", b)
		c.add(get("/value", "X-V: a"+s+"\r\n")+tail, "end-%02x", b)
	}
	for i, v := range []string{"\u010a", "\u010d\u010a", "\u560d\u560aX: y", "%0d%0aX: y", "\\r\\nX: y", "\u0000", "\xc0\x8a", strings.Repeat("v", 4096), strings.Repeat("\xfc", 1000), strings.Repeat(" ", 4000), "a, b,,c", "\"", "\"a\r\nb\"", "=?utf-8?q?=0d=0a?="} {
		c.add(get("/value", "X-V: "+v+"\r\n")+tail, "form-%d", i)
	}
}

// folds continues fields on the next line.
func (c *corpus) folds() {
	c.class = "fold"
	for _, sp := range []string{" ", "\t", "  ", " \t", "\t ", "\x0b", "\x0c", "\xa0"} {
		for i, f := range []string{
			"X: a\r\n@b\r\n", "X: a\r\n@\r\n", "X:\r\n@a\r\n", "X: a\r\n@b\r\n@c\r\n", "X: a\r\n@Transfer-Encoding: chunked\r\n", "X: a\r\n@Content-Length: 3\r\n", "X: a\n@b\r\n", "X: a\r@b\r\n", "Connection:\r\n@close\r\n", "Transfer-Encoding:\r\n@chunked\r\n", "Content-Length:\r\n@3\r\n",
		} {
			c.add(get("/fold", strings.ReplaceAll(f, "@", sp))+tail, "%q-%d", sp, i)
		}
		c.add("GET /fold HTTP/1.1\r\n"+sp+host+"\r\n"+tail, "%q-host", sp)
		c.add("GET /fold HTTP/1.1\r\n"+sp+"X: y\r\n"+host+"\r\n"+tail, "%q-first", sp)
		c.add("GET /fold HTTP/1.1\r\nHost:\r\n"+sp+name+"\r\n\r\n"+tail, "%q-host-value", sp)
		c.add("GET /fold\r\n"+sp+"HTTP/1.1\r\n"+host+"\r\n"+tail, "%q-line", sp)
	}
}

// twins has fields that CGI and its like cannot tell apart, and those that
// proxies tell each other.
func (c *corpus) twins() {
	c.class = "twin"
	for i, f := range []string{
		"X-User: a\r\nX_User: b\r\n", "X_User: b\r\nX-User: a\r\n", "X-User: a\r\nx-user: b\r\n", "X.User: b\r\nX-User: a\r\n", "X_Forwarded_For: 1.2.3.4\r\n", "X-Forwarded-For: 1.2.3.4\r\n", "x-forwarded-for: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n",
		"X_Forwarded-For: 1.2.3.4\r\n", "Forwarded: for=1.2.3.4\r\n", "X-Forwarded-Host: evil.example\r\n", "X-Forwarded-Proto: https\r\n", "X-Forwarded-Port: 443\r\n", "X-Forwarded-Prefix: /x\r\n", "X-Real-IP: 1.2.3.4\r\n", "Via: 1.1 evil\r\n", "X-Original-URL: /admin\r\n", "X-Rewrite-URL: /admin\r\n",
		"X-HTTP-Method-Override: DELETE\r\n", "X-HTTP-Method: DELETE\r\n", "X-Method-Override: DELETE\r\n", "Host_: evil.example\r\n", "X-Host: evil.example\r\n", "Proxy: http://evil.example\r\n", "Proxy-Connection: keep-alive\r\n", "Keep-Alive: timeout=5\r\n", "Proxy-Authorization: Basic eA==\r\n",
		"Max-Forwards: 0\r\n", "TE: trailers\r\n", "TE: chunked\r\n", "TE: gzip;q=1, trailers\r\n", "Trailer: X-T\r\n", "Trailer: Content-Length\r\n", "Content-Length_: 3\r\n", "Content-MD5: x\r\n", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n", "X-Record: forged\r\n", "X-Seen-Method: FORGED\r\n", "Authorization: AWS4-HMAC-SHA256 x\r\n", "Authorization: Basic eA==\r\n",
		"x-amzn-apigateway-api-id: forged\r\n", "x-amzn-RequestId: forged\r\n", "CDN-Loop: other\r\n", "Range: bytes=0-0\r\n", "If-None-Match: *\r\n", "Accept-Encoding: gzip\r\n", "Content-Encoding: gzip\r\n", "X-Forwarded-For : 1.2.3.4\r\n",
	} {
		c.add(get("/twin", f)+tail, "%d", i)
	}
}
