// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Plan says what is sent where.
type Plan struct {
	Addr     string      // host:port
	TLS      *tls.Config // nil: in clear
	HTTP2    bool        // over TLS
	Fresh    bool        // a new connection for each request
	Conns    int
	Streams  int      // at once on each connection, with HTTP2
	Requests [][]byte // taken in turn; in HTTP/1.1 as they go over the wire, else header blocks
	Length   int      // of each answer's body
	Warmup   time.Duration
	Duration time.Duration
	Rate     float64 // requests a second; 0 is as fast as it goes

	// Began and Ended, if set, are called as the time that counts begins and ends.
	Began, Ended func()
}

// patience is how long a connection may take for everything.
func (p *Plan) patience() time.Duration { return p.Warmup + p.Duration + 30*time.Second }

// Result is what became of a Plan.
type Result struct {
	Latency Histogram
	Elapsed time.Duration
}

// PerSecond is the rate of answers.
func (r *Result) PerSecond() float64 { return float64(r.Latency.Count()) / r.Elapsed.Seconds() }

var errNothing = errors.New("no answer came in the time that counts")

// run is a Plan that is carried out.
type run struct {
	*Plan
	start    time.Time
	from, to time.Duration // what counts
	due      chan time.Duration
	done     atomic.Bool
	next     atomic.Uint64
}

// Run carries out a Plan. The first answer that is not as it should be ends it.
func Run(ctx context.Context, p *Plan) (*Result, error) {
	r := &run{Plan: p, from: p.Warmup, to: p.Warmup + p.Duration}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	work := r.loop
	if p.HTTP2 {
		work = r.multiplex
	} else if p.Fresh {
		work = r.fresh
	}
	if p.Rate > 0 {
		if p.HTTP2 || p.Fresh {
			return nil, errors.New("a fixed rate needs connections of HTTP/1.1 that stay")
		}
		r.due = make(chan time.Duration, 1<<16)
	}
	wires, err := r.connect()
	defer func() {
		for _, w := range wires {
			_ = w.close() // nothing is expected of it any more
		}
	}()
	if err != nil {
		return nil, err
	}

	r.start = time.Now()
	hists := make([]Histogram, p.Conns)
	var workers sync.WaitGroup
	for i := range p.Conns {
		workers.Go(func() {
			var w wire
			if len(wires) > 0 {
				w = wires[i]
			}
			if err := work(i, w, &hists[i]); err != nil && !r.done.Load() {
				cancel(err)
			}
		})
	}
	if r.due != nil {
		workers.Go(func() {
			if err := r.dispatch(); err != nil {
				cancel(err)
			}
		})
	}
	out := &Result{}
	err = r.watch(ctx, out)
	r.done.Store(true)
	for _, w := range wires { // wakes who waits for an answer
		_ = w.close()
	}
	workers.Wait()
	if err != nil {
		return nil, err
	}
	if context.Cause(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	for i := range hists {
		out.Latency.Add(&hists[i])
	}
	if out.Latency.Count() == 0 {
		return nil, errNothing
	}
	return out, nil
}

// watch waits until the time is over, or something went wrong.
func (r *run) watch(ctx context.Context, out *Result) error {
	wait := func(until time.Duration) error {
		t := time.NewTimer(until - time.Since(r.start))
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := wait(r.from); err != nil {
		return err
	}
	if r.Began != nil {
		r.Began()
	}
	if err := wait(r.to); err != nil {
		return err
	}
	if r.Ended != nil {
		r.Ended()
	}
	out.Elapsed = r.to - r.from
	return nil
}

// connect opens the connections, a few at a time so that no queue overflows.
func (r *run) connect() ([]wire, error) {
	if r.Fresh {
		return nil, nil
	}
	wires := make([]wire, 0, r.Conns)
	for range r.Conns {
		w, err := dial(r.Plan)
		if err != nil {
			return wires, fmt.Errorf("connect to %s: %w", r.Addr, err)
		}
		wires = append(wires, w)
	}
	return wires, nil
}

// count records an answer if it came in the time that counts.
func (r *run) count(h *Histogram, since time.Duration) {
	if now := time.Since(r.start); now >= r.from && now < r.to {
		h.Record(now - since)
	}
}

func (r *run) check(status, length int, err error) error {
	if err != nil {
		return err
	}
	if status != 200 || length != r.Length {
		return fmt.Errorf("an answer has the status %d and %d bytes, not 200 and %d", status, length, r.Length)
	}
	return nil
}

// loop sends request after request over one connection.
func (r *run) loop(i int, w wire, h *Histogram) error {
	rd := newReader(w)
	for n := i; !r.done.Load(); n += r.Conns {
		var began time.Duration
		if r.due == nil {
			began = time.Since(r.start)
		} else {
			var ok bool
			if began, ok = <-r.due; !ok {
				return nil
			}
			n = int(r.next.Add(1))
		}
		if err := w.send(r.Requests[n%len(r.Requests)]); err != nil {
			return fmt.Errorf("send a request: %w", err)
		}
		if err := r.check(rd.answer()); err != nil {
			return err
		}
		r.count(h, began)
	}
	return nil
}

// fresh sends each request over a connection of its own.
func (r *run) fresh(i int, _ wire, h *Histogram) error {
	rd := newReader(nil)
	for n := i; !r.done.Load(); n += r.Conns {
		began := time.Since(r.start)
		w, err := dial(r.Plan)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", r.Addr, err)
		}
		rd.w, rd.from, rd.to = w, 0, 0
		err = w.send(r.Requests[n%len(r.Requests)])
		if err == nil {
			err = r.check(rd.answer())
		}
		if err := errors.Join(err, w.close()); err != nil {
			return err
		}
		r.count(h, began)
	}
	return nil
}

// dispatch says when requests are due. It has a thread of its own, whose sleeps
// are exact to some microseconds; the runtime's timers are to a millisecond.
func (r *run) dispatch() error {
	defer close(r.due)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const setTimerSlack = 29 // PR_SET_TIMERSLACK
	// Without it sleeps are 50 microseconds longer, and latencies seem so.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	gap := float64(time.Second) / r.Rate
	for n := 0; !r.done.Load(); n++ {
		at := time.Duration(float64(n) * gap)
		for {
			left := at - time.Since(r.start)
			if left <= 0 {
				break
			}
			t := syscall.NsecToTimespec(int64(left))
			_ = syscall.Nanosleep(&t, nil) // interrupted: once more
		}
		select {
		case r.due <- at:
		default:
			return fmt.Errorf("%d requests wait to be sent: %.0f a second are too many", len(r.due), r.Rate)
		}
	}
	return nil
}
