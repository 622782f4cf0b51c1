// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"
)

// signal is one direction of a socket: what wakes its caller. Readiness, a reached
// deadline and Close all put a token into the same channel, so a blocked call
// waits on one channel and then looks what happened.
type signal struct {
	entry  waiter.Entry
	c      chan struct{}
	closed *atomic.Bool

	at    atomic.Int64 // the deadline since base in nanoseconds; 0 is none
	mu    sync.Mutex
	timer *time.Timer
}

// base makes deadlines monotonic.
var base = time.Now()

func (g *signal) init(q *waiter.Queue, mask waiter.EventMask, closed *atomic.Bool) {
	g.entry, g.c = waiter.NewChannelEntry(mask | waiter.EventHUp | waiter.EventErr)
	g.closed = closed
	q.EventRegister(&g.entry)
}

// check returns why a call may not go on.
func (g *signal) check() error {
	if g.closed.Load() {
		return net.ErrClosed
	}
	if at := g.at.Load(); at != 0 && int64(time.Since(base)) >= at {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (g *signal) wait() { <-g.c }

func (g *signal) kick() {
	select {
	case g.c <- struct{}{}:
	default:
	}
}

func (g *signal) setDeadline(t time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.IsZero() {
		g.at.Store(0)
		if g.timer != nil {
			g.timer.Stop()
		}
		return
	}
	d := time.Until(t)
	g.at.Store(max(1, int64(time.Since(base)+d)))
	switch {
	case d <= 0:
		g.kick()
	case g.timer == nil:
		g.timer = time.AfterFunc(d, g.kick)
	default:
		g.timer.Reset(d)
	}
}

// stop ends the signal: whoever waits wakes up and finds the socket closed.
func (g *signal) stop(q *waiter.Queue) {
	q.EventUnregister(&g.entry)
	g.mu.Lock()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.kick()
}
