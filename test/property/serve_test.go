// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
)

// handshakeRecord is the first byte of a TLS connection.
const handshakeRecord = 0x16

// serve answers the requests of a connection, in clear or over TLS with a
// certificate that nobody has a reason to trust.
func (t *tunnel) serve(c net.Conn) {
	t.mu.Lock()
	if t.gone {
		t.mu.Unlock()
		_ = c.Close() // the other side is told by that
		return
	}
	t.conns[c] = true
	t.mu.Unlock()
	defer func() {
		_ = c.Close() // both sides are done
		t.mu.Lock()
		delete(t.conns, c)
		t.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	if first, err := r.Peek(1); err != nil {
		return
	} else if first[0] == handshakeRecord {
		secure := tls.Server(&peeked{c, r}, &tls.Config{Certificates: []tls.Certificate{selfSigned()}})
		answerAll(bufio.NewReader(secure), secure)
		return
	}
	answerAll(r, c)
}

// peeked is a connection of which the beginning was looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

func answerAll(r *bufio.Reader, w io.Writer) {
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
		body := "the machine was asked for " + q.Method + " " + q.URL.Path
		if q.Method == http.MethodHead {
			body = ""
		}
		if _, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			return
		}
	}
}
