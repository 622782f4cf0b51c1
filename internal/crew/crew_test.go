// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package crew

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestEveryJobIsRunAndWaitedFor(t *testing.T) {
	var c Crew
	var ran atomic.Int64
	block := make(chan struct{})
	for range 3 * most { // at once
		c.Go(func() { <-block; ran.Add(1) })
	}
	close(block)
	for range 1000 { // one after the other
		done := make(chan struct{})
		c.Go(func() { ran.Add(1); close(done) })
		<-done
	}
	c.Wait()
	if n := ran.Load(); n != 3*most+1000 {
		t.Errorf("%d jobs were run", n)
	}
	if len(c.resting) != 0 {
		t.Errorf("%d goroutines rest", len(c.resting))
	}
}

func TestGoroutinesAreUsedAgain(t *testing.T) {
	var c Crew
	defer c.Wait()
	for range 10 {
		done := make(chan struct{})
		c.Go(func() { close(done) })
		<-done
		for c.atRest() == 0 {
			runtime.Gosched()
		}
	}
	if n := c.atRest(); n != 1 {
		t.Errorf("%d goroutines for one job at a time", n)
	}
}

func (c *Crew) atRest() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.resting)
}
