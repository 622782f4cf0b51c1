// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crew runs many short jobs on goroutines that have run one before.
// What a deep job costs a new goroutine is its stack, which is made larger step
// by step and copied each time.
package crew

import "sync"

// Crew runs jobs. The zero value is ready.
type Crew struct {
	mu      sync.Mutex
	resting []chan func()
	left    bool
	wait    sync.WaitGroup
}

// most is how many goroutines rest at once, waiting for a job.
const most = 64

// Go runs f on a goroutine of the Crew. It does not wait for it.
func (c *Crew) Go(f func()) {
	c.mu.Lock()
	if n := len(c.resting); n > 0 {
		next := c.resting[n-1]
		c.resting = c.resting[:n-1]
		c.mu.Unlock()
		next <- f
		return
	}
	c.mu.Unlock()
	c.wait.Go(func() {
		next := make(chan func(), 1)
		for f != nil {
			f()
			f = nil // it may hold on to much
			if c.rest(next) {
				f = <-next
			}
		}
	})
}

// rest enters a goroutine among those that wait for a job, unless there are
// enough.
func (c *Crew) rest(next chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left || len(c.resting) == most {
		return false
	}
	c.resting = append(c.resting, next)
	return true
}

// Wait waits until every job is done and no goroutine is left. Go is not to be
// called any longer.
func (c *Crew) Wait() {
	c.mu.Lock()
	c.left = true
	for _, next := range c.resting {
		close(next)
	}
	c.resting = nil
	c.mu.Unlock()
	c.wait.Wait()
}
