// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exchange

import (
	"io"
	"strings"
	"time"
	"unsafe"
)

// Proto is the version of HTTP a request arrived by.
type Proto uint8

// The versions of HTTP.
const (
	HTTP10 Proto = iota + 1
	HTTP11
	HTTP2
	HTTP3
)

// String returns the version as access logs spell it.
func (p Proto) String() string {
	switch p {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP11:
		return "HTTP/1.1"
	case HTTP2:
		return "HTTP/2.0"
	case HTTP3:
		return "HTTP/3.0"
	}
	return "HTTP/?"
}

// Request is what the client asked for. Its strings are views of the connection's buffer: they hold until the exchange
// is finished, and whoever keeps one longer must clone it.
type Request struct {
	// Method is case-sensitive, as HTTP has it.
	Method string
	// Target is the request target as received.
	Target string
	// Path is the target's path, percent-encoded as received and beginning with "/" ("*" for a server-wide OPTIONS).
	Path string
	// RawQuery is what follows the first "?", without it. HasQuery tells "/x?" from "/x".
	RawQuery string
	HasQuery bool
	// Scheme is "http" or "https".
	Scheme string
	// Authority is the Host field (or :authority) as received; Host is its name or address in lower case and without
	// port or brackets, Port its port or the empty string. An HTTP/1.0 request may have none of them.
	Authority string
	Host      string
	Port      string
	// Header holds the end-to-end fields, Host and Content-Length included. Hop-by-hop fields and those that the
	// Connection field lists never get here.
	Header Header
	// Body is never nil. Length is its length, or -1 when only its end will tell.
	Body   io.Reader
	Length int64
	// Continue says that the client may wait to be asked for the body, which the first Read does (100 Continue). That
	// writes to the client: it has to be over before a response is.
	Continue bool
	// Trailer is complete once Body has returned io.EOF.
	Trailer Header
	// Announces is the client's field Trailer: the names of fields that it means to send there. Nothing holds it to them.
	Announces string
	Proto     Proto
	// Upgrade is the protocol that the client asks to change to, such as "websocket", or the empty string.
	Upgrade string
	// AcceptsTrailers says that the client sent "TE: trailers".
	AcceptsTrailers bool

	hostBuf []byte
	pathBuf []byte
}

// Aborter is implemented by request bodies whose Read can be interrupted from another goroutine. After Abort the
// connection that carries the body is not used again.
type Aborter interface {
	Abort()
}

// Patient is implemented by request bodies whose Read waits for the client for no longer than a time. Wait sets it for the
// reads that follow: negative is no bound, 0 is the connection's own.
type Patient interface {
	Wait(d time.Duration)
}

// NoBody is the empty request body.
var NoBody io.Reader = noBody{}

type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.EOF }

// SetAuthority sets Authority and, from it, Host and Port. The authority must be valid already.
func (r *Request) SetAuthority(authority string) {
	r.Authority, r.Host, r.Port = authority, authority, ""
	if len(authority) > 0 && authority[0] == '[' {
		if i := strings.IndexByte(authority, ']'); i > 0 {
			r.Host = authority[1:i]
			if i+2 <= len(authority) {
				r.Port = authority[i+2:]
			}
		}
	} else if i := strings.IndexByte(authority, ':'); i >= 0 {
		r.Host, r.Port = authority[:i], authority[i+1:]
	}
	for i := 0; i < len(r.Host); i++ {
		if c := r.Host[i]; 'A' <= c && c <= 'Z' {
			r.lowerHost()
			return
		}
	}
}

func (r *Request) lowerHost() {
	r.hostBuf = append(r.hostBuf[:0], r.Host...)
	for i, c := range r.hostBuf {
		if 'A' <= c && c <= 'Z' {
			r.hostBuf[i] = c | 0x20
		}
	}
	r.Host = view(r.hostBuf)
}

// DecodedPath returns Path with its percent-encoding undone, and false where the encoding is broken. An encoded slash
// becomes a slash like any other: routing that must tell them apart works on Path.
func (r *Request) DecodedPath() (string, bool) {
	if strings.IndexByte(r.Path, '%') < 0 {
		return r.Path, true
	}
	b := r.pathBuf[:0]
	for i := 0; i < len(r.Path); i++ {
		c := r.Path[i]
		if c == '%' {
			if i+2 >= len(r.Path) {
				return "", false
			}
			hi, lo := unhex(r.Path[i+1]), unhex(r.Path[i+2])
			if hi > 15 || lo > 15 {
				return "", false
			}
			c = hi<<4 | lo
			i += 2
		}
		b = append(b, c)
	}
	r.pathBuf = b
	return view(b), true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

func (r *Request) reset() {
	h, t, hb, pb := r.Header, r.Trailer, r.hostBuf, r.pathBuf
	h.Reset()
	t.Reset()
	*r = Request{Header: h, Trailer: t, hostBuf: hb[:0], pathBuf: pb[:0], Body: NoBody}
}

// view makes a string of b without copying it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
