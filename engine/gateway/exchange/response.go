// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package exchange

import (
	"io"
	"net"
)

// Response is what will be sent to the client. Nothing is sent before the handler returns, so a filter may still change
// all of it after the filters behind it.
type Response struct {
	// Status is the final status code. 101 needs Takeover.
	Status int
	// Header holds the fields to send. The engine writes the framing itself and skips Connection, Content-Length,
	// Transfer-Encoding and their like; Date is added where missing.
	Header Header
	// Body is read by the engine after the handler has returned and closed when the exchange ends; nil is no body. A
	// body with a method Buffered() int says how much can be read without waiting; one with Settle() has a part still
	// under way that must end before the exchange is accounted for.
	Body io.ReadCloser
	// Length is the length of Body, or -1 when only its end will tell. For HEAD it is the length a GET would have had.
	Length int64
	// Trailer is sent after a body of unknown length to a client that accepts trailers. It is read after the body's end.
	Trailer Header
	// Close asks that the client's connection be closed after this response.
	Close bool
	// Reset ends the client's connection in place of a response, as if nobody had been there.
	Reset bool
	// Takeover is called after the head of a 101 response has been sent; the connection is then its own, without
	// deadlines, and is closed when it returns.
	Takeover func(net.Conn)

	inline bytesBody
}

// Buffered is implemented by bodies that know how many bytes can be read without waiting.
type Buffered interface {
	Buffered() int
}

// Eager is implemented by bodies that may have more at hand than they know of. ReadNow reads what is there and does not
// wait; 0 says that there is nothing, or that only Read will tell.
type Eager interface {
	ReadNow(p []byte) int
}

// Settler is implemented by bodies with work under way beside Read.
type Settler interface {
	Settle()
}

// bytesBody serves Reply without allocating.
type bytesBody struct {
	b []byte
}

func (b *bytesBody) Read(p []byte) (int, error) {
	n := copy(p, b.b)
	b.b = b.b[n:]
	if len(b.b) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (b *bytesBody) Buffered() int { return len(b.b) }

func (b *bytesBody) Close() error {
	b.b = nil
	return nil
}

func (r *Response) reset() {
	h, t := r.Header, r.Trailer
	h.Reset()
	t.Reset()
	*r = Response{Header: h, Trailer: t}
}
