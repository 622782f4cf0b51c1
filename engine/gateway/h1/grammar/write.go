// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"slices"
	"strconv"

	"postern.dev/postern/engine/gateway/exchange"
)

// Outgoing is the head of a request to be sent.
type Outgoing struct {
	Method    string
	Path      string
	RawQuery  string
	HasQuery  bool
	Authority string
	Header    *exchange.Header
	Length    int64 // 0 no body, -1 chunked
	Upgrade   string
	Close     bool
}

// AppendRequest appends the head of an HTTP/1.1 request to dst. The framing is made from Length: the fields that frame
// a message, or are meant for one hop, are left out of Header. Nothing is sent that the parser would not accept.
func AppendRequest(dst []byte, o *Outgoing) ([]byte, *Error) {
	if o.Method == "" || len(o.Method) > maxMethod || !all(o.Method, isToken) || o.Method == "CONNECT" || !ValidAuthority(o.Authority) {
		return dst, ErrUnsendable
	}
	if o.Path == "*" && o.Method == "OPTIONS" && !o.HasQuery && o.RawQuery == "" {
	} else if o.Path == "" || o.Path[0] != '/' || !encoded(o.Path, isPath) || !encoded(o.RawQuery, isQuery) {
		return dst, ErrUnsendable
	}
	dst = append(dst, o.Method...)
	dst = append(dst, ' ')
	dst = append(dst, o.Path...)
	if o.HasQuery || o.RawQuery != "" {
		dst = append(dst, '?')
		dst = append(dst, o.RawQuery...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, o.Authority...)
	dst = append(dst, '\r', '\n')
	dst, err := appendFields(dst, o.Header, false)
	if err != nil {
		return dst, err
	}
	switch {
	case o.Length < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case o.Length > 0 || expectsBody(o.Method):
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, o.Length, 10)
		dst = append(dst, '\r', '\n')
	}
	switch {
	case o.Upgrade != "":
		if !validValue(o.Upgrade) || trim(o.Upgrade) != o.Upgrade || o.Length != 0 {
			return dst, ErrUnsendable
		}
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, o.Upgrade...)
		dst = append(dst, '\r', '\n')
	case o.Close:
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, '\r', '\n'), nil
}

// expectsBody tells the methods whose lack of a body is worth saying.
func expectsBody(method string) bool {
	return method == "POST" || method == "PUT" || method == "PATCH"
}

// Answer is the head of a response to be sent.
type Answer struct {
	Status int
	Header *exchange.Header
	Length int64 // of the body; -1 chunked; -2 none is announced
	Close  bool
	// KeepAlive answers an HTTP/1.0 client that asked for it.
	KeepAlive bool
	// Date is sent where Header has none; the empty string sends none.
	Date []byte
}

// NoLength as the Length of an Answer announces no body.
const NoLength = -2

// AppendResponse appends the head of an HTTP/1.1 response to dst.
func AppendResponse(dst []byte, a *Answer) ([]byte, *Error) {
	if a.Status < 100 || a.Status > 999 {
		return dst, ErrUnsendable
	}
	if a.Status < len(statusLines) && statusLines[a.Status] != "" {
		dst = append(dst, statusLines[a.Status]...)
	} else {
		dst = append(dst, "HTTP/1.1 "...)
		dst = strconv.AppendInt(dst, int64(a.Status), 10)
		dst = append(dst, " \r\n"...)
	}
	if len(a.Date) > 0 && !a.Header.Has("Date") {
		dst = append(dst, "Date: "...)
		dst = append(dst, a.Date...)
		dst = append(dst, '\r', '\n')
	}
	dst, err := appendFields(dst, a.Header, true)
	if err != nil {
		return dst, err
	}
	switch {
	case a.Length >= 0:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, a.Length, 10)
		dst = append(dst, '\r', '\n')
	case a.Length == -1:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case a.Status == 101:
		up := a.Header.Get("Upgrade")
		if up == "" || !validValue(up) {
			return dst, ErrUnsendable
		}
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, up...)
		dst = append(dst, '\r', '\n')
	case a.Close:
		dst = append(dst, "Connection: close\r\n"...)
	case a.KeepAlive:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, '\r', '\n'), nil
}

func appendFields(dst []byte, h *exchange.Header, response bool) ([]byte, *Error) {
	if h == nil {
		return dst, nil
	}
	for i := range h.Len() {
		f := h.At(i)
		switch which(f.Name) {
		case other, fieldDate:
		case fieldHost, fieldExpect:
			if !response {
				continue
			}
		default:
			continue
		}
		if f.Name == "" || !all(f.Name, isToken) || !validValue(f.Value) || trim(f.Value) != f.Value {
			return dst, ErrUnsendable
		}
		dst = appendField(dst, f.Name, f.Value)
	}
	return dst, nil
}

// appendField appends a line, for which there is room nearly always.
func appendField(dst []byte, name, value string) []byte {
	at := len(dst)
	dst = slices.Grow(dst, len(name)+len(value)+4)[:at+len(name)+len(value)+4]
	at += copy(dst[at:], name)
	dst[at], dst[at+1] = ':', ' '
	at += 2 + copy(dst[at+2:], value)
	dst[at], dst[at+1] = '\r', '\n'
	return dst
}

// ChunkHead is the room that AppendChunkHead needs at most for chunks under 1<<28 bytes.
const ChunkHead = 9

// AppendChunkHead appends the line that announces n bytes of chunk data.
func AppendChunkHead(dst []byte, n int) []byte {
	dst = strconv.AppendInt(dst, int64(n), 16)
	return append(dst, '\r', '\n')
}

// AppendLastChunk appends the end of a chunked body: the last chunk and, where not nil, the trailer.
func AppendLastChunk(dst []byte, trailer *exchange.Header) ([]byte, *Error) {
	dst = append(dst, '0', '\r', '\n')
	if trailer != nil {
		for i := range trailer.Len() {
			f := trailer.At(i)
			if f.Name == "" || !TrailerAllowed(f.Name) || !all(f.Name, isToken) || !validValue(f.Value) {
				return dst, ErrUnsendable
			}
			dst = append(dst, f.Name...)
			dst = append(dst, ':', ' ')
			dst = append(dst, f.Value...)
			dst = append(dst, '\r', '\n')
		}
	}
	return append(dst, '\r', '\n'), nil
}
