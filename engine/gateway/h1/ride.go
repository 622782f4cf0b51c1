// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"errors"
	"io"
	"os"
	"syscall"

	"postern.dev/postern/internal/nowait"
)

// errOutside ends what would wait for the client within a step.
var errOutside = errors.New("h1: not within a step")

// ride carries requests for as long as each arrives whole, on a connection of the kernel's TCP. It costs one receive,
// one send and one wait in the poller for each; read would try to receive once more before every wait, in vain.
//
// Go's poller is edge-triggered: it remembers of a socket that something has come since somebody last waited, and
// RawConn.Read forgets that when it begins. So a wait that is to miss nothing has to be part of the RawConn.Read that
// received before it, and one of them lasts for the whole ride:
//
//   - It calls stepped, which receives first: whatever came before is seen, also what the poller has just forgotten.
//   - stepped answers every whole request. What comes meanwhile makes the poller remember.
//   - A receive that did not fill its room has emptied the socket, and nothing came since that the poller does not know
//     of. stepped returns false, the poller waits, or does not if it has something to remember, and calls it again.
//   - What would have to wait for the client otherwise (half a head, a body that is still to come, a change of
//     protocols, the client's reading on after the last answer) cannot be done within: stepped returns true, one carries
//     that request with reads that wait by themselves, and the next ride begins with a receive again.
//
// An end of the stream that arrives together with data makes no edge of its own. After a connection's first request the
// socket is therefore looked at once more before the wait: `printf ... | nc -N` gets its connection closed at once. A
// client that ends its side together with a later request stays connected until its time is up.
//
// The fd stays valid within a step because RawConn.Read holds on to it; net.Conn.Close therefore waits for the step,
// and kill does not close.
func (c *conn) ride() {
	for {
		err := c.raw.Read(c.step)
		c.inside = false
		if err == nil {
			return
		}
		if err = c.late(err); err != nil {
			c.lost = err // one meets it
			return
		}
	}
}

// stepped carries the requests that are there. It reports false when the poller is to call it again, and true when the
// ride is at its end.
func (c *conn) stepped(fd uintptr) bool {
	c.fd, c.inside = fd, true
	c.take()
	for {
		drained := false
		if c.src.Buffered() == 0 {
			c.src.Lend(c.mem.in[:]) // it may have needed more, and have dropped that
			room := c.src.Room()
			n, e := nowait.Receive(fd, room)
			switch {
			case e == syscall.EAGAIN:
				return c.park()
			case e != 0:
				c.lost = os.NewSyscallError("recv", e)
				return true
			case n == 0:
				c.lost = io.EOF
				return true
			}
			c.idle.Store(false)
			c.src.Filled(n)
			drained = n < len(room) && !c.first
		}
		for c.src.Buffered() > 0 {
			if c.next(); !c.ready {
				return true // also at the end of the connection
			}
			if !c.whole() {
				return true
			}
			c.one()
			if c.over {
				return true
			}
		}
		if drained {
			return c.park()
		}
	}
}

// whole reports whether the request whose head has been read can be carried without waiting for the client.
func (c *conn) whole() bool {
	r := &c.e.Request
	return r.Upgrade == "" && r.Length >= 0 && r.Length <= int64(c.src.Buffered())
}

// park readies the connection for a wait.
func (c *conn) park() bool {
	c.give()
	c.phase = waiting
	c.arm()
	c.inside = false
	return false
}
