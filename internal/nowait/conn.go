// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package nowait

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Conn is a TCP connection that reads and writes with the calls of this package
// and waits in the poller when it has to. One goroutine may read and one write
// at a time.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn

	reading, writing func(fd uintptr) bool // made once
	in, out          []byte
	got              int
	readErr, sendErr error
}

// Wrap returns c as a Conn, or c itself where it is not the kernel's TCP.
func Wrap(c net.Conn) net.Conn {
	raw := Of(c)
	if raw == nil {
		return c
	}
	w := &Conn{TCPConn: c.(*net.TCPConn), raw: raw}
	w.reading, w.writing = w.receive, w.send
	return w
}

// Read reads what there is, and waits if there is nothing.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in, c.got, c.readErr = p, 0, nil
	err := c.raw.Read(c.reading)
	c.in = nil
	if err == nil {
		err = c.readErr
	}
	return c.got, err
}

func (c *Conn) receive(fd uintptr) bool {
	n, e := Receive(fd, c.in)
	switch {
	case e == syscall.EAGAIN:
		return false
	case e != 0:
		c.readErr = os.NewSyscallError("recv", e)
	case n == 0:
		c.readErr = io.EOF
	}
	c.got = n
	return true
}

// Write writes all of p, and waits while there is no room.
func (c *Conn) Write(p []byte) (int, error) {
	c.out, c.sendErr = p, nil
	err := c.raw.Write(c.writing)
	n := len(p) - len(c.out)
	c.out = nil
	if err == nil {
		err = c.sendErr
	}
	return n, err
}

func (c *Conn) send(fd uintptr) bool {
	for len(c.out) > 0 {
		n, e := Send(fd, c.out)
		c.out = c.out[n:]
		if e == syscall.EAGAIN {
			return false
		}
		if e != 0 {
			c.sendErr = os.NewSyscallError("send", e)
			return true
		}
	}
	return true
}
