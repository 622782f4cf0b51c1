// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/internal/otlp"
)

// Options is what a Tracer is made of.
type Options struct {
	// Ratio of the requests that bring no decision with them is traced.
	Ratio float64
	// Export sends spans. It is called by one goroutine, and may take its time.
	Export func(context.Context, []otlp.Span) error
	// Failed is told when spans could not be sent; it may be nil.
	Failed func(error)
	// Queue bounds the requests whose spans wait [2048].
	Queue int
	// Wait is how long a span may wait for others [1 s].
	Wait time.Duration
	// Grace is how long Close may take to send what waits [5 s].
	Grace time.Duration
}

// maxBatch bounds the requests whose spans are sent together.
const maxBatch = 512

// Tracer decides which requests are traced, and sends their spans.
type Tracer struct {
	o         Options
	threshold uint64
	queue     chan *Record
	free      chan *Record
	sent      atomic.Uint64
	dropped   atomic.Uint64

	ctx    context.Context // of sending; ends when Close has lost patience
	cancel context.CancelFunc
	stop   chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// New returns a Tracer; Close ends it.
func New(o Options) *Tracer {
	if o.Queue <= 0 {
		o.Queue = 2048
	}
	if o.Wait <= 0 {
		o.Wait = time.Second
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
	t := &Tracer{o: o, queue: make(chan *Record, o.Queue), free: make(chan *Record, o.Queue), stop: make(chan struct{})}
	switch {
	case o.Ratio >= 1:
		t.threshold = 1 << 63
	case o.Ratio > 0:
		t.threshold = uint64(o.Ratio * (1 << 63))
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.done.Go(t.send)
	return t
}

// Begin begins a trace, and decides whether it is recorded.
func (t *Tracer) Begin() Context {
	c := Context{Random: true}
	hi, lo := rand.Uint64(), rand.Uint64()|1 // not zero, though that is next to impossible
	binary.BigEndian.PutUint64(c.Trace[:], hi)
	binary.BigEndian.PutUint64(c.Trace[8:], lo)
	c.Sampled = lo>>1 < t.threshold // as OpenTelemetry's samplers by ratio
	return c
}

// NewSpan is an id for a span.
func NewSpan() (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// Record returns a Record to be filled in and given to Add.
func (t *Tracer) Record() *Record {
	select {
	case r := <-t.free:
		r.reset()
		return r
	default:
		return new(Record)
	}
}

// release keeps a Record for another request.
func (t *Tracer) release(r *Record) {
	select {
	case t.free <- r:
	default:
	}
}

// Add sends the spans of a request soon, or drops them if too many wait.
func (t *Tracer) Add(r *Record) {
	select {
	case t.queue <- r:
	default:
		t.dropped.Add(uint64(r.spans()))
		t.release(r)
	}
}

// Sent is how many spans were sent.
func (t *Tracer) Sent() uint64 { return t.sent.Load() }

// Dropped is how many spans there was no room for, or could not be sent.
func (t *Tracer) Dropped() uint64 { return t.dropped.Load() }

// Close sends what waits, for a short while, and ends the Tracer.
func (t *Tracer) Close() error {
	t.once.Do(func() {
		close(t.stop)
		defer time.AfterFunc(t.o.Grace, t.cancel).Stop()
		t.done.Wait()
		t.cancel()
	})
	return nil
}

// send is the goroutine that sends.
func (t *Tracer) send() {
	wait := time.NewTimer(t.o.Wait)
	defer wait.Stop()
	var batch []*Record
	var spans []otlp.Span
	flush := func() {
		spans = spans[:0]
		for _, r := range batch {
			spans = r.appendSpans(spans)
		}
		if len(spans) == 0 {
			return
		}
		if err := t.o.Export(t.ctx, spans); err != nil {
			t.dropped.Add(uint64(len(spans)))
			if t.o.Failed != nil {
				t.o.Failed(err)
			}
		} else {
			t.sent.Add(uint64(len(spans)))
		}
		clear(spans)
		for _, r := range batch {
			t.release(r)
		}
		batch = batch[:0]
	}
	for {
		var r *Record
		select {
		case r = <-t.queue:
		case <-t.stop:
			for len(t.queue) > 0 && t.ctx.Err() == nil {
				for len(t.queue) > 0 && len(batch) < maxBatch {
					batch = append(batch, <-t.queue)
				}
				flush()
			}
			return
		}
		batch = append(batch, r)
		wait.Reset(t.o.Wait)
		for gather := true; gather && len(batch) < maxBatch; {
			select {
			case r := <-t.queue:
				batch = append(batch, r)
			case <-wait.C:
				gather = false
			case <-t.stop:
				gather = false
			}
		}
		flush()
	}
}
