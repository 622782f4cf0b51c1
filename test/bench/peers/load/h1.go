// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// reader reads the answers of an HTTP/1.1 connection and keeps nothing of them
// but what it has to check: that each is 200 and as long as the backend made it.
type reader struct {
	w    wire
	buf  []byte
	from int // what is buffered but not used
	to   int
}

func newReader(w wire) *reader { return &reader{w: w, buf: make([]byte, 32<<10)} }

// fill reads more, behind what is buffered.
func (r *reader) fill() error {
	if r.from == r.to {
		r.from, r.to = 0, 0
	} else if r.to == len(r.buf) {
		if r.from == 0 {
			return errors.New("the head of an answer has more than 32 KiB")
		}
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
	}
	n, err := r.w.read(r.buf[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	return err
}

var headEnd = []byte("\r\n\r\n")

// answer reads one answer and returns its status and how long its body was.
func (r *reader) answer() (status, length int, err error) {
	var head []byte
	for {
		if i := bytes.Index(r.buf[r.from:r.to], headEnd); i >= 0 {
			head = r.buf[r.from : r.from+i+2]
			r.from += i + 4
			break
		}
		if err := r.fill(); err != nil {
			return 0, 0, fmt.Errorf("read the head of an answer: %w", err)
		}
	}
	if len(head) < 14 || string(head[:9]) != "HTTP/1.1 " {
		return 0, 0, fmt.Errorf("an answer begins with %q", head[:min(len(head), 20)])
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, 0, fmt.Errorf("an answer begins with %q", head[:20])
	}
	length, chunked, err := bodyOf(head)
	if err != nil {
		return 0, 0, err
	}
	if chunked {
		length, err = r.chunks()
	} else {
		err = r.skip(length)
	}
	return status, length, err
}

// bodyOf reads how long a body is from the head of its answer.
func bodyOf(head []byte) (length int, chunked bool, err error) {
	length = -1
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		value = bytes.TrimSpace(value)
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, fmt.Errorf("a body of %q bytes", value)
			}
		case len(name) == 17 && bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		}
	}
	if length < 0 && !chunked {
		return 0, false, errors.New("an answer does not say how long its body is")
	}
	return length, chunked, nil
}

// skip reads n bytes and forgets them.
func (r *reader) skip(n int) error {
	for {
		have := min(n, r.to-r.from)
		r.from += have
		n -= have
		if n == 0 {
			return nil
		}
		if err := r.fill(); err != nil {
			return fmt.Errorf("read a body, %d bytes before its end: %w", n, err)
		}
	}
}

func (r *reader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.from:r.to], '\n'); i >= 0 {
			l := bytes.TrimSpace(r.buf[r.from : r.from+i])
			r.from += i + 1
			return l, nil
		}
		if err := r.fill(); err != nil {
			return nil, fmt.Errorf("read a line: %w", err)
		}
	}
}

func (r *reader) chunks() (length int, err error) {
	for {
		l, err := r.line()
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseUint(string(l), 16, 31)
		if err != nil {
			return 0, fmt.Errorf("a chunk of %q bytes", l)
		}
		if err := r.skip(int(n)); err != nil {
			return 0, err
		}
		if l, err = r.line(); err != nil || len(l) > 0 { // the trailer is empty
			return 0, errors.Join(err, fmt.Errorf("%q follows a chunk", l))
		}
		if n == 0 {
			return length, nil
		}
		length += int(n)
	}
}
