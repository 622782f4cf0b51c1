// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h2

import "golang.org/x/net/http2"

// What a client may send that costs it nothing and asks for nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA
// and frames of unknown types. Requests, bodies and what the client is sent earn more of it.
const (
	freeBurst   = 1000
	freeRate    = 50 // a second
	earnRequest = 8
	earnBytes   = 512 // one for each, of what is sent and received
	maxEarned   = 64 << 20

	// Of what is sent, little may be answers to the very frames that are counted, of 17 bytes at most. What is longer
	// than one earns one, and what is longer than a few another.
	longerThanOne = 17
	longerThanFew = 64
)

// affords counts a frame. When there were too many the connection is ended.
func (g *guard) affords(kind http2.FrameType, length int) bool {
	switch {
	case kind == http2.FrameHeaders:
		g.free.Earn(earnRequest)
		return true
	case kind == http2.FrameData && length > 0:
		g.free.Earn(float64(length) / earnBytes)
		return true
	case kind == http2.FrameRSTStream:
		if !g.resets.Take() {
			g.fail(ErrResets, http2.ErrCodeEnhanceYourCalm)
			return false
		}
		return true
	}
	if g.free.Empty() { // what was sent may be acknowledged much later, and little by little
		if n := min(g.earned.Load(), freeBurst*earnBytes); n > 0 {
			g.earned.Add(-n)
			g.free.Earn(float64(n) / earnBytes)
		}
	}
	if !g.free.Take() {
		g.fail(ErrFlood, http2.ErrCodeEnhanceYourCalm)
		return false
	}
	return true
}

// earn counts what was sent in one go.
func (g *guard) earn(n int) {
	if n > longerThanOne {
		n += earnBytes
	}
	if n > longerThanFew+earnBytes {
		n += earnBytes
	}
	if n >= earnBytes && g.earned.Load() < maxEarned {
		g.earned.Add(int64(n))
	}
}
