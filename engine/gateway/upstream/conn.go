// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/internal/nowait"
)

// conn is one connection to a backend. As a response's body it belongs to the exchange until that closes it.
type conn struct {
	p     *Pool
	b     *bucket
	epoch uint64
	nc    net.Conn
	under net.Conn // as it was dialled: beneath TLS
	tls   bool
	// condemned connections are not pooled again.
	condemned atomic.Bool
	src       grammar.Source
	body      grammar.Body
	mem       *memory
	out       []byte
	since     time.Time // in the pool

	// Of the call under way.
	e      *exchange.Exchange
	method string
	// interim gets what comes before the response.
	interim func(status int, h *exchange.Header)
	by      time.Time // when the whole call ends; zero is never
	readBy  time.Time // when the read under way ends
	armed   time.Time // the deadline set last
	reused  bool
	lazy    bool // the request is for the swap to send
	last    bool // no call follows on this connection
	pump    *pump
	unwatch func() bool // ends the watch over the caller's stream; nil if there is none
	pace

	// Of a connection of the kernel's TCP.
	raw   syscall.RawConn // nil for others
	look  func(fd uintptr)
	quiet bool // what look saw
	swap  swap
}

// memory is what a connection reads into and writes from. One of the kernel's TCP gives it back when it has been pooled
// for a while; the others keep it, as they are likely to be taken soon.
type memory struct {
	in  [16 << 10]byte
	out [keptOut]byte
}

const keptOut = 4 << 10

var memories = sync.Pool{New: func() any { return new(memory) }}

func newConn(p *Pool, b *bucket, epoch uint64, nc net.Conn) *conn {
	c := &conn{p: p, b: b, epoch: epoch, nc: nc, under: nc, raw: nowait.Of(nc)}
	c.src.Reset(wire{c})
	c.look = func(fd uintptr) { c.quiet = quiet(fd) }
	c.swap.init(c)
	return c
}

// equip gets memory for a call.
func (c *conn) equip() {
	switch {
	case c.raw != nil:
		if c.mem == nil {
			c.mem = memories.Get().(*memory)
		}
		c.src.Lend(c.mem.in[:]) // they may have become larger ones
		c.out = c.mem.out[:0]
	case c.out == nil:
		c.out = make([]byte, 0, keptOut)
	}
}

// strip gives it back. No string of a response is in use any longer.
func (c *conn) strip() {
	if c.mem != nil {
		c.src.Withdraw()
		c.out = nil
		memories.Put(c.mem)
		c.mem = nil
	}
}

// quiet looks whether a resting connection is as it should be. If it has been closed, or has been sent something that
// nobody asked for, it is of no more use. (A record of TLS that comes between responses is all but surely its end.)
func quiet(fd uintptr) bool {
	var one [1]byte
	_, e := nowait.Peek(fd, one[:])
	return e == syscall.EAGAIN
}

type answer uint8

const (
	no answer = iota
	yes
	unknown
)

func (c *conn) alive() answer {
	if c.raw == nil {
		return unknown
	}
	if c.raw.Control(c.look) != nil || !c.quiet {
		return no
	}
	return yes
}

// discard closes the connection for good.
func (c *conn) discard() {
	c.p.unregister(c)
	c.nc.Close() // nothing is owed to the peer any more
	c.swap.end()
	c.strip()
}

// wire is the conn as its Source reads it: under the deadline of the call.
type wire struct{ c *conn }

// Read reads from the connection.
func (w wire) Read(p []byte) (int, error) {
	c := w.c
	for {
		var n int
		var err error
		if c.swaps() {
			n, err = c.swap.carry(p)
		} else {
			n, err = c.nc.Read(p)
		}
		if n > 0 {
			return n, nil
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if now := time.Now(); !c.readBy.IsZero() && !now.Before(c.readBy) && !c.extend(now) {
			return 0, err
		}
		c.armed = c.readBy // the deadline was an old one that was close enough
		c.nc.SetReadDeadline(c.readBy)
	}
}

// extend puts the deadline of the response's head off while the request is still being sent.
func (c *conn) extend(now time.Time) bool {
	if c.pump == nil || !c.by.IsZero() && !now.Before(c.by) {
		return false
	}
	select {
	case <-c.pump.done:
		return false
	default:
	}
	c.readBy = now.Add(c.patience())
	if !c.by.IsZero() && c.by.Before(c.readBy) {
		c.readBy = c.by
	}
	return true
}

// arm sets the deadline of reads and writes. An earlier one that is near stays: wire looks at the clock when it passes.
// A write under TLS cannot be taken up again, so there it is exact.
func (c *conn) arm(by time.Time, now time.Time) {
	c.readBy = by
	if !c.tls && !c.armed.IsZero() && !by.IsZero() {
		if early := by.Sub(c.armed); early >= 0 && early <= by.Sub(now)/4 {
			return
		}
	}
	if c.armed.IsZero() && by.IsZero() {
		return
	}
	c.armed = by
	c.nc.SetDeadline(by)
}

// write sends all of p. In a stream each wait for the backend to read is a silence, which what the backend sends ends too:
// await puts the deadline off.
func (c *conn) write(p []byte) error {
	if c.stream && c.silence > 0 {
		c.nc.SetWriteDeadline(time.Now().Add(c.silence))
	}
	for {
		n, err := c.nc.Write(p)
		p = p[n:]
		if err == nil || len(p) == 0 {
			return err
		}
		if c.tls || c.stream || !errors.Is(err, os.ErrDeadlineExceeded) || !c.by.IsZero() && !time.Now().Before(c.by) {
			return err
		}
		c.nc.SetWriteDeadline(c.by)
	}
}

// Read reads the response's body.
func (c *conn) Read(p []byte) (int, error) {
	if c.stream {
		c.await()
	}
	n, err := c.body.Read(p)
	if err == nil || c.body.Done() {
		return n, err
	}
	c.last = true
	return n, c.fail(Receiving, err)
}

// Buffered reports how many bytes of the body can be read without waiting.
func (c *conn) Buffered() int { return c.body.Buffered() }

// ReadNow reads what there is of the body on the connection, without waiting.
func (c *conn) ReadNow(p []byte) int {
	room := min(int64(len(p)), c.body.Direct())
	if room == 0 || !c.swap.full || !c.swaps() {
		return 0
	}
	n := c.swap.receive(p[:room])
	c.body.Took(n)
	return n
}

// Settle ends what is still being sent of the request: the response is complete, or will not be read on.
func (c *conn) Settle() {
	if c.pump != nil {
		c.pump.settle(c.body.Done())
	}
}

// Close gives the connection back to the pool where it can be used again, and closes it otherwise.
func (c *conn) Close() error {
	ended := c.e.Ended
	gone := c.left()
	c.Settle()
	if gone || c.pump != nil && c.pump.err != nil {
		c.last = true
	}
	c.pump, c.e, c.interim = nil, nil, nil
	if c.last || !c.body.Done() || c.src.Buffered() > 0 { // bytes nobody asked for: whose response would they be?
		c.discard()
		return nil
	}
	if c.stream && c.armed.IsZero() {
		c.armed = time.Unix(1, 0) // a deadline of writes may be set
	}
	c.src.Release()
	c.p.put(c, ended)
	return nil
}

func (c *conn) fail(phase Phase, err error) *Failure {
	return &Failure{Kind: classify(err, phase), Phase: phase, Target: c.b.target, Reused: c.reused, Err: err}
}
