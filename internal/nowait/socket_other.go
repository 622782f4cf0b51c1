// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !(linux && (amd64 || arm64 || riscv64 || loong64))

package nowait

import "syscall"

// Supported says that this system has the calls.
const Supported = false

// Receive cannot be done here.
func Receive(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }

// Peek cannot be done here.
func Peek(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }

// Send cannot be done here.
func Send(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }
