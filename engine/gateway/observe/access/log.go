// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access writes the access log. A request puts its line into a buffer and
// goes on; one goroutine writes what has gathered. The buffers are bounded: where
// the file is slower than the requests, lines are dropped and counted.
package access

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/model/accesslog"
)

// Options is what a Log is made of.
type Options struct {
	// Out is written to by one goroutine, whole lines at a time.
	Out io.Writer
	// Failed is told when lines could not be written; it may be nil.
	Failed func(error)
	// Buffer bounds the bytes that wait in each of the buffers, of which there is
	// one a processor [1 MiB].
	Buffer int
	// Wait is how long a line may wait for others [100 ms].
	Wait time.Duration
}

// maxLine is more than the longest line.
const maxLine = accesslog.MaxLength + accesslog.MaxVariables*(maxValue+8) + 1

// Log is an access log.
type Log struct {
	o       Options
	shards  []shard
	lines   atomic.Uint64
	dropped atomic.Uint64
	next    atomic.Uint32

	first chan struct{} // a line has come where there was none
	full  chan struct{} // a buffer is half full
	flush chan chan struct{}
	stop  chan struct{}
	once  sync.Once
	done  sync.WaitGroup
}

// shard is one buffer. The lock is held while one line is put together.
type shard struct {
	mu   sync.Mutex
	buf  []byte
	n    uint64 // lines in buf
	sec  int64  // of clf
	clf  [26]byte
	_    [40]byte // to the end of a line of memory
	free []byte   // the writer's
}

// New returns a Log; Close ends it.
func New(o Options) *Log {
	if o.Buffer <= 0 {
		o.Buffer = 1 << 20
	}
	if o.Wait <= 0 {
		o.Wait = 100 * time.Millisecond
	}
	l := &Log{
		o: o, shards: make([]shard, min(max(runtime.GOMAXPROCS(0), 1), 16)),
		first: make(chan struct{}, 1), full: make(chan struct{}, 1), flush: make(chan chan struct{}), stop: make(chan struct{}),
	}
	for i := range l.shards {
		l.shards[i].buf = make([]byte, 0, o.Buffer+maxLine)
		l.shards[i].free = make([]byte, 0, o.Buffer+maxLine)
	}
	l.done.Go(l.write)
	return l
}

// Lane is a number for the lines that are to stay in order, such as those of a
// connection.
func (l *Log) Lane() uint32 { return l.next.Add(1) % uint32(len(l.shards)) }

// Add puts a line into the log.
func (l *Log) Add(f *accesslog.Format, e *Entry) {
	if f == nil {
		f = plain
	}
	s := &l.shards[e.Lane%uint32(len(l.shards))]
	s.mu.Lock()
	before := len(s.buf)
	if before >= l.o.Buffer {
		s.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	s.buf = s.line(s.buf, f, e)
	s.n++
	after := len(s.buf)
	s.mu.Unlock()
	if half := l.o.Buffer / 2; before < half && after >= half {
		poke(l.full)
	}
	if before == 0 {
		poke(l.first)
	}
}

// plain is the format where none is given.
var plain = accesslog.MustParse(accesslog.Default)

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Lines is how many lines were written, Dropped how many were not.
func (l *Log) Lines() uint64 { return l.lines.Load() }

// Dropped is how many lines there was no room for, or could not be written.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Flush writes what has gathered and returns when it is written.
func (l *Log) Flush() {
	done := make(chan struct{})
	select {
	case l.flush <- done:
		<-done
	case <-l.stop:
	}
}

// Close writes what has gathered and ends the Log. Lines that come later are
// dropped in silence.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.stop) })
	l.done.Wait()
	return nil
}

// write is the goroutine that writes.
func (l *Log) write() {
	wait := time.NewTimer(l.o.Wait)
	defer wait.Stop()
	for {
		select {
		case <-l.stop:
			l.drain()
			return
		case done := <-l.flush:
			l.drain()
			close(done)
			continue
		case <-l.first:
		}
		wait.Reset(l.o.Wait)
		select {
		case <-wait.C:
		case <-l.full:
		case done := <-l.flush:
			l.drain()
			close(done)
			continue
		case <-l.stop:
		}
		l.drain()
	}
}

// drain writes what is in the buffers.
func (l *Log) drain() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		s.buf, s.free = s.free[:0], s.buf
		n := s.n
		s.n = 0
		s.mu.Unlock()
		if len(s.free) == 0 {
			continue
		}
		if _, err := l.o.Out.Write(s.free); err != nil {
			l.dropped.Add(n)
			if l.o.Failed != nil {
				l.o.Failed(fmt.Errorf("access log: %d lines are lost: %w", n, err))
			}
			continue
		}
		l.lines.Add(n)
	}
}
