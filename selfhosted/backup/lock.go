// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// lockFile is locked by who saves. It stays: were it removed, two could hold
	// locks of the same name.
	lockFile = "configuration.lock"
	// lockWait is how long another instance may take to save.
	lockWait = 10 * time.Second
	lockLook = 10 * time.Millisecond
)

// errTaken says that somebody else has the lock.
var errTaken = errors.New("another instance is saving")

// lock keeps other instances from saving, so that what is compared with is what
// is replaced.
func (b *Backup) lock() (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(b.lockWait); ; {
		err := tryLock(f)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, errTaken) || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		<-time.After(lockLook)
	}
}
