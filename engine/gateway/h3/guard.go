// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h3

import (
	"sync"

	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"postern.dev/postern/engine/gateway/stream"
)

// The bounds of the streams that come to nothing: those without a request, and those of which there is nothing to be
// expected, being one-way. Requests take none.
const (
	emptyBurst = 400
	emptyRate  = 50 // a second
)

// guard counts what a client does with its streams, by the frames that it sends. quic-go shows frames to nobody but who
// traces the connection.
type guard struct {
	excess func() // ends the connection

	mu      sync.Mutex
	seen    bool // quic-go has called
	over    bool
	resets  stream.Bucket
	stops   stream.Bucket
	empty   stream.Bucket
	highest [4]qlog.StreamID // that has been seen, by the kind of the stream; -1 if none
}

func newGuard(excess func()) *guard {
	return &guard{
		excess: excess, resets: stream.GivenUp(), stops: stream.GivenUp(), empty: stream.NewBucket(emptyBurst, emptyRate),
		highest: [4]qlog.StreamID{-1, -1, -1, -1},
	}
}

// AddProducer is called by quic-go first, and then by http3, which has nothing to tell.
func (g *guard) AddProducer() qlogwriter.Recorder {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen {
		return nil
	}
	g.seen = true
	return g
}

// Close does nothing: nothing is kept.
func (g *guard) Close() error { return nil }

// RecordEvent is called for whatever happens on the connection.
func (g *guard) RecordEvent(e qlogwriter.Event) {
	p, ok := e.(qlog.PacketReceived)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range p.Frames {
		if !g.affords(f.Frame) && !g.over {
			g.over = true
			g.excess()
		}
	}
}

func (g *guard) affords(frame any) bool {
	switch f := frame.(type) {
	case *qlog.StreamFrame:
		return g.opened(f.StreamID)
	case *qlog.ResetStreamFrame:
		return g.opened(f.StreamID) && g.resets.Take()
	case *qlog.StopSendingFrame:
		return g.opened(f.StreamID) && g.stops.Take()
	}
	return true
}

// opened counts the streams up to one that may be new: with it come those before it.
func (g *guard) opened(id qlog.StreamID) bool {
	if id < 0 || id&1 != 0 {
		return true // it is ours
	}
	last := &g.highest[id&3]
	if *last < 0 {
		*last = id&3 - 4
	}
	for ; *last < id; *last += 4 {
		if !g.empty.Take() {
			return false
		}
	}
	return true
}

// served is called for a stream that has brought a request.
func (g *guard) served() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.empty.Earn(1)
}
