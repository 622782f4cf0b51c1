// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// usage is what the process holds: callers and backends too, which are in it.
type usage struct {
	memory     int64 // heap that is reachable, and stacks
	goroutines int
	files      int // -1 where it cannot be told
}

// measure collects garbage first: pools keep what they have for one collection.
func measure() usage {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{memory: int64(m.HeapAlloc + m.StackInuse), goroutines: runtime.NumGoroutine(), files: -1}
	if d, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(d)
	}
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%.1f MiB, %d goroutines, %d files", float64(u.memory)/(1<<20), u.goroutines, u.files)
}

// within tells whether u is no more than v and an allowance.
func (u usage) within(v, more usage) bool {
	return u.memory <= v.memory+more.memory && u.goroutines <= v.goroutines+more.goroutines && u.files <= v.files+more.files
}

// recovers waits until what is held is again no more than before and an allowance.
func recovers(t *testing.T, before, more usage) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		now := measure()
		if now.within(before, more) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("there were %s before, and there are %s afterwards, more than %s more", before, now, more)
			return
		}
	}
}
