// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// wire carries bytes to a gateway and back. What send is given leaves with the
// next read at the latest.
type wire interface {
	send(b []byte) error
	read(b []byte) (int, error)
	close() error
}

const dialTimeout = 10 * time.Second

func dial(p *Plan) (wire, error) {
	c, err := net.DialTimeout("tcp", p.Addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(p.patience())); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if p.TLS == nil {
		return newTCP(c.(*net.TCPConn))
	}
	t := tls.Client(c, p.TLS)
	if err := t.Handshake(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if p.HTTP2 && t.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, errors.Join(errNoHTTP2, c.Close())
	}
	return secure{t}, nil
}

var errNoHTTP2 = errors.New("the gateway does not offer HTTP/2")

type secure struct{ *tls.Conn }

func (s secure) send(b []byte) error        { _, err := s.Write(b); return err }
func (s secure) read(b []byte) (int, error) { return s.Read(b) }
func (s secure) close() error               { return s.NetConn().Close() }

// tcp spares the read that finds nothing: right after a request has been sent
// the answer cannot be there, so the goroutine is parked at once. The load
// costs less, and leaves more of the machine to what is measured.
type tcp struct {
	c    *net.TCPConn
	rc   syscall.RawConn
	out  []byte // to be sent
	in   []byte // to be read into
	n    int
	err  error
	turn func(fd uintptr) bool
}

func newTCP(c *net.TCPConn) (*tcp, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	t := &tcp{c: c, rc: rc}
	t.turn = t.step
	return t, nil
}

func (t *tcp) send(b []byte) error {
	t.out = b
	return nil
}

func (t *tcp) read(b []byte) (int, error) {
	t.in, t.n, t.err = b, 0, nil
	if err := t.rc.Read(t.turn); err != nil {
		return 0, err
	}
	if t.err == nil && t.n == 0 {
		t.err = io.EOF
	}
	return t.n, t.err
}

// step does what can be done now and says whether something was read.
func (t *tcp) step(fd uintptr) bool {
	if len(t.out) > 0 {
		n, err := syscall.Write(int(fd), t.out)
		switch {
		case err == syscall.EAGAIN || err == syscall.EINTR || (err == nil && n < len(t.out)):
			// More than the kernel takes at once: leave the rest to the runtime.
			if err == nil {
				t.out = t.out[n:]
			}
			rest := t.out
			t.out = nil
			if _, err := t.c.Write(rest); err != nil {
				t.err = err
				return true
			}
		case err != nil:
			t.err = fmt.Errorf("write: %w", err)
			return true
		}
		t.out = nil
		return false
	}
	n, err := syscall.Read(int(fd), t.in)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return false
	}
	if err != nil {
		t.err = fmt.Errorf("read: %w", err)
		return true
	}
	t.n = n
	return true
}

func (t *tcp) close() error { return t.c.Close() }
