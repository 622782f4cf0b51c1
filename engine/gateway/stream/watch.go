// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"sync"
	"time"
)

// watch calls fire when something takes too long. Once disarm has returned, fire is neither running nor called.
type watch struct {
	fire  func()
	timer *time.Timer

	mu    sync.Mutex
	until time.Time // zero while disarmed
}

// arm gives what begins now the time d; negative is no bound.
func (w *watch) arm(d time.Duration) {
	if d < 0 {
		return
	}
	w.mu.Lock()
	w.until = time.Now().Add(d)
	w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.check)
		return
	}
	w.timer.Reset(d)
}

func (w *watch) disarm() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Lock()
	w.until = time.Time{}
	w.mu.Unlock()
}

// check may run late, when the timer has been set for something else already.
func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until.IsZero() || time.Now().Before(w.until) {
		return
	}
	w.until = time.Time{}
	w.fire()
}
