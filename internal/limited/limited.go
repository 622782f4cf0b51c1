// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package limited bounds how much is open at once: the connections of a listener,
// or what many parties share.
package limited

import (
	"net"
	"sync"
)

// Listener returns l with at most n connections open: Accept waits while there
// are as many.
func Listener(l net.Listener, n int) net.Listener {
	return &listener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a slot, then for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{Conn: c, release: func() { <-l.slots }}, nil
}

// Close ends Accept too while it waits for a slot.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type conn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close frees the slot, once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
