// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h2"
)

// raw is a client that writes frames as it likes.
type raw struct {
	*http2.Framer
	nc  net.Conn
	enc *hpack.Encoder
	buf bytes.Buffer
	t   testing.TB

	read   sync.WaitGroup
	mu     sync.Mutex
	goaway *http2.ErrCode
	resets map[uint32]http2.ErrCode
	status map[uint32]string
	ended  chan struct{} // closed with the connection
	told   chan struct{} // signalled when anything above changes
}

// raw opens a connection and keeps reading from it.
func (l *lab) raw(settings ...http2.Setting) *raw {
	l.t.Helper()
	nc := l.dial()
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		l.t.Fatal(err)
	}
	c := &raw{
		nc: nc, t: l.t, Framer: http2.NewFramer(nc, nc), resets: map[uint32]http2.ErrCode{}, status: map[uint32]string{},
		ended: make(chan struct{}), told: make(chan struct{}, 1),
	}
	c.Framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.buf)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		l.t.Fatal(err)
	}
	if err := c.WriteSettings(settings...); err != nil {
		l.t.Fatal(err)
	}
	c.read.Go(c.listen)
	l.t.Cleanup(func() { nc.Close(); c.read.Wait() })
	return c
}

func (c *raw) listen() {
	defer close(c.ended)
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			c.goaway = &f.ErrCode
		case *http2.RSTStreamFrame:
			c.resets[f.StreamID] = f.ErrCode
		case *http2.MetaHeadersFrame:
			c.status[f.StreamID] = f.PseudoValue("status")
		}
		c.mu.Unlock()
		select {
		case c.told <- struct{}{}:
		default:
		}
	}
}

// block encodes the fields of a request.
func (c *raw) block(fields ...string) []byte {
	c.buf.Reset()
	all := append([]string{":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/"}, fields...)
	for i := 0; i < len(all); i += 2 {
		if err := c.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]}); err != nil {
			c.t.Fatal(err)
		}
	}
	return bytes.Clone(c.buf.Bytes())
}

func (c *raw) open(id uint32, end bool, fields ...string) error {
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(fields...), EndStream: end, EndHeaders: true})
}

// flood repeats f until the server ends the connection; it fails after most times.
func (c *raw) flood(most int, f func(i int) error) {
	c.t.Helper()
	for i := range most {
		if f(i) != nil {
			return
		}
		select {
		case <-c.ended:
			return
		default:
		}
	}
	c.t.Errorf("the server still listens after %d times", most)
}

// until waits for what a client is told.
func (c *raw) until(what string, ok func() bool) {
	c.t.Helper()
	for {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.told:
		case <-c.ended:
			c.mu.Lock()
			defer c.mu.Unlock()
			if !ok() {
				c.t.Errorf("the connection ended before %s", what)
			}
			return
		}
	}
}

// serves fails if other callers are not answered.
func (l *lab) serves() {
	l.t.Helper()
	c := l.client()
	defer c.CloseIdleConnections()
	if resp, got := send(l.t, c, request(l.t, http.MethodGet, "https://a.example/", nil)); resp.StatusCode != http.StatusOK || got != "ok" {
		l.t.Errorf("another caller gets %d %s", resp.StatusCode, got)
	}
}

func ok(e *exchange.Exchange) { e.Reply(200, nil, []byte("ok")) }

func TestFloodsEndTheConnection(t *testing.T) {
	for _, f := range []struct {
		name string
		want error
		most int
		send func(c *raw, i int) error
	}{
		{"ping", h2.ErrFlood, 1 << 20, func(c *raw, _ int) error { return c.WritePing(false, [8]byte{}) }},
		{"settings", h2.ErrFlood, 1 << 20, func(c *raw, _ int) error { return c.WriteSettings() }},
		{"window updates", h2.ErrFlood, 1 << 20, func(c *raw, _ int) error { return c.WriteWindowUpdate(0, 1) }},
		{"priority", h2.ErrFlood, 1 << 20, func(c *raw, _ int) error {
			return c.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		}},
		{"unknown frames", h2.ErrFlood, 1 << 20, func(c *raw, _ int) error { return c.WriteRawFrame(0x42, 0, 0, nil) }},
		{"empty data", h2.ErrFlood, 1 << 20, func(c *raw, i int) error {
			if i == 0 {
				return c.open(1, false)
			}
			return c.WriteData(1, false, nil)
		}},
		{"rapid reset", h2.ErrResets, 1 << 20, func(c *raw, i int) error {
			id := uint32(2*i + 1)
			return errors.Join(c.open(id, true), c.WriteRSTStream(id, http2.ErrCodeCancel))
		}},
		{"continuations", h2.ErrHeaderBlock, 1 << 20, func(c *raw, i int) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(), EndStream: true})
			}
			return c.WriteContinuation(1, false, nil)
		}},
		{"a large header block", h2.ErrHeaderBlock, 1 << 20, func(c *raw, i int) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(), EndStream: true})
			}
			return c.WriteContinuation(1, false, make([]byte, 16<<10))
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // each waits a second for the last words to be read
			l := newLab(t, ok)
			c := l.raw()
			c.flood(f.most, func(i int) error { return f.send(c, i) })
			l.serves()
			c.nc.Close()
			if err := l.failure(); !errors.Is(err, f.want) {
				t.Errorf("the connection ended with %v, want %v", err, f.want)
			}
		})
	}
}

// A client that is slow to read and careful with what it counts is not a flood.
func TestWhatRequestsNeedIsNoFlood(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		e.Response.Status = 200
		e.SetBody(io.NopCloser(strings.NewReader(strings.Repeat("a", 8<<20))), -1)
	})
	c := l.client()
	for range 2 {
		resp, err := c.Do(request(t, http.MethodGet, "https://a.example/", nil))
		if err != nil {
			t.Fatal(err)
		}
		n, buf := 0, make([]byte, 512) // the client acknowledges little by little
		for {
			m, err := resp.Body.Read(buf)
			n += m
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
		}
		resp.Body.Close()
		if n != 8<<20 {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestMalformedRequestsAreReset(t *testing.T) {
	l := newLab(t, ok)
	c := l.raw()
	for i, fields := range [][]string{
		{"connection", "close"},
		{"keep-alive", "1"},
		{"transfer-encoding", "chunked"},
		{"upgrade", "websocket"},
		{"proxy-connection", "close"},
		{"te", "gzip"},
		{"x-long", strings.Repeat("a", 9000), "connection", "x"},
	} {
		id := uint32(2*i + 1)
		if err := c.open(id, true, fields...); err != nil {
			t.Fatal(err)
		}
		c.until("a reset of "+fields[0], func() bool { _, reset := c.resets[id]; return reset })
		c.mu.Lock()
		if code := c.resets[id]; code != http2.ErrCodeProtocol || c.status[id] != "" {
			t.Errorf("%v: reset with %v, answered %q", fields[0], code, c.status[id])
		}
		c.mu.Unlock()
	}
	// The stream was the matter, not the connection, and both sides remember the same fields.
	if err := c.open(101, true, "te", "trailers", "x-long", strings.Repeat("a", 9000)); err != nil {
		t.Fatal(err)
	}
	c.until("an answer", func() bool { return c.status[101] == "200" })
}

func TestMalformedBlocksOfManyFramesAreReset(t *testing.T) {
	l := newLab(t, ok)
	c := l.raw()
	b := c.block("connection", "close", "x-a", strings.Repeat("~", 9000))
	for i, size := range []int{16 << 10, 16<<10 - 5, 100, 1} {
		id := uint32(2*i + 1)
		b, end := bytes.Clone(b), false
		if i > 0 { // what the table has by now
			b = c.block("connection", "close", "x-a", strings.Repeat("~", 9000))
		}
		first := b[:min(size, len(b))]
		b = b[len(first):]
		if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: true, EndHeaders: len(b) == 0, PadLength: uint8(i)}); err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n := min(len(b), 4<<10)
			end = n == len(b)
			if err := c.WriteContinuation(id, end, b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		c.until("a reset", func() bool { return c.resets[id] == http2.ErrCodeProtocol })
	}
	if err := c.open(101, true); err != nil {
		t.Fatal(err)
	}
	c.until("an answer", func() bool { return c.status[101] == "200" })
}

func TestNoMoreStreamsThanAllowedAreWorkedOn(t *testing.T) {
	var active, most atomic.Int64
	release := make(chan struct{})
	l := newLab(t, func(e *exchange.Exchange) {
		n := active.Add(1)
		defer active.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		ok(e)
	})
	c := l.raw()
	for i := range 300 {
		if err := c.open(uint32(2*i+1), true); err != nil {
			t.Fatal(err)
		}
	}
	c.until("200 refusals", func() bool { return len(c.resets) == 200 })
	close(release)
	c.until("100 answers", func() bool { return len(c.status) == 100 })
	if n := most.Load(); n > 100 {
		t.Errorf("%d requests were worked on at a time", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, code := range c.resets {
		if code != http2.ErrCodeProtocol && code != http2.ErrCodeRefusedStream {
			t.Fatalf("stream %d was reset with %v", id, code)
		}
	}
}

// A client that never reads holds no more than its windows, and is given up.
func TestAClientThatDoesNotReadIsGivenUp(t *testing.T) {
	done := make(chan error, 1)
	l := newLab(t, func(e *exchange.Exchange) {
		if e.Request.Path != "/" {
			e.Response.Status = 200
			e.SetBody(io.NopCloser(endless{}), -1)
			e.OnDone(func(e *exchange.Exchange) { done <- e.Failure })
			return
		}
		ok(e)
	})
	l.Timeouts.Write = 50 * time.Millisecond
	c := l.raw()
	c.buf.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.example"}, {":path", "/endless"}} {
		if err := c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.buf.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("the exchange knows of no failure")
		}
	case <-time.After(30 * time.Second):
		t.Error("the response still waits for its reader")
	}
	c.until("a reset", func() bool { _, reset := c.resets[1]; return reset })
	l.serves()
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestABodyThatDoesNotComeIsGivenUp(t *testing.T) {
	l := newLab(t, func(e *exchange.Exchange) {
		if _, err := io.Copy(io.Discard, e.Request.Body); err == nil {
			ok(e)
		}
	})
	l.Timeouts.Body = 50 * time.Millisecond
	c := l.raw()
	if err := c.open(1, false, "content-length", "10"); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteData(1, false, []byte("12345")); err != nil {
		t.Fatal(err)
	}
	c.until("an answer", func() bool { return c.status[1] == "408" })
	l.serves()
}

func TestAFrameThatDoesNotComeEndsTheConnection(t *testing.T) {
	for name, begin := range map[string]func(c *raw) error{
		"a part of a head":  func(c *raw) error { _, err := c.nc.Write([]byte{0, 0}); return err },
		"a part of a block": func(c *raw) error { _, err := c.nc.Write([]byte{0, 1, 0, 1, 5, 0, 0, 0, 1, 0x82}); return err },
		"a continuation due": func(c *raw) error {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block()})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, ok)
			l.Timeouts.Head = 100 * time.Millisecond
			c := l.raw()
			if err := begin(c); err != nil {
				t.Fatal(err)
			}
			<-c.ended
			if err := l.failure(); !errors.Is(err, h2.ErrFrameTimeout) {
				t.Errorf("the connection ended with %v", err)
			}
		})
	}
}

func TestAnIdleConnectionEnds(t *testing.T) {
	l := newLab(t, ok)
	l.Timeouts.Idle = 50 * time.Millisecond
	c := l.raw()
	<-c.ended
	if err := l.failure(); err != nil {
		t.Error(err)
	}
}

// Attackers' memory is bounded: a hundred connections that each hold what they can of header blocks, bodies and streams.
func TestWhatAttackersHoldIsBounded(t *testing.T) {
	release := make(chan struct{})
	l := newLab(t, func(e *exchange.Exchange) {
		if e.Request.Length != 0 {
			<-release
		}
		ok(e)
	})
	const attackers = 100
	before := heap()
	var conns []*raw
	for range attackers {
		c := l.raw()
		conns = append(conns, c)
		window := 256 << 10
		for i := range 4 {
			if err := c.open(uint32(2*i+1), false); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; window > 0; i++ { // all that the windows let in
			n := min(window, 16<<10)
			if err := c.WriteData(uint32(2*(i%4)+1), false, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			window -= n
		}
		if err := c.WritePing(false, [8]byte{1}); err != nil { // the answer comes behind all that
			t.Fatal(err)
		}
	}
	l.serves()
	per := (heap() - before) / attackers
	if per > 1<<20 {
		t.Errorf("an attacker holds %d bytes", per)
	}
	t.Logf("an attacker holds %d KiB, its own side included", per>>10)
	close(release)
	for _, c := range conns {
		c.nc.Close()
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
