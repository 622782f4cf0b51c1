// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package grammar reads and writes HTTP/1.x messages by the letter of RFC 9110 and RFC 9112. Where those leave a
// recipient room, and so two recipients room to disagree, it refuses. What it accepts has one meaning, and what it
// writes is made from that meaning, never copied from what was read.
//
// Taken from the freedom the RFCs give: one empty line before a request is skipped (RFC 9112 2.2 asks for it), a status
// line may lack the space before an absent reason, chunk extensions of correct grammar are read and dropped, and a
// query may hold the few characters that browsers leave unencoded.
package grammar

// Limits bound what is read. A zero field takes its default.
type Limits struct {
	Target int   // bytes of the request target [10,240]
	Fields int   // bytes of the header section, and of the trailer section [10,240]
	Count  int   // fields in either [100]
	Body   int64 // bytes of a body, without its framing [10 MiB]; negative is unlimited
}

// WithDefaults returns l with the defaults filled in.
func (l Limits) WithDefaults() Limits {
	if l.Target <= 0 {
		l.Target = 10240
	}
	if l.Fields <= 0 {
		l.Fields = 10240
	}
	if l.Count <= 0 {
		l.Count = 100
	}
	if l.Body == 0 {
		l.Body = 10 << 20
	}
	return l
}

// Connection is what a message says about the connection it came by.
type Connection struct {
	// Close says that the connection ends with this message (and its answer).
	Close bool
	// Continue says that the client waits for 100 (Continue) before it sends the body.
	Continue bool
}

const maxMethod = 32
