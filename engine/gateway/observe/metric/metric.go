// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metric counts what a gateway does. What is counted into is found when
// a snapshot is put in place, so that a request only adds to numbers: it looks up
// no label, takes no lock and allocates nothing. The number of series is bounded.
package metric

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper ends of the buckets of a Histogram.
var Bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Histogram counts durations.
type Histogram struct {
	counts [len(Bounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Read returns how many durations there were up to each bound and beyond all, as
// Prometheus counts them, and their sum.
func (h *Histogram) Read() (upTo [len(Bounds) + 1]uint64, sum time.Duration) {
	n := uint64(0)
	for i := range h.counts {
		n += h.counts[i].Load()
		upTo[i] = n
	}
	return upTo, time.Duration(h.sum.Load())
}

// Count is how many durations there were.
func (h *Histogram) Count() uint64 {
	n := uint64(0)
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Statuses counts by class of status: 1xx to 5xx, and 0 for none.
type Statuses [6]atomic.Uint64

// classes are the names of the classes.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// Add counts a status.
func (s *Statuses) Add(status int) {
	c := status / 100
	if c < 0 || c >= len(s) {
		c = 0
	}
	s[c].Add(1)
}

// Route is what is known of the requests of one route: of a method and path of
// one Stage, of a Stage where no operation was found (Name is empty then), or of
// a Gateway where no Stage was.
type Route struct {
	Gateway, API, Stage, Name string

	status Statuses
	took   Histogram
}

// Add counts a request and its answer.
func (r *Route) Add(status int, took time.Duration) {
	r.status.Add(status)
	r.took.Observe(took)
}

// Failures are the kinds of failure that are counted of an upstream, in the
// words of engine/gateway/upstream.
var Failures = [...]string{"dns", "refused", "unreachable", "timeout", "tls", "reset", "protocol", "request-body", "request", "canceled", "other"}

// Upstream is what is known of the calls to one target.
type Upstream struct {
	Gateway string
	// Backend is empty for a target that an operation's URI names.
	Backend string
	// Target is SCHEME://HOST:PORT.
	Target string

	status Statuses
	failed [len(Failures)]atomic.Uint64
	took   Histogram
}

// Add counts a call: its status, or its failure if that is not empty, and how long
// it took.
func (u *Upstream) Add(status int, failure string, took time.Duration) {
	u.took.Observe(took)
	if failure == "" {
		u.status.Add(status)
		return
	}
	for i := range Failures {
		if Failures[i] == failure || i == len(Failures)-1 {
			u.failed[i].Add(1)
			return
		}
	}
}

// Connections counts connections.
type Connections struct {
	open  atomic.Int64
	total atomic.Uint64
}

// Open counts a connection that begins, Close one that has ended.
func (c *Connections) Open() {
	c.open.Add(1)
	c.total.Add(1)
}

// Close counts a connection that has ended.
func (c *Connections) Close() { c.open.Add(-1) }

// Lend counts a connection among those of another protocol, until Return.
func (c *Connections) Lend(to *Connections) {
	c.open.Add(-1)
	to.open.Add(1)
}

// Return ends what Lend began.
func (c *Connections) Return(from *Connections) {
	from.open.Add(-1)
	c.open.Add(1)
}

// Count is how many are open.
func (c *Connections) Count() int64 { return max(0, c.open.Load()) }
