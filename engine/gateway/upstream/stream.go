// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"time"

	"postern.dev/postern/engine/gateway/exchange"
)

// Streams tells by the media type of a request whether its call is a stream, which may take as long as it likes as long
// as it is not silent: one of gRPC or gRPC-Web, and one of Connect's that are not unary.
func Streams(contentType string) bool {
	return begins(contentType, "application/grpc") || begins(contentType, "application/connect+")
}

// Events tells by the media type of a response whether its call has turned out to be a stream.
func Events(contentType string) bool { return begins(contentType, "text/event-stream") }

func begins(s, prefix string) bool {
	return len(s) >= len(prefix) && exchange.EqualFold(s[:len(prefix)], prefix)
}

// pace is what bounds a call that is a stream.
type pace struct {
	silence time.Duration // of each wait; none where it is not positive
	stream  bool          // the call is one
}

// flow makes the call under way a stream, whose response has begun. What is still being sent of its request keeps its
// bounds.
func (c *conn) flow() {
	if c.stream || c.pump != nil && !c.pump.ended() {
		return
	}
	c.stream = true
	c.by, c.readBy, c.armed = time.Time{}, time.Time{}, time.Time{}
	c.nc.SetDeadline(time.Time{})
}

// await readies a stream for a wait.
func (c *conn) await() {
	now, by := time.Now(), time.Time{}
	if c.silence > 0 {
		by = now.Add(c.silence)
	}
	c.arm(by, now)
}

// patience is how long the response's head may take from the request's end.
func (c *conn) patience() time.Duration {
	if c.stream {
		return c.silence
	}
	return c.p.cfg.Timeouts.Head
}

// impatient gives the client of a stream no more time than others once the stream is over.
func impatient(e *exchange.Exchange) {
	if b, ok := e.Request.Body.(exchange.Patient); ok {
		b.Wait(0)
	}
}
