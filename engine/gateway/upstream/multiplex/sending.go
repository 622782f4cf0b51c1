// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package multiplex

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/upstream"
)

const (
	// grace is how long a complete response waits for a read of the request that is under way.
	grace = 50 * time.Millisecond
	// maxReplay bounds what is kept of a body to send it again.
	maxReplay = 16 << 10
)

// sending is the request's body as the transport reads it, in a goroutine of its own. Between it and the exchange, whose
// body belongs to the connection of the client, it sees to it that no read outlives the exchange.
type sending struct {
	k   *call
	src io.Reader

	mu      sync.Mutex // guards those below
	reading chan struct{}
	ended   bool  // the client's body is complete
	settled bool  // src is read no more
	closed  bool  // by the transport: the backend wants no more
	headed  bool  // the response's head is there
	err     error // src's, other than its end

	// What has been read is kept for another try, as long as it is little.
	kept   []byte
	lost   bool // it was not little
	replay []byte
}

func newSending(k *call) *sending { return &sending{k: k, src: k.e.Request.Body} }

// prompt reads a first part where the client waits to be asked for it: the asking writes to the client's connection,
// which the response will do too.
func (s *sending) prompt() *upstream.Failure {
	if !s.k.e.Request.Continue {
		return nil
	}
	p := make([]byte, 4<<10)
	n, err := s.read(p)
	s.replay = p[:n]
	if err != nil && err != io.EOF {
		return s.k.failed(upstream.Sending, err)
	}
	return nil
}

// Read reads from the client.
func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, errAborted
	}
	if len(s.replay) > 0 {
		n := copy(p, s.replay)
		s.replay = s.replay[n:]
		s.mu.Unlock()
		return n, nil
	}
	s.mu.Unlock()
	return s.read(p)
}

func (s *sending) read(p []byte) (int, error) {
	s.mu.Lock()
	switch {
	case s.settled:
		s.mu.Unlock()
		return 0, errAborted
	case s.ended:
		s.mu.Unlock()
		return 0, io.EOF
	case s.err != nil:
		defer s.mu.Unlock()
		return 0, s.err
	}
	done := make(chan struct{})
	s.reading = done
	s.mu.Unlock()

	n, err := s.src.Read(p)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = nil
	close(done)
	if n > 0 {
		s.k.move()
		s.keep(p[:n])
	}
	switch {
	case err == io.EOF:
		s.ended = true
		if !s.settled {
			s.finish()
		}
	case err != nil && !s.settled:
		s.err = err
		s.k.cancel(err) // the backend must not take what it has for the whole
	case err != nil:
		err = errAborted
	}
	return n, err
}

// keep holds on to what has been read.
func (s *sending) keep(p []byte) {
	switch {
	case s.lost:
	case len(s.kept)+len(p) > maxReplay:
		s.kept, s.lost = nil, true
	default:
		s.kept = append(s.kept, p...)
	}
}

// finish passes the trailers on, which the transport looks for after the body, and starts the clock of the response.
func (s *sending) finish() {
	from := &s.k.e.Request.Trailer
	for i := range from.Len() {
		f := from.At(i)
		name := http.CanonicalHeaderKey(strings.Clone(f.Name))
		s.k.req.Trailer[name] = append(s.k.req.Trailer[name], strings.Clone(f.Value))
	}
	if s.k.head != nil && !s.headed {
		s.k.head.Reset(s.k.p.cfg.Timeouts.Head)
	}
}

// answered notes that the response's head is there: its clock does not start any more.
func (s *sending) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headed = true
}

// Close is the transport's: the backend does not want the rest. A read under way is left to end by itself or with the
// exchange.
func (s *sending) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// rewind makes the body ready to be sent once more, and reports whether it could be.
func (s *sending) rewind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost || s.err != nil || s.reading != nil || s.settled {
		return false
	}
	s.replay, s.closed = s.kept, false
	return true
}

// failure is why the client's body could not be read on.
func (s *sending) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// halt interrupts the read under way when the call has ended: the transport waits for it, and only then tells the backend.
func (s *sending) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = true
	if s.reading != nil {
		s.abort()
	}
}

func (s *sending) abort() {
	if a, ok := s.src.(exchange.Aborter); ok {
		a.Abort()
	}
}

// settle waits for the read under way, and brings its end about where it does not come by itself.
func (s *sending) settle(complete bool) {
	s.mu.Lock()
	s.settled = true
	reading := s.reading
	s.mu.Unlock()
	if reading == nil {
		return
	}
	if complete {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-reading:
			return
		case <-t.C:
		}
	}
	s.abort()
	<-reading
}
