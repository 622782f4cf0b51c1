// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trace follows requests through the gateway as OpenTelemetry wants it:
// it reads and writes the W3C's trace context, decides which requests are traced
// before it spends anything on them, and hands spans to an exporter through a
// bounded queue.
package trace

import (
	"strings"

	"postern.dev/postern/engine/gateway/exchange"
)

// Context is a place in a trace, as the fields of the W3C's Trace Context name it.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool
	// Random says that the id of the trace is random (level 2 of the standard).
	Random bool
}

// The fields.
const (
	FieldParent = "traceparent"
	FieldState  = "tracestate"
)

const (
	flagSampled = 1
	flagRandom  = 2
	// parentLength is that of a traceparent of version 00.
	parentLength = 2 + 1 + 32 + 1 + 16 + 1 + 2
	maxState     = 512
	maxMembers   = 32
)

// Parse reads a traceparent. What is not exactly one is none: a version other than
// 00 may have more behind it, in lower case as all of it.
func Parse(s string) (c Context, ok bool) {
	if len(s) < parentLength || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || !unhex(c.Trace[:], s[3:35]) || !unhex(c.Span[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return c, false
	}
	switch {
	case version[0] == 0xff:
		return c, false
	case version[0] == 0 && len(s) != parentLength:
		return c, false
	case len(s) > parentLength && s[parentLength] != '-':
		return c, false
	}
	c.Sampled, c.Random = flags[0]&flagSampled != 0, flags[0]&flagRandom != 0
	return c, c.Trace != [16]byte{} && c.Span != [8]byte{}
}

// unhex reads lower-case digits.
func unhex(to []byte, s string) bool {
	for i := range to {
		hi, lo := digit(s[2*i]), digit(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		to[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// Append appends the traceparent of c, of version 00.
func (c *Context) Append(b []byte) []byte {
	b = append(b, "00-"...)
	b = appendHex(b, c.Trace[:])
	b = append(b, '-')
	b = appendHex(b, c.Span[:])
	var flags byte
	if c.Sampled {
		flags |= flagSampled
	}
	if c.Random {
		flags |= flagRandom
	}
	b = append(b, '-')
	return appendHex(b, []byte{flags})
}

func appendHex(b, id []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range id {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// Read reads the place in a trace that a request says it has. A request with
// several traceparents has none, and one that has none has no state.
func Read(h *exchange.Header) (c Context, state string, ok bool) {
	parent, n, states := "", 0, 0
	for i := range h.Len() {
		f := h.At(i)
		switch {
		case len(f.Name) == len(FieldParent) && exchange.EqualFold(f.Name, FieldParent):
			parent = f.Value
			n++
		case len(f.Name) == len(FieldState) && exchange.EqualFold(f.Name, FieldState):
			state = f.Value
			states++
		}
	}
	if n != 1 {
		return Context{}, "", false
	}
	if c, ok = Parse(parent); !ok {
		return Context{}, "", false
	}
	if states != 1 || !validState(state) {
		state = "" // to be parted from what cannot be read is allowed, and to join several costs memory
	}
	return c, state, true
}

// validState reports whether s is a tracestate by the grammar of the standard:
// members key=value, each key once, not more than 32.
func validState(s string) bool {
	if len(s) > maxState {
		return false
	}
	n := 0
	for rest := s; ; {
		member, more, again := strings.Cut(rest, ",")
		member = strings.Trim(member, " \t")
		if member != "" {
			key, value, ok := strings.Cut(member, "=")
			if n++; !ok || n > maxMembers || !validKey(key) || !validValue(value) || seen(s[:len(s)-len(rest)], key) {
				return false
			}
		}
		if !again {
			return n > 0
		}
		rest = more
	}
}

// seen reports whether key is one of the members of s.
func seen(s, key string) bool {
	for s != "" {
		member, more, _ := strings.Cut(s, ",")
		if k, _, _ := strings.Cut(strings.Trim(member, " \t"), "="); k == key {
			return true
		}
		s = more
	}
	return false
}

func validKey(k string) bool {
	tenant, system, multi := strings.Cut(k, "@")
	if multi {
		return keyPart(tenant, 241, true) && keyPart(system, 14, false)
	}
	return keyPart(tenant, 256, false)
}

func keyPart(s string, longest int, digits bool) bool {
	if s == "" || len(s) > longest {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z':
		case '0' <= c && c <= '9':
			if i == 0 && !digits {
				return false
			}
		case c == '_' || c == '-' || c == '*' || c == '/':
			if i == 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func validValue(v string) bool {
	if v == "" || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < 0x20 || c > 0x7e || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
