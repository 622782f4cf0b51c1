// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// relay is a SOCKS5 proxy (RFC 1928) on loopback by which a process that knows
// nothing of the segment calls from an address on it, or from a Host. It carries
// bytes and nothing else: names and connections are the dialer's, TLS is between
// the process and whom it calls.
type relay struct {
	listener net.Listener
	dialer   atomic.Pointer[dialer] // nil: there is no way out
	ctx      context.Context        // ends with close
	cancel   context.CancelFunc
	wait     sync.WaitGroup
}

func newRelay() (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			r.wait.Go(func() { r.serve(c) })
		}
	})
	return r, nil
}

func (r *relay) url() string { return "socks5://" + r.listener.Addr().String() }

// use lets connections begin at d from now on; nil refuses them.
func (r *relay) use(d *dialer) { r.dialer.Store(d) }

func (r *relay) close() error {
	r.cancel()
	err := r.listener.Close()
	r.wait.Wait()
	return err
}

// The replies of SOCKS5.
const (
	socksDone        byte = 0
	socksUnreachable byte = 4
	socksRefused     byte = 5
	socksSilence     byte = 6
)

// serve carries one connection.
func (r *relay) serve(c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(r.ctx, func() { _ = c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(patience)) // a connection without deadlines fails below
	to, err := asked(c)
	if err != nil {
		return // who speaks something else is no gateway
	}
	out, code := r.dial(to)
	if _, err := c.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil || out == nil {
		if out != nil {
			_ = out.Close()
		}
		return
	}
	_ = c.SetDeadline(time.Time{})
	var wait sync.WaitGroup
	wait.Go(func() {
		_, _ = io.Copy(out, c) // the end of either is the end of both
		_ = out.Close()
	})
	_, _ = io.Copy(c, out)
	_, _ = c.Close(), out.Close()
	wait.Wait()
}

func (r *relay) dial(to string) (net.Conn, byte) {
	d := r.dialer.Load()
	if d == nil {
		return nil, socksRefused
	}
	ctx, cancel := context.WithTimeout(r.ctx, silence)
	defer cancel()
	c, err := d.dial(ctx, to)
	switch {
	case err == nil:
		return c, socksDone
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, socksRefused
	case ctx.Err() != nil:
		return nil, socksSilence
	}
	return nil, socksUnreachable
}

// asked reads a greeting and a request to connect, as host:port.
func asked(c net.Conn) (string, error) {
	var b [256]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(c, b[2:2+int(b[1])]); err != nil || b[0] != 5 {
		return "", fmt.Errorf("no SOCKS5: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(c, b[:4]); err != nil {
		return "", err
	}
	kind := b[3]
	size := map[byte]int{1: net.IPv4len, 4: net.IPv6len}[kind]
	if kind == 3 {
		if _, err := io.ReadFull(c, b[:1]); err != nil {
			return "", err
		}
		size = int(b[0])
	}
	if size == 0 {
		return "", fmt.Errorf("an address of kind %d", kind)
	}
	if _, err := io.ReadFull(c, b[:size]); err != nil {
		return "", err
	}
	host := string(b[:size])
	if kind != 3 {
		a, _ := netip.AddrFromSlice(b[:size]) // of either length
		host = a.String()
	}
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(b[:2])))), nil
}
