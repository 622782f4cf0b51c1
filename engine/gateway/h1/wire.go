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
	return n, unlessKilled(t.c.ctx, t.c.s, err)
}

// unlessKilled is err, but for an end of the client's side that was kill's doing: there is no other side then.
func unlessKilled(ctx context.Context, s *Server, err error) error {
	if err == io.EOF && (s.killed.Load() || ctx.Err() != nil) {
		return net.ErrClosed
	}
	return err
}

// preface begins the first line of a client that speaks HTTP/2 without asking first.
const preface = "PRI * HTTP/2.0\r\n\r\n"

// prior is the connection of such a client, from its first byte on. The server of HTTP/2 may still be reading from it
// when it has returned: it holds on to nothing that is used again for other connections.
type prior struct {
	net.Conn
	s     *Server
	ctx   context.Context
	ahead []byte
}

// before is c as the server of HTTP/2 sees it.
func (c *conn) before() *prior {
	p := &prior{Conn: c.nc, s: c.s, ctx: c.ctx, ahead: make([]byte, len(preface)+c.src.Buffered())}
	c.src.Take(p.ahead[copy(p.ahead, preface):])
	return p
}

// Read reads what had been read first.
func (p *prior) Read(b []byte) (int, error) {
	if len(p.ahead) > 0 {
		n := copy(b, p.ahead)
		p.ahead = p.ahead[n:]
		return n, nil
	}
	n, err := p.Conn.Read(b)
	return n, unlessKilled(p.ctx, p.s, err)
}

// CloseWrite ends the sending side, where the connection can.
func (t *taken) CloseWrite() error {
	if h, ok := t.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return t.Conn.Close()
}
