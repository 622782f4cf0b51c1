// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package origin is the backend of the benchmarks: an HTTP/1.1 server that
// costs as little as can be, so that what is measured is the gateway. One
// thread waits for all connections. It understands what gateways send and no
// more, and answers every request alike.
package origin

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Server answers requests until it is closed with its process.
type Server struct {
	listener, poll int
	address        string
	answer         []byte
	conns          map[int32]*conn
}

// conn is one connection: what was read and not understood yet, and what is
// left to be written.
type conn struct {
	in   []byte
	out  []byte
	wait bool // the poll tells when more can be written
	skip int  // bytes of a body that are still to come
}

// Listen opens a server on a free port of this machine, whose answers have a
// body of size bytes.
func Listen(size int) (*Server, error) {
	l, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	s := &Server{listener: l, conns: map[int32]*conn{}}
	if err := syscall.Bind(l, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Listen(l, 4096); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	name, err := syscall.Getsockname(l)
	if err != nil {
		return nil, fmt.Errorf("ask for the port: %w", err)
	}
	s.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	if s.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a poll: %w", err)
	}
	s.answer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
	s.answer = append(s.answer, bytes.Repeat([]byte("x"), size)...)
	return s, s.control(syscall.EPOLL_CTL_ADD, l, syscall.EPOLLIN)
}

// Address is where it listens.
func (s *Server) Address() string { return s.address }

func (s *Server) control(op, fd int, events uint32) error {
	return syscall.EpollCtl(s.poll, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

// Serve answers until something fails that is not a connection's.
func (s *Server) Serve() error {
	events := make([]syscall.EpollEvent, 256)
	buf := make([]byte, 256<<10)
	for {
		n, err := syscall.EpollWait(s.poll, events, -1)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		for _, e := range events[:n] {
			if int(e.Fd) == s.listener {
				if err := s.accept(); err != nil {
					return err
				}
				continue
			}
			c := s.conns[e.Fd]
			if c == nil || !s.turn(int(e.Fd), c, buf) {
				delete(s.conns, e.Fd)
				_ = syscall.Close(int(e.Fd)) // the gateway has gone, or will see that we have
			}
		}
	}
}

func (s *Server) accept() error {
	for {
		fd, _, err := syscall.Accept4(s.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch err {
		case nil:
		case syscall.EAGAIN:
			return nil
		case syscall.EINTR, syscall.ECONNABORTED:
			continue
		default:
			return fmt.Errorf("accept: %w", err)
		}
		// Without it an answer in two parts would wait for an acknowledgement.
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		s.conns[int32(fd)] = &conn{}
		if err := s.control(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN); err != nil {
			return fmt.Errorf("poll a connection: %w", err)
		}
	}
}

// turn does what can be done on a connection, and says whether it stays open.
func (s *Server) turn(fd int, c *conn, buf []byte) bool {
	if len(c.out) > 0 {
		return s.write(fd, c)
	}
	n, err := syscall.Read(fd, buf)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	got := buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, got...)
		got = c.in
	}
	for {
		if c.skip > 0 {
			used := min(c.skip, len(got))
			got, c.skip = got[used:], c.skip-used
			if c.skip > 0 {
				break
			}
			c.pend(s.answer)
		}
		used, body, complete := request(got)
		if used == 0 {
			break
		}
		got = got[used:]
		if body > 0 {
			c.skip = body
			continue
		}
		if complete {
			c.pend(s.answer)
		}
	}
	c.in = append(c.in[:0], got...)
	return s.write(fd, c)
}

// pend has an answer written. A single one is not copied.
func (c *conn) pend(answer []byte) {
	if len(c.out) == 0 {
		c.out = answer[:len(answer):len(answer)]
		return
	}
	c.out = append(c.out, answer...)
}

func (s *Server) write(fd int, c *conn) bool {
	for len(c.out) > 0 {
		n, err := syscall.Write(fd, c.out)
		if err == syscall.EAGAIN {
			if c.wait {
				return true
			}
			c.wait = true
			return s.control(syscall.EPOLL_CTL_MOD, fd, syscall.EPOLLOUT) == nil
		}
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		c.out = c.out[n:]
	}
	c.out = nil
	if c.wait {
		c.wait = false
		return s.control(syscall.EPOLL_CTL_MOD, fd, syscall.EPOLLIN) == nil
	}
	return true
}

var (
	headEnd  = []byte("\r\n\r\n")
	lengthOf = []byte("\r\ncontent-length:")
	chunked  = []byte("\r\ntransfer-encoding:")
	lastOnes = []byte("\r\n0\r\n\r\n") // the bodies that are sent hold no line ends
)

// request looks at the first request in b: how many bytes of b are used, and
// how many of a body follow those. Nothing is used until the head is there, and
// if the body is in chunks, all of it.
func request(b []byte) (used, body int, complete bool) {
	i := bytes.Index(b, headEnd)
	if i < 0 {
		return 0, 0, false
	}
	head, used := b[:i+2], i+4
	if b[0] == 'G' { // GET has none
		return used, 0, true
	}
	head = bytes.ToLower(head)
	if j := bytes.Index(head, lengthOf); j >= 0 {
		value, _, _ := bytes.Cut(head[j+len(lengthOf):], []byte("\r"))
		body, _ = strconv.Atoi(string(bytes.TrimSpace(value))) // the gateway's own error
		return used, body, body == 0
	}
	if bytes.Contains(head, chunked) {
		j := bytes.Index(b[i:], lastOnes)
		if j < 0 {
			return 0, 0, false
		}
		used = i + j + len(lastOnes)
	}
	return used, 0, true
}
