// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64 || loong64)

package upstream

import (
	"syscall"
	"unsafe"
)

// peek looks whether a resting connection has been closed, or has been sent something nobody asked for: either way it
// is of no more use. (A record of TLS that comes between responses is all but surely its end.)
func (c *conn) peek(fd uintptr) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&c.one)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	c.quiet = int(n) < 0 && (e == syscall.EAGAIN || e == syscall.EINTR)
}

const canPeek = true
