// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package grammar

import (
	"bytes"
	"io"
)

// Source is the buffered reading side of a connection. The head in use stays where it is until Release, because the
// message's strings are views of it; the body is read behind it.
type Source struct {
	r    io.Reader
	buf  []byte
	base int // bytes before it belong to the head in use
	pos  int
	end  int
	// skipped says that the empty line has been that may come before a head.
	skipped bool
}

const (
	firstBuffer = 4 << 10
	minRoom     = 1 << 10
)

// Reset makes s read from r and drops what was buffered.
func (s *Source) Reset(r io.Reader) {
	s.r = r
	s.base, s.pos, s.end, s.skipped = 0, 0, 0, false
	if len(s.buf) > 4*firstBuffer {
		s.buf = nil
	}
}

// Buffered reports how many bytes are there that nobody has read yet.
func (s *Source) Buffered() int { return s.end - s.pos }

// Release gives the head's memory free. All strings of the message are void after it.
func (s *Source) Release() {
	s.base = 0
	if s.pos == s.end {
		s.pos, s.end = 0, 0
		if len(s.buf) > 4*firstBuffer {
			s.buf = nil
		}
		return
	}
	if s.pos > 0 {
		s.end = copy(s.buf, s.buf[s.pos:s.end])
		s.pos = 0
	}
}

// Lend gives s, which must be empty, memory to read into. It is not used any longer once Withdraw has been called.
func (s *Source) Lend(buf []byte) {
	s.buf, s.base, s.pos, s.end = buf, 0, 0, 0
}

// Withdraw makes s forget its memory. Nothing may be buffered that is still wanted.
func (s *Source) Withdraw() { s.Lend(nil) }

// Room is memory behind what is buffered, for somebody who reads for s and says with Filled how much came. It is empty
// where there is none.
func (s *Source) Room() []byte {
	if s.pos == s.end {
		s.pos, s.end = s.base, s.base
	}
	return s.buf[s.end:]
}

// Filled adds the first n bytes of Room to what is buffered.
func (s *Source) Filled(n int) { s.end += n }

// fill reads at least one byte more behind what is buffered, which stays contiguous. An io.EOF is only returned bare.
func (s *Source) fill() error {
	if s.pos == s.end {
		s.pos, s.end = s.base, s.base
	}
	if len(s.buf)-s.end < minRoom {
		s.makeRoom()
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if n > 0 {
			return nil // a failure will be met again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (s *Source) makeRoom() {
	held := s.buf[s.pos:s.end]
	if s.pos > s.base && len(s.buf)-s.base-len(held) >= minRoom {
		copy(s.buf[s.base:], held)
		s.pos, s.end = s.base, s.base+len(held)
		return
	}
	// The strings of a head in use keep the old array alive.
	size := max(firstBuffer, len(s.buf))
	for size-len(held) < minRoom {
		size *= 2
	}
	buf := make([]byte, size)
	s.end = copy(buf, held)
	s.buf, s.base, s.pos = buf, 0, 0
}

// Head reads up to the empty line that ends a message head and returns it. For a request, skipEmpty allows one empty
// line before it. The head is valid until Release.
//
// What has come of a head stays buffered if reading on fails, and Head may be called again. The errors are *Error, io.EOF before the first byte, io.ErrUnexpectedEOF within the head, or what the reader said.
func (s *Source) Head(l *Limits, request bool) ([]byte, error) {
	const slack = maxMethod + len("  HTTP/1.1\r\n")
	scan, first := 0, 0 // relative to pos: where to look on, and the length of the first line
	start := 0          // of the current line
	for {
		b := s.buf[s.pos:s.end]
		if request && len(b) > 0 && start == 0 && class[b[0]]&isToken == 0 && b[0] != '\r' && b[0] != '\n' {
			return nil, ErrNotHTTP
		}
		for {
			i := bytes.IndexByte(b[scan:], '\n')
			if i < 0 {
				scan = len(b)
				break
			}
			i += scan
			if i == start || b[i-1] != '\r' {
				return nil, ErrBareLF
			}
			empty := i-1 == start
			start, scan = i+1, i+1
			switch {
			case !empty && first == 0:
				first = start
				if request && first > l.Target+slack {
					return nil, ErrTargetTooLong
				}
			case empty && first == 0:
				if !request || s.skipped {
					return nil, ErrRequestLine
				}
				s.skipped = true
				s.pos += 2
				b = b[2:]
				start, scan = 0, 0
				if len(b) > 0 && class[b[0]]&isToken == 0 && b[0] != '\r' && b[0] != '\n' {
					return nil, ErrNotHTTP
				}
			case empty:
				s.skipped = false
				s.base = s.pos + start
				head := s.buf[s.pos:s.base]
				s.pos = s.base
				return head, nil
			}
		}
		switch {
		case first == 0 && request && len(b) > l.Target+slack:
			return nil, ErrTargetTooLong
		case first == 0 && !request && len(b) > l.Fields, first > 0 && len(b)-first > l.Fields+2:
			return nil, ErrFieldsTooLarge
		}
		had := len(b)
		if err := s.fill(); err != nil {
			if err == io.EOF && (had > 0 || s.skipped) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// errLong says that a line is longer than its bound; the caller knows which error that is.
var errLong = &Error{400, "line-too-long", "RFC 9112 7.1", "a line of the chunked framing is too long"}

// line takes the next line, of at most limit bytes without its end, off the buffer. Without wait it reads nothing from
// the connection, and ok is false where the line is not complete. The line is valid until the next use of s.
func (s *Source) line(limit int, wait bool) (l []byte, ok bool, err error) {
	for {
		b := s.buf[s.pos:s.end]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			if i-1 > limit {
				return nil, false, errLong
			}
			if i < 1 || b[i-1] != '\r' {
				return nil, false, ErrBareLF
			}
			s.pos += i + 1
			return b[:i-1], true, nil
		}
		if len(b) > limit+1 {
			return nil, false, errLong
		}
		if !wait {
			return nil, false, nil
		}
		if err := s.fill(); err != nil {
			return nil, false, err
		}
	}
}

// section takes lines up to an empty one off the buffer and returns them without that one. As with a head, they stay
// in place until Release.
func (s *Source) section(limit int, wait bool) (sec []byte, ok bool, err error) {
	start, scan := 0, 0
	for {
		b := s.buf[s.pos:s.end]
		for {
			i := bytes.IndexByte(b[scan:], '\n')
			if i < 0 {
				scan = len(b)
				break
			}
			i += scan
			if i == start || b[i-1] != '\r' {
				return nil, false, ErrBareLF
			}
			if i-1 == start {
				if start > limit {
					return nil, false, ErrFieldsTooLarge
				}
				s.pos += i + 1
				if start > 0 {
					s.base = s.pos
				}
				return b[:start], true, nil
			}
			start, scan = i+1, i+1
		}
		if len(b) > limit+2 {
			return nil, false, ErrFieldsTooLarge
		}
		if !wait {
			return nil, false, nil
		}
		if err := s.fill(); err != nil {
			return nil, false, err
		}
	}
}

// Take moves buffered bytes to p, and reads nothing.
func (s *Source) Take(p []byte) int {
	n := copy(p, s.buf[s.pos:s.end])
	s.pos += n
	return n
}

// Drop forgets what is buffered.
func (s *Source) Drop() { s.pos = s.end }
