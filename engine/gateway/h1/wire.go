// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"
)

// wire is all that the engine asks of a connection. Any net.Conn is one.
type wire interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// halfCloser is a wire that can end its sending side alone.
type halfCloser interface {
	CloseWrite() error
}

// secured is a wire under TLS, such as *tls.Conn.
type secured interface {
	HandshakeContext(ctx context.Context) error
	ConnectionState() tls.ConnectionState
}

// taken is the connection as a Takeover sees it: what was read ahead comes first.
type taken struct {
	net.Conn
	c *conn
}

func (t *taken) Read(p []byte) (int, error) {
	if t.c.src.Buffered() > 0 {
		return t.c.src.Take(p), nil
	}
	n, err := t.Conn.Read(p)
	if err == io.EOF && (t.c.s.killed.Load() || t.c.ctx.Err() != nil) {
		err = net.ErrClosed // it was kill that ended the client's side, and there is no other
	}
	return n, err
}

// preface begins the first line of a client that speaks HTTP/2 without asking first.
const preface = "PRI * HTTP/2.0\r\n\r\n"

// prior is the connection of such a client, from its first byte on.
type prior struct {
	taken
	again string
}

func (p *prior) Read(b []byte) (int, error) {
	if len(p.again) > 0 {
		n := copy(b, p.again)
		p.again = p.again[n:]
		return n, nil
	}
	return p.taken.Read(b)
}

// CloseWrite ends the sending side, where the connection can.
func (t *taken) CloseWrite() error {
	if h, ok := t.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return t.Conn.Close()
}
