// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"errors"
	"os"
	"syscall"

	"postern.dev/postern/store"
)

// lockFolder makes sure that one process uses the folder. The kernel lets go
// of the lock when the process ends, however it ends.
func lockFolder(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, store.NewError(store.ErrUnavailable, "lock the store's folder", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		reason := store.ErrUnavailable
		if errors.Is(err, syscall.EWOULDBLOCK) {
			reason = store.ErrInUse
		}
		return nil, errors.Join(store.NewError(reason, "lock "+path, err), f.Close())
	}
	return f.Close, nil
}
