// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nowait reads and writes sockets without ever waiting, for callbacks
// of a syscall.RawConn: what cannot be done at once is left to the poller. The
// calls are too short to be worth telling Go's scheduler about.
package nowait

import (
	"net"
	"syscall"
)

// Of returns the raw connection of a TCP connection of the kernel's; nil for any
// other, and for all on systems where this package has no calls.
func Of(c net.Conn) syscall.RawConn {
	t, ok := c.(*net.TCPConn)
	if !ok || !Supported {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil // it is closed, which its next use will tell
	}
	return raw
}
