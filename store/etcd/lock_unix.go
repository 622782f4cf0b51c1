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
		failed := store.NewError(store.ErrUnavailable, "lock "+path, err)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			failed = store.NewError(store.ErrInUse, path+" is locked; stop the other process, or give another folder", nil)
		}
		return nil, errors.Join(failed, f.Close())
	}
	return f.Close, nil
}
