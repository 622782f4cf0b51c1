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
	return &conn{Conn: c, Place: NewPlace(func() { <-l.slots })}, nil
}

// Close ends Accept too while it waits for a slot.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Mover is a connection that holds a place and can give it back early, for
// another that it was given elsewhere.
type Mover interface {
	// Move gives the place back now and has leave called when the connection is
	// closed. It reports false, and does neither, if it is closed or was moved.
	Move(leave func()) bool
}

// Place is what a connection holds.
type Place struct {
	mu            sync.Mutex
	leave         func()
	moved, closed bool
}

// NewPlace holds a place that leave gives back.
func NewPlace(leave func()) *Place { return &Place{leave: leave} }

// Move is that of Mover.
func (p *Place) Move(leave func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.moved {
		return false
	}
	was := p.leave
	p.leave, p.moved = leave, true
	was()
	return true
}

// Close gives the place back, once.
func (p *Place) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.leave()
	}
}

type conn struct {
	net.Conn
	*Place
}

// Close frees the place, once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.Place.Close()
	return err
}
