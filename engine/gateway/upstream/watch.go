// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"

	"postern.dev/postern/engine/gateway/exchange"
)

// watch closes the connection when the caller gives up its stream: nobody waits for the answer any longer. A caller of
// HTTP/1.1 has a connection instead, which only reading from it would show to be gone.
func (c *conn) watch() {
	if c.e.Request.Proto == exchange.HTTP2 || c.e.Request.Proto == exchange.HTTP3 {
		c.unwatch = context.AfterFunc(c.e.Context(), c.abandon)
	}
}

// abandon fails what is under way on the connection, which its owner then discards.
func (c *conn) abandon() { c.under.Close() }

// left ends the watch and reports whether the caller has gone. Then the connection is of no more use.
func (c *conn) left() bool {
	if c.unwatch == nil {
		return false
	}
	gone := !c.unwatch()
	c.unwatch = nil
	return gone
}
