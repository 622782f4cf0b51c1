// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64 || loong64)

package nowait

import (
	"syscall"
	"unsafe"
)

// Supported says that this system has the calls.
const Supported = true

// Receive reads into p, which is not empty. Without an error, 0 bytes are the
// end of what the peer sends. EAGAIN says that there is nothing yet.
func Receive(fd uintptr, p []byte) (int, syscall.Errno) {
	return receive(fd, p, syscall.MSG_DONTWAIT)
}

// Peek is Receive of what can be received again.
func Peek(fd uintptr, p []byte) (int, syscall.Errno) {
	return receive(fd, p, syscall.MSG_DONTWAIT|syscall.MSG_PEEK)
}

func receive(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if e == 0 {
			return int(n), 0
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}

// Send writes as much of p as there is room for; EAGAIN says that there is none.
func Send(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if e == 0 {
			return int(n), 0
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}
