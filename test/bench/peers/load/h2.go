// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// What is needed of RFC 9113 to send GET and count answers.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagEndStream  = 1 // and ACK
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 32

	frameHead = 9
	maxFrame  = 16384
	maxWindow = 1<<31 - 1
	indexedOK = 0x88 // :status 200, in the static table of RFC 7541
)

// preface opens a connection on which answers may be of any length.
var preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
	"\x00\x00\x0c\x04\x00\x00\x00\x00\x00" + // SETTINGS
	"\x00\x02\x00\x00\x00\x00" + // no push
	"\x00\x04\x7f\xff\xff\xff" + // a window of 2^31-1 bytes for each stream
	"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + "\x7f\xff\x00\x00" // and for all together

// HeaderBlock is the header of a GET as HTTP/2 sends it, without use of tables
// that change, so that it is the same on every connection.
func HeaderBlock(authority, path string, more ...[2]string) []byte {
	b := []byte{0x82, 0x87} // :method GET, :scheme https
	text := func(s string) {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = append(b, 0x04) // :path
	text(path)
	b = append(b, 0x01) // :authority
	text(authority)
	for _, h := range more {
		b = append(b, 0)
		text(h[0])
		text(h[1])
	}
	return b
}

// h2 is a connection with several requests at once.
type h2 struct {
	*run
	w      wire
	h      *Histogram
	out    []byte
	id     uint32 // of the next stream
	n      int    // of the next request
	credit int    // bytes received that the gateway has not been told of
	// began and got are of the streams, by half their number modulo the size,
	// which is ample: streams are ended about in the order that they began.
	began []time.Duration
	got   []int
}

const remembered = 1 << 12

// multiplex keeps Streams requests going over one connection.
func (r *run) multiplex(i int, w wire, hist *Histogram) error {
	c := &h2{run: r, w: w, h: hist, id: 1, n: i, began: make([]time.Duration, remembered), got: make([]int, remembered)}
	c.out = append(c.out, preface...)
	for range r.Streams {
		c.request()
	}
	buf := make([]byte, 256<<10)
	from, to := 0, 0
	for !r.done.Load() {
		if len(c.out) > 0 {
			if err := w.send(c.out); err != nil {
				return fmt.Errorf("send requests: %w", err)
			}
		}
		n, err := w.read(buf[to:])
		if err != nil {
			return fmt.Errorf("read answers: %w", err)
		}
		c.out = c.out[:0]
		to += n
		for to-from >= frameHead {
			length := int(buf[from])<<16 | int(buf[from+1])<<8 | int(buf[from+2])
			if length > maxFrame {
				return fmt.Errorf("a frame of %d bytes", length)
			}
			if to-from < frameHead+length {
				break
			}
			f := buf[from : from+frameHead+length]
			if err := c.frame(f[3], f[4], binary.BigEndian.Uint32(f[5:])&maxWindow, f[frameHead:]); err != nil {
				return err
			}
			from += len(f)
		}
		to = copy(buf, buf[from:to])
		from = 0
	}
	return nil
}

func (c *h2) request() {
	block := c.Requests[c.n%len(c.Requests)]
	c.n += c.Conns
	slot := c.id / 2 % remembered
	c.began[slot], c.got[slot] = time.Since(c.start), 0
	c.put(frameHeaders, flagEndStream|flagEndHeaders, c.id, block)
	c.id += 2
}

func (c *h2) put(kind, flags byte, id uint32, payload []byte) {
	n := len(payload)
	c.out = append(c.out, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	c.out = binary.BigEndian.AppendUint32(c.out, id)
	c.out = append(c.out, payload...)
}

func (c *h2) frame(kind, flags byte, id uint32, payload []byte) error {
	slot := id / 2 % remembered
	switch kind {
	case frameSettings:
		if flags&flagEndStream == 0 {
			c.put(frameSettings, flagEndStream, 0, nil)
		}
	case framePing:
		if flags&flagEndStream == 0 {
			c.put(framePing, flagEndStream, 0, payload)
		}
	case frameReset:
		return fmt.Errorf("stream %d was reset: %x", id, payload)
	case frameGoAway:
		return fmt.Errorf("the gateway ends the connection: %x", payload)
	case frameHeaders:
		block, err := unpadded(flags, payload)
		if err != nil {
			return err
		}
		for len(block) > 0 && block[0]&0xe0 == 0x20 { // the size of a table we do not use
			block = block[1:]
		}
		if c.got[slot] == 0 && (len(block) == 0 || block[0] != indexedOK) {
			return fmt.Errorf("an answer does not have the status 200: its header begins with %x", block[:min(len(block), 16)])
		}
	case frameData:
		c.credit += len(payload)
		body, err := unpadded(flags&^flagPriority, payload)
		if err != nil {
			return err
		}
		c.got[slot] += len(body)
		if c.credit > maxWindow/4 {
			c.put(frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(c.credit)))
			c.credit = 0
		}
	}
	if (kind == frameHeaders || kind == frameData) && flags&flagEndStream != 0 {
		if err := c.check(200, c.got[slot], nil); err != nil {
			return err
		}
		c.count(c.h, c.began[slot])
		c.request()
	}
	return nil
}

// unpadded is what a frame carries.
func unpadded(flags byte, p []byte) ([]byte, error) {
	pad := 0
	if flags&flagPadded != 0 && len(p) > 0 {
		pad, p = int(p[0]), p[1:]
	}
	if flags&flagPriority != 0 && len(p) >= 5 {
		p = p[5:]
	}
	if pad > len(p) {
		return nil, errors.New("a frame has more padding than bytes")
	}
	return p[:len(p)-pad], nil
}
