// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package ambiguity

import (
	"fmt"
	"strings"
)

// targets asks for what readers resolve differently.
func (c *corpus) targets() {
	c.class = "target"
	targets := []string{
		"/", "//", "///", "//evil.example", "//evil.example/x", "///evil.example/x", "/./", "/../", "/..", "/.", "/a/../b", "/a/..", "/a/./b", "/a//b", "/a/b/", "/a/%2e%2e/b", "/%2e%2e/", "/%2E", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/\\evil.example", "/a;b=c/d", "/a;/../b", "/..;/b",
		"/%", "/%2", "/%zz", "/%0", "/%00", "/%0a", "/%0d%0aX:y", "/%20", "/%u0041", "/%c0%af", "/%25%32%65", "/%252e%252e/", "/a%3fb", "/a%23b", "/a#b", "/a?b#c", "/a#", "/#", "?a", "/?", "/?a", "/??", "/a?", "/a?b?c", "/a?b=c&b=d", "/a?%", "/a?%zz", "/a?a=b;c=d", "/a?/../x", "/a?\"", "/a?<>", "/a?[]{}|^`", "/a?'",
		"/a b", "/a  b", "/a\tb", "/a%20b", " /a", "/a ", "/a\x00b", "/a\x01b", "/a\x7fb", "/a\x80b", "/a\xffb", "/\u00fc", "/\u010a", "/\u560d\u560a", "/a\"b", "/a<b>", "/a{b}", "/a|b", "/a^b", "/a`b", "/a[b]", "/a:b", "/a@b", "/a,b", "/a'b", "/a!b$c&d(e)f*g+h=i", "/~a",
		"a", "a/b", "../a", "./a", "%2fa", "\\a", "http:", "http:/", "http://", "http:///", "http:///a", "http:a", "http:/a", "//" + name + "/a", "*", "**", "*/", "/*", "",
		"http://" + name, "http://" + name + "/", "http://" + name + "/a", "HTTP://" + name + "/a", "Http://" + strings.ToUpper(name) + "/a", "https://" + name + "/a", "ftp://" + name + "/a", "ws://" + name + "/a", "http://" + name + "?a", "http://" + name + "#a", "http://" + name + "/a#b", "http://" + name + ":80/a", "http://" + name + ":/a", "http://" + name + ":443/a",
		"http://evil.example/a", "http://evil.example@" + name + "/a", "http://" + name + "@evil.example/a", "http://user:pw@" + name + "/a", "http://" + name + "\\@evil.example/a", "http://" + name + "%2eevil.example/a", "http://" + name + "%00/a", "http://" + name + " /a", "http://" + name + "/a b", "http://" + name + "//a", "http://" + name + "/../a", "http://[::1]/a", "http://127.0.0.1/a", "http://0x7f.1/a", "http://" + name + ":99999/a", "http://" + name + ":8o/a", "http://" + name + "./a", "http:\\\\" + name + "\\a",
		name + ":80", name, "/http://" + name + "/a", "/http:/" + name, "file:///etc/passwd", "urn:a:b", "javascript:a", "/" + strings.Repeat("a", 2000), "/" + strings.Repeat("a/", 2000), "/" + strings.Repeat("../", 300) + "a", "/" + strings.Repeat("%2e%2e/", 300) + "a", "/a?" + strings.Repeat("a=b&", 1500), "/" + strings.Repeat("x", 10300), "/a\r\nX: y", "/a\nX: y", "/a\rX: y", "/a HTTP/1.1\r\nX: y\r\n\r\nGET /b",
	}
	for i, t := range targets {
		c.add(get(t, "")+tail, "get-%d", i)
		c.add("OPTIONS "+t+" HTTP/1.1\r\n"+host+"\r\n"+tail, "options-%d", i)
		if i%4 == 0 {
			c.add("GET "+t+" HTTP/1.0\r\n\r\n", "old-%d", i)
			c.add("POST "+t+" HTTP/1.1\r\n"+host+"Content-Length: 3\r\n\r\nabc"+tail, "post-%d", i)
		}
	}
	for _, m := range marks {
		c.add("GET"+m+"/sep HTTP/1.1\r\n"+host+"\r\n"+tail, "first-%q", m)
		c.add("GET /sep"+m+"HTTP/1.1\r\n"+host+"\r\n"+tail, "second-%q", m)
		c.add("GET "+m+"/sep HTTP/1.1\r\n"+host+"\r\n"+tail, "before-%q", m)
		c.add("GET /sep"+m+" HTTP/1.1\r\n"+host+"\r\n"+tail, "behind-%q", m)
		c.add("GET /sep HTTP/1.1"+m+"\r\n"+host+"\r\n"+tail, "end-%q", m)
		c.add(m+"GET /sep HTTP/1.1\r\n"+host+"\r\n"+tail, "begin-%q", m)
	}
}

// hosts names the host never, twice, wrongly, or in two places.
func (c *corpus) hosts() {
	c.class = "host"
	values := []string{
		name, "AMB.example", name + ":80", name + ":", name + ":0", name + ":443", name + ":080", name + ":00080", name + ":99999", name + ":-1", name + ":+80", name + ":8 0", name + ":80:80", name + ":http", "", " ", ":", ":80", ".", "..", name + ".", "." + name, "amb..example", " " + name + " ", "\t" + name,
		name + " evil.example", name + ",evil.example", name + ", " + name, name + ";evil.example", name + "/a", name + "/../", name + "?a", name + "#a", name + "@evil.example", "evil.example@" + name, "user:pw@" + name, "http://" + name, "//" + name, name + "\\evil", name + "\x00", name + "\x00.evil.example", name + "%00", name + "%2eevil", name + "\t", name + "\x0b", name + "\x7f", name + "\xff", "\u00e4.example", "xn--4ca.example", "amb\u3002example", "amb%2eexample", "*", "*." + name, "-", "_", "a_b.example", "amb-.example", "evil.example",
		"127.0.0.1", "127.1", "0x7f000001", "2130706433", "017700000001", "[::1]", "[::1]:80", "[::1", "::1", "[::1]x", "[::1%lo]", "[::1%25lo]", "[fe80::1%25eth0]", "[::ffff:127.0.0.1]", "[1]", "[]", "[v1.a]", "localhost", strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a.", 200), "(" + name + ")", "\"" + name + "\"", "<" + name + ">", name + "\r\n evil.example", name + "|", "{" + name + "}", "$" + name, name + "!",
	}
	for i, v := range values {
		c.add("GET /host HTTP/1.1\r\nHost: "+v+"\r\n\r\n"+tail, "%d", i)
		c.add("GET http://"+name+"/host HTTP/1.1\r\nHost: "+v+"\r\n\r\n"+tail, "absolute-%d", i)
		c.add("GET /host HTTP/1.1\r\n"+host+"Host: "+v+"\r\n\r\n"+tail, "second-%d", i)
		if i%3 == 0 {
			c.add("GET /host HTTP/1.1\r\nHost: "+v+"\r\n"+host+"\r\n"+tail, "first-%d", i)
			c.add("GET /host HTTP/1.0\r\nHost: "+v+"\r\n\r\n", "old-%d", i)
		}
	}
	c.add("GET /host HTTP/1.1\r\n\r\n"+tail, "none")
	c.add("GET /host HTTP/1.0\r\n\r\n", "none-old")
	c.add("GET http://"+name+"/host HTTP/1.1\r\n\r\n"+tail, "none-absolute")
	c.add("GET http://"+name+"/host HTTP/1.0\r\n\r\n", "none-absolute-old")
	for _, n := range []string{"HOST", "host", "Host ", " Host", "Host\t", "Host\x00", "Ho st", "\x00Host", "H\u00f6st", "Hos\u0165", "Host\x0b", "X: y\nHost", "X: y\rHost"} {
		c.add("GET /host HTTP/1.1\r\n"+n+": "+name+"\r\n\r\n"+tail, "name-%q", n)
		c.add("GET /host HTTP/1.1\r\n"+host+n+": evil.example\r\n\r\n"+tail, "second-name-%q", n)
		c.add("GET /host HTTP/1.1\r\n"+n+": evil.example\r\n"+host+"\r\n"+tail, "first-name-%q", n)
	}
}

const chunked = "Transfer-Encoding: chunked\r\n"

// chunks writes chunks in ways that are not plain.
func (c *corpus) chunks() {
	c.class = "chunk"
	for i, size := range []string{
		"3", "03", "0003", "00000000000000000003", "+3", "-3", "0x3", "0X3", "x3", "3h", "3.0", "3,3", "3 3", " 3", "3 ", "\t3", "3\t", "3\x0b", "\x0b3", "3\x00", "\x003", "", "three", "g", "3g", "\"3\"", "3_", "_3", "\u0663", "\uff13", "3\xa0",
		"fffffffffffffffd", "ffffffffffffffff", "10000000000000003", "100000003", "80000000", "7fffffff", "ffffffff", "7fffffffffffffff", "8000000000000000", "8000000000000003", "0000000000000003", "000000000000003", "1000000000000000000003", "a", "A", "2", "4", "3\r\r", "3\n", "3\r", "3\r\n\r", "3\\", "3%", "3#", "3//", "3/*", "3=", "3:", "3\r\n ",
	} {
		c.add(post(chunked, size+"\r\nabc\r\n0\r\n\r\n"+tail), "size-%d", i)
		c.add(post(chunked, "3\r\nabc\r\n"+size+"\r\n\r\n"+tail), "last-%d", i)
	}
	for i, ext := range []string{
		";", ";a", ";a=b", ";a=\"b\"", ";a=\"b;c\"", ";a=\"b\\\"c\"", ";a=\"b", ";a=b;c=d", "; a=b", " ;a=b", "; a = b", ";a= b", ";a =b", ";;", ";=b", ";a=", ";a=\"\"", ";a=\"\r\n\"", ";a\n", ";a\r", ";a=\"\n\"", ";\x00", ";a\x00", ";a=b\x7f", ";\u00e4=b", ";a=\"\u00e4\"", ";a=\xff", ";a,b", ";a/b", "\ta", " a", "a", ",a", "=a", ";a\nabc\r\n0\r\n\r\nGET /x HTTP/1.1", ";a\r\r\n", ";" + strings.Repeat("a", 200), ";" + strings.Repeat("a", 300), ";" + strings.Repeat("a", 5000), ";a\\\n", ";chunk=\"0\r\n\r\n\"",
	} {
		c.add(post(chunked, "3"+ext+"\r\nabc\r\n0\r\n\r\n"+tail), "extension-%d", i)
		c.add(post(chunked, "3\r\nabc\r\n0"+ext+"\r\n\r\n"+tail), "last-extension-%d", i)
	}
	for i, body := range []string{
		"3\r\nabc0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nab\r\n0\r\n\r\n", "3\r\nabc\r\n\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n", "3\r\nabc\r\n0", "3\r\nabc\r\n", "3\r\nabc", "3\r\nab", "3\r\n", "3", "", "0\r\n\r\n", "0\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "\r\n3\r\nabc\r\n0\r\n\r\n", "3\r\n\r\nabc\r\n0\r\n\r\n", "3\r\nabcXX0\r\n\r\n", "3\r\nabc\r\n00\r\n\r\n", "3\r\nabc\r\n000000\r\n\r\n", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nX", "3\r\n\r\n0\r\n0\r\n\r\n", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\nGET /x HTTP/1.1\r\n" + host + "\r\n", "0\r\n\r\nGET /x HTTP/1.1\r\nX: ", "3\r\nabc\r\n0\r\n\r\n\r\n\r\n",
	} {
		c.add(post(chunked, body+tail), "form-%d", i)
		c.add(post(chunked, body), "form-%d-cut", i)
		c.add("PUT /body HTTP/1.1\r\n"+host+"Connection: close\r\n"+chunked+"\r\n"+body+tail, "form-%d-close", i)
	}
	c.add(post(chunked, strings.Repeat("1\r\na\r\n", 3000)+"0\r\n\r\n"+tail), "many")
	c.add(post(chunked, "5000\r\n"+strings.Repeat("a", 0x5000)+"\r\n0\r\n\r\n"+tail), "large")
	c.add(post(chunked, strings.Repeat("1;"+strings.Repeat("e", 100)+"\r\na\r\n", 100)+"0\r\n\r\n"+tail), "extensions")
}

// trailers sends fields behind a body that have no business there, or no form.
func (c *corpus) trailers() {
	c.class = "trailer"
	for i, f := range []string{
		"X-T: v", "X-T: v\r\nX-U: w", "Content-Length: 3", "Transfer-Encoding: chunked", "Host: evil.example", "Connection: close", "Connection: X-T", "Upgrade: websocket", "Expect: 100-continue", "TE: trailers", "Trailer: X", "Authorization: Basic eA==", "Cookie: a=b", "Set-Cookie: a=b", "Content-Type: text/html", "Content-Encoding: gzip", "Content-Range: bytes 0-0/1", "Cache-Control: no-cache", "Max-Forwards: 0", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "Keep-Alive: x", "Proxy-Connection: x",
		"X-T : v", " X-T: v", "X-T", ": v", "X-T: a\x00b", "X-T: a\r\n b", "X\x00: v", "X_T: v", "X-T:v", "X-T: \xff", "GET /x HTTP/1.1", "X-T: " + strings.Repeat("v", 11000), strings.TrimSuffix(strings.Repeat("X-T: v\r\n", 200), "\r\n"), "X-T: v\n", "X-T: v\r", "X-T: a\nX-U: b", "x-amzn-requestid: forged", "X-Record: forged", "Via: 1.1 evil", "Content_Length: 3",
	} {
		c.add(post(chunked, "3\r\nabc\r\n0\r\n"+f+"\r\n\r\n"+tail), "%d", i)
		c.add(post("Trailer: X-T\r\nTE: trailers\r\n"+chunked, "3\r\nabc\r\n0\r\n"+f+"\r\n\r\n"+tail), "%d-announced", i)
	}
}

// versions asks in other versions of HTTP.
func (c *corpus) versions() {
	c.class = "version"
	for i, v := range []string{
		"HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.1.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1.01", "HTTP/11", "HTTP/1,1", "HTTP/1 1", "HTTP /1.1", "HTTP/ 1.1", "HTTP/1.1 ", " HTTP/1.1", "http/1.1", "Http/1.1", "HTTPS/1.1", "HTTP1.1", "HTTP\\1.1", "HTTP/-1.1", "HTTP/+1.1", "HTTP/1.-1", "HTTP/1.x", "HTTP/x.1", "HTTP/4294967297.1", "HTTP/1.4294967297", "HTTP/\uff11.1", "HTTP/1.1\x00", "HTTP/1.1x", "xHTTP/1.1", "HTTP/1.1 HTTP/1.1", "HTTP", "ICY/1.1", "RTSP/1.0", "SIP/2.0", "", "HTTP/1.0 HTTP/1.1",
	} {
		c.add("GET /version "+v+"\r\n"+host+"\r\n"+tail, "%d", i)
		c.add("POST /version "+v+"\r\n"+host+"Content-Length: 3\r\n\r\nabc"+tail, "%d-post", i)
		c.add("POST /version "+v+"\r\n"+host+chunked+"\r\n3\r\nabc\r\n0\r\n\r\n"+tail, "%d-chunked", i)
		c.add("GET /version "+v+"\r\n"+host+"Connection: keep-alive\r\n\r\n"+tail, "%d-keep", i)
	}
	for i, s := range []string{
		"GET /old\r\n", "GET /old\r\n\r\n", "GET /old\n", "GET\r\n\r\n", "GET \r\n\r\n", "GET  HTTP/1.1\r\n" + host + "\r\n", "\r\nGET /v HTTP/1.1\r\n" + host + "\r\n", "\r\n\r\nGET /v HTTP/1.1\r\n" + host + "\r\n", "\nGET /v HTTP/1.1\r\n" + host + "\r\n", "\rGET /v HTTP/1.1\r\n" + host + "\r\n", " GET /v HTTP/1.1\r\n" + host + "\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 GET /v\r\n" + host + "\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get("/v", ""), "\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c", "GET /v HTTP/1.1", "GET /v HTTP/1.1\r\n", "GET /v HTTP/1.1\r\n" + host, "GET /v HTTP/1.1\r\nHost", "G", "\r\n", "\n", "\x00", "POST /old HTTP/1.0\r\n\r\nabc", "POST /old HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc" + tail, "GET /old HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", "GET /old HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET /old HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n\r\n" + tail,
	} {
		c.add(s, "form-%d", i)
	}
}

// methods asks with methods that some readers treat otherwise.
func (c *corpus) methods() {
	c.class = "method"
	for i, m := range []string{
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "Get", "gET", "FOO", "PROPFIND", "LOCK", "PURGE", "SEARCH", "QUERY", "PRI", "LINK", "BAN", "TRACK", "DEBUG", "G", "GE", "GETT", "GET.", "G_T", "G-T", "!", "GET,POST", "GET;", "GET:", "G\x00ET", "G\tT", "G\xc3\x89T", "\"GET\"", "(GET)", "GET/", "123", strings.Repeat("M", 31), strings.Repeat("M", 32), strings.Repeat("M", 33), strings.Repeat("M", 3000), "", "HTTP/1.1", "*", "GET\\",
	} {
		c.add(m+" /method HTTP/1.1\r\n"+host+"\r\n"+tail, "%d", i)
		c.add(m+" /method HTTP/1.1\r\n"+host+"Content-Length: 3\r\n\r\nabc"+tail, "%d-body", i)
		c.add(m+" /method HTTP/1.1\r\n"+host+chunked+"\r\n3\r\nabc\r\n0\r\n\r\n"+tail, "%d-chunked", i)
		c.add(m+" "+name+":80 HTTP/1.1\r\n"+host+"\r\n"+tail, "%d-authority", i)
	}
}

// connections lists fields as being for this hop.
func (c *corpus) connections() {
	c.class = "connection"
	for i, v := range []string{
		"close", "keep-alive", "Close", "close, keep-alive", "keep-alive, close", "X-Hop", "x-hop", "close, X-Hop", "X-Hop, Content-Length", "Content-Length", "content-length", "Transfer-Encoding", "Host", "Connection", "TE", "Trailer", "Upgrade", "Expect", "Date", "Authorization", "Cookie", "X-Forwarded-For", "X-Real-IP", "Via", "", ",", ",,", " , ", "close,", ",close", "\"close\"", "close;q=1", "clos e", "close close", "close\x00", "close\x0b", "c\x00lose", "close\xa0", "\u00e4", "@", strings.Repeat("X-Hop,", 40), "X-Hop\r\nConnection: X-User", "X-Hop\r\nConnection: close\r\nConnection: keep-alive", "a\r\nConnection: b\r\nConnection: c\r\nConnection: d\r\nConnection: e", "x-amzn-requestid", "cdn-loop", "accept", "Content-Type", "__proto__",
	} {
		const more = "X-Hop: one\r\nX-User: admin\r\n"
		c.add(get("/connection", "Connection: "+v+"\r\n"+more)+tail, "%d", i)
		c.add(post("Connection: "+v+"\r\nContent-Length: 3\r\n"+more, "abc"+tail), "%d-length", i)
		c.add(post("Connection: "+v+"\r\n"+chunked+more, "3\r\nabc\r\n0\r\n\r\n"+tail), "%d-chunked", i)
	}
}

func (c *corpus) expectations() {
	c.class = "expect"
	for i, v := range []string{"100-continue", "100-Continue", "100-CONTINUE", " 100-continue ", "100-continue, x", "100-continue;x=y", "x", "", "100", "200-ok", "100-continue\x00", "100-continue\x0b", "\"100-continue\"", "100 continue", "100-continue\r\nExpect: 100-continue", "100-continue\r\n x"} {
		e := "Expect: " + v + "\r\n"
		c.add(post(e+"Content-Length: 3\r\n", "abc"+tail), "%d-length", i)
		c.add(post(e+chunked, "3\r\nabc\r\n0\r\n\r\n"+tail), "%d-chunked", i)
		c.add(post(e+"Content-Length: 3\r\n", ""), "%d-waiting", i)
		c.add(get("/expect", e)+tail, "%d-get", i)
		c.add("POST /expect HTTP/1.0\r\n"+host+e+"Content-Length: 3\r\n\r\nabc", "%d-old", i)
		c.add("TRACE /expect HTTP/1.1\r\n"+host+e+"\r\n"+tail, "%d-trace", i)
	}
}

func (c *corpus) upgrades() {
	c.class = "upgrade"
	for i, u := range []string{"websocket", "WebSocket", "h2c", "h2c, websocket", "TLS/1.0", "HTTP/2.0", "foo/1", "", "websocket\x00", "websocket\r\nUpgrade: h2c", "connect-udp", "\"websocket\""} {
		f := "Upgrade: " + u + "\r\n"
		c.add(get("/upgrade", "Connection: Upgrade\r\n"+f+"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")+tail, "%d", i)
		c.add(get("/upgrade", "Connection: Upgrade, HTTP2-Settings\r\n"+f+"HTTP2-Settings: AAMAAABkAAQAAP__\r\n")+"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "%d-settings", i)
		c.add(get("/upgrade", f)+tail, "%d-unlisted", i)
		c.add(get("/upgrade", "Connection: keep-alive\r\n"+f)+tail, "%d-other", i)
		c.add(post("Connection: Upgrade\r\n"+f+"Content-Length: 3\r\n", "abc"+tail), "%d-length", i)
		c.add(post("Connection: Upgrade\r\n"+f+chunked, "3\r\nabc\r\n0\r\n\r\n"+tail), "%d-chunked", i)
		c.add("GET /upgrade HTTP/1.0\r\n"+host+"Connection: Upgrade\r\n"+f+"\r\n"+tail, "%d-old", i)
	}
}

// pipelines sends several requests at once, good and bad ones in every order.
func (c *corpus) pipelines() {
	c.class = "pipeline"
	parts := []string{
		get("/p1", ""), "HEAD /p2 HTTP/1.1\r\n" + host + "\r\n", post("Content-Length: 3\r\n", "abc"), post(chunked, "3\r\nabc\r\n0\r\n\r\n"), get("/p5", "Connection: close\r\n"),
		"GET /p6 HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n\r\n", post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"), "\r\n" + get("/p8", ""), post("Content-Length: 0\r\n", ""), post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), post("Content-Length: 9\r\n", "abc"), "BAD\r\n\r\n", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n",
	}
	for i, a := range parts {
		for j, b := range parts {
			c.add(a+b+tail, "%d-%d", i, j)
		}
	}
	c.add(strings.Repeat(get("/many", ""), 40), "many")
	c.add(strings.Repeat(post("Content-Length: 3\r\n", "abc"), 30), "many-post")
	c.add(strings.Repeat(post(chunked, "3\r\nabc\r\n0\r\n\r\n"), 30), "many-chunked")
	c.add(post(fmt.Sprintf("Content-Length: %d\r\n", len(tail)), tail)+tail, "within-length")
	c.add(post(chunked, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(tail), tail))+tail, "within-chunk")
	c.add(get("/p", fmt.Sprintf("Content-Length: %d\r\n", len(tail)))+tail+tail, "within-get")
	c.add("HEAD /p HTTP/1.1\r\n"+host+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(tail))+tail+tail, "within-head")
}

// sizes is at the bounds, and beyond.
func (c *corpus) sizes() {
	c.class = "size"
	for _, n := range []int{8100, 8192, 10240, 10241, 16384, 20000, 70000} {
		c.add(get("/size", "X-Big: "+strings.Repeat("b", n)+"\r\n")+tail, "value-%d", n)
		c.add(get("/"+strings.Repeat("t", n), "")+tail, "target-%d", n)
		c.add(post(fmt.Sprintf("Content-Length: %d\r\n", n), strings.Repeat("b", n)+tail), "body-%d", n)
		c.add(post(chunked, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("b", n))+tail), "chunk-%d", n)
	}
	for _, n := range []int{90, 98, 99, 100, 101, 500} {
		c.add(get("/size", strings.Repeat("X-Many: v\r\n", n))+tail, "fields-%d", n)
	}
}
