// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package backup

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks f against other processes, and other Backups of this one. The
// kernel lets go when the process ends, however it ends.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
		return errTaken
	case errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.ENOLCK):
		// The file system has no locks. What is older is still refused; two who save
		// in the same moment do not see each other.
		return nil
	}
	return err
}
