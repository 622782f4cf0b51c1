// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package collector is a collector of traces for tests, which keeps the spans that it is sent
// by OTLP over HTTP.
package collector

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Span is a span as it was received.
type Span struct {
	Trace, ID, Parent, State, Name string
	// Kind is 2 for a server's and 3 for a client's, Status 2 for an error.
	Kind, Status uint64
	Start, End   uint64 // nanoseconds
	Attributes   map[string]string
	// Resource are the attributes of whose span it is.
	Resource map[string]string
}

// Collector is a running collector.
type Collector struct {
	*httptest.Server

	mu    sync.Mutex
	spans []Span
	paths []string
	fault int
}

// New starts a collector, which ends with the test.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var spans []Span
		if err == nil {
			spans, err = decode(b)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.paths = append(c.paths, r.URL.Path)
		if c.fault != 0 {
			w.WriteHeader(c.fault)
			return
		}
		c.spans = append(c.spans, spans...)
	}))
	t.Cleanup(c.Server.Close)
	return c
}

// Fail has the collector answer with a status from now on; 0 ends that.
func (c *Collector) Fail(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = status
}

// Spans are those that were received so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Paths are those that were called so far.
func (c *Collector) Paths() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.paths...)
}

var errWire = errors.New("no message of protocol buffers")

// fields takes a message apart: the bytes or the number of each field in turn.
func fields(b []byte, each func(field uint64, bytes []byte, number uint64) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errWire
		}
		b = b[n:]
		var bytes []byte
		var number uint64
		switch key & 7 {
		case 0:
			if number, n = binary.Uvarint(b); n <= 0 {
				return errWire
			}
			b = b[n:]
		case 1:
			if len(b) < 8 {
				return errWire
			}
			number, b = binary.LittleEndian.Uint64(b), b[8:]
		case 5:
			if len(b) < 4 {
				return errWire
			}
			number, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errWire
			}
			bytes, b = b[n:n+int(size)], b[n+int(size):]
		default:
			return errWire
		}
		if err := each(key>>3, bytes, number); err != nil {
			return err
		}
	}
	return nil
}

// decode reads an ExportTraceServiceRequest.
func decode(b []byte) (out []Span, err error) {
	err = fields(b, func(f uint64, resourceSpans []byte, _ uint64) error {
		if f != 1 {
			return nil
		}
		from, resource := len(out), map[string]string{}
		err := fields(resourceSpans, func(f uint64, b []byte, _ uint64) error {
			switch f {
			case 1:
				return fields(b, func(f uint64, b []byte, _ uint64) error {
					if f == 1 {
						return attribute(b, resource)
					}
					return nil
				})
			case 2:
				return fields(b, func(f uint64, b []byte, _ uint64) error {
					if f != 2 {
						return nil
					}
					s, err := span(b)
					out = append(out, s)
					return err
				})
			}
			return nil
		})
		for i := from; i < len(out); i++ {
			out[i].Resource = resource
		}
		return err
	})
	return out, err
}

func span(b []byte) (s Span, err error) {
	s.Attributes = map[string]string{}
	err = fields(b, func(f uint64, b []byte, n uint64) error {
		switch f {
		case 1:
			s.Trace = hex.EncodeToString(b)
		case 2:
			s.ID = hex.EncodeToString(b)
		case 3:
			s.State = string(b)
		case 4:
			s.Parent = hex.EncodeToString(b)
		case 5:
			s.Name = string(b)
		case 6:
			s.Kind = n
		case 7:
			s.Start = n
		case 8:
			s.End = n
		case 9:
			return attribute(b, s.Attributes)
		case 15:
			return fields(b, func(f uint64, _ []byte, n uint64) error {
				if f == 3 {
					s.Status = n
				}
				return nil
			})
		}
		return nil
	})
	return s, err
}

func attribute(b []byte, to map[string]string) error {
	key := ""
	return fields(b, func(f uint64, b []byte, _ uint64) error {
		switch f {
		case 1:
			key = string(b)
		case 2:
			return fields(b, func(f uint64, b []byte, n uint64) error {
				if f == 1 {
					to[key] = string(b)
				} else {
					to[key] = fmt.Sprint(n)
				}
				return nil
			})
		}
		return nil
	})
}
