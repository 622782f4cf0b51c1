// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
)

// Call is one request to a backend.
type Call struct {
	Target Target
	// Method, Path with RawQuery, and Authority are sent in place of the exchange's own where they are not empty.
	// Without Authority the target's name is sent: a backend is addressed by its own name.
	Method    string
	Path      string
	RawQuery  string
	Authority string
	// Header is sent in place of the exchange's where it is not nil.
	Header *exchange.Header
	// Now is the time, which is asked for where it is zero.
	Now time.Time
	// Timeout bounds the whole call in place of the pool's Total; negative is no bound.
	Timeout time.Duration
	// Stream bounds each silence of a call that is a stream in place of the pool's Stream; negative is no bound.
	Stream time.Duration
	// Upgrade passes the client's wish to change protocols on to the backend. If the backend agrees, the response is a
	// 101 whose Takeover carries the bytes both ways.
	Upgrade bool
	// Interim, where set, gets the backend's interim responses, but for 100 (Continue), which is for this hop.
	Interim func(status int, h *exchange.Header)

	last *bucket // of the call before
}

// Reset empties the Call for the next one.
func (c *Call) Reset() { *c = Call{last: c.last} }

const maxInterim = 8

// Do makes the call. On success the response stands in e, with a body that is read from the backend as it is read by
// the client; it must be closed, which finishing the exchange does. The error is a *Failure; e's response is then empty.
//
// ctx bounds connecting. What follows is bounded by the time-outs and by Close.
func (p *Pool) Do(ctx context.Context, call *Call, e *exchange.Exchange) error {
	now := call.Now
	if now.IsZero() {
		now = time.Now()
	}
	o := grammar.Outgoing{
		Method: call.Method, Path: call.Path, RawQuery: call.RawQuery, Authority: call.Authority,
		Header: call.Header, Length: e.Request.Length,
	}
	b := call.last
	if b == nil || b.pool != p || b.gone.Load() || b.target != call.Target {
		b = p.bucket(call.Target)
		call.last = b
	}
	if s := now.Unix(); b.touched.Load() != s {
		b.touched.Store(s)
	}
	if o.Method == "" {
		o.Method = e.Request.Method
	}
	if o.Path == "" {
		o.Path, o.RawQuery, o.HasQuery = e.Request.Path, e.Request.RawQuery, e.Request.HasQuery
	}
	if o.Authority == "" {
		o.Authority = b.authority
	}
	if o.Header == nil {
		o.Header = &e.Request.Header
	}
	if call.Upgrade {
		o.Upgrade = e.Request.Upgrade
	}
	total := call.Timeout
	if total == 0 {
		total = p.cfg.Timeouts.Total
	}
	s := pace{silence: call.Stream}
	if s.silence == 0 {
		s.silence = p.cfg.Timeouts.Stream
	}
	s.stream = o.Length != 0 && Streams(o.Header.Get("Content-Type"))
	if b, ok := e.Request.Body.(exchange.Patient); ok && s.stream {
		b.Wait(s.silence)
		e.OnDone(impatient)
	}
	var by time.Time
	if total > 0 && !s.stream {
		by = now.Add(total)
	}
	if f := p.do(ctx, b, &o, e, now, by, s, call.Interim); f != nil {
		return f
	}
	return nil
}

func (p *Pool) do(ctx context.Context, b *bucket, o *grammar.Outgoing, e *exchange.Exchange, now, by time.Time, s pace, interim func(int, *exchange.Header)) *Failure {
	repeatable := idempotent(o.Method) && o.Upgrade == ""
	lazy := whole(o, e)
	c := p.take(b, now, repeatable, lazy)
	for {
		reused := c != nil
		if c == nil {
			var f *Failure
			if c, f = p.dial(ctx, b, by); f != nil {
				return f
			}
		}
		c.begin(e, o.Method, by, reused)
		c.pace, c.interim = s, interim
		c.lazy = lazy && c.swaps()
		seen, f := c.roundTrip(o, now)
		if f == nil {
			return nil
		}
		e.Response.Header.Reset()
		e.Response.Status = 0
		gone := c.left()
		c.Settle()
		c.discard()
		if gone {
			f.Kind, f.Err = Canceled, context.Cause(e.Context())
		}
		if c.swap.stale && !gone {
			if o.Length > 0 { // the body has been read, and is not to be had from the client once more
				e.Request.Body, lazy = bytes.NewReader(c.swap.unsent[int64(len(c.swap.unsent))-o.Length:]), false
			}
			c.e, c.interim = nil, nil
			c = p.take(b, now, repeatable, lazy)
			continue
		}
		touched := c.pump != nil || seen
		c.pump, c.e, c.interim = nil, nil, nil
		// A pooled connection that the backend had closed in the meantime is nobody's fault. Once is enough: the next
		// one is new.
		if gone || !reused || touched || f.Kind != Reset || !repeatable || o.Length != 0 {
			return f
		}
		c, now = nil, time.Now()
	}
}

// idempotent lists the methods of RFC 9110 9.2.2.
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

func (c *conn) begin(e *exchange.Exchange, method string, by time.Time, reused bool) {
	c.e, c.method, c.by, c.reused, c.last = e, method, by, reused, false
	c.equip()
	c.watch()
}

// dial opens a connection.
func (p *Pool) dial(ctx context.Context, b *bucket, by time.Time) (*conn, *Failure) {
	fail := func(phase Phase, err error) *Failure {
		return &Failure{Kind: classify(err, phase), Phase: phase, Target: b.target, Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	if t := p.cfg.Timeouts.Connect; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	if !by.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, by)
		defer cancel()
	}
	epoch, reviews := b.epoch.Load(), p.reviews.Load() // CloseWhere and Review during the dial count
	nc, err := p.cfg.Dial(ctx, b.target)
	if err != nil {
		return nil, fail(Connecting, err)
	}
	c := newConn(p, b, epoch, nc)
	if !p.register(c) {
		nc.Close() // unused
		return nil, fail(Connecting, ErrClosed)
	}
	if p.reviews.Load() != reviews {
		c.condemned.Store(true)
	}
	if b.target.Scheme != "https" {
		return c, nil
	}
	tc := tls.Client(nc, p.tlsConfig(b.target))
	if err := tc.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // the handshake's own error only says that the connection was closed under it
		}
		c.discard()
		return nil, fail(Securing, err)
	}
	p.mu.Lock() // Close looks at nc
	c.nc, c.tls = tc, true
	p.mu.Unlock()
	return c, nil
}

func (p *Pool) tlsConfig(t Target) *tls.Config {
	var cfg *tls.Config
	if p.cfg.TLS != nil {
		cfg = p.cfg.TLS(t)
	}
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	} else {
		cfg = cfg.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = t.Host
	}
	if len(cfg.NextProtos) == 0 {
		cfg.NextProtos = []string{"http/1.1"}
	}
	return cfg
}

// roundTrip sends the request and reads the response's head. seen says that the backend may have acted on the request.
func (c *conn) roundTrip(o *grammar.Outgoing, now time.Time) (seen bool, f *Failure) {
	c.arm(c.by, now)
	head, bad := grammar.AppendRequest(c.out[:0], o)
	if bad != nil {
		return false, &Failure{Kind: Request, Phase: Sending, Target: c.b.target, Reused: c.reused, Err: bad}
	}
	if cap(head) <= 4*keptOut {
		c.out = head[:0]
	}
	f, werr := c.send(head, o.Length)
	if f != nil {
		return true, f
	}
	if werr != nil {
		c.last = true // yet the backend may have answered before it stopped reading
	}
	if t := c.patience(); t > 0 && (c.by.IsZero() || now.Add(t).Before(c.by)) {
		if hb := time.Now().Add(t); c.by.IsZero() || hb.Before(c.by) {
			c.readBy = hb
			c.armed = hb
			c.nc.SetReadDeadline(hb)
		}
	}
	seen, err := c.receive(o)
	if c.swap.failed != nil {
		werr, c.last = c.swap.failed, true
	}
	c.swap.end()
	if err == nil {
		return seen, nil
	}
	if c.pump != nil {
		c.pump.settle(false)
		if rerr := c.pump.readErr; rerr != nil {
			return true, &Failure{Kind: RequestBody, Phase: Sending, Target: c.b.target, Reused: c.reused, Err: rerr}
		}
	}
	if werr != nil {
		return seen, c.fail(Sending, werr)
	}
	return seen, c.fail(Awaiting, err)
}

// receive reads heads up to the final one and sets the exchange's response.
func (c *conn) receive(o *grammar.Outgoing) (seen bool, err error) {
	rs := &c.e.Response
	limits := &c.p.cfg.Limits
	for range maxInterim {
		head, err := c.src.Head(limits, false)
		if err != nil {
			return seen || err == io.ErrUnexpectedEOF, err
		}
		seen = true
		rs.Header.Reset()
		cn, untilClose, bad := grammar.ParseResponse(head, rs, o.Method, limits)
		if bad != nil {
			return true, bad
		}
		if rs.Status >= 200 || rs.Status == 101 {
			return true, c.final(o, cn, untilClose)
		}
		c.last = c.last || cn.Close // also where one says that it has a body
		if rs.Status != 100 && c.interim != nil {
			c.interim(rs.Status, &rs.Header)
		}
		c.src.Release()
	}
	return true, grammar.ErrInterim
}

func (c *conn) final(o *grammar.Outgoing, cn grammar.Connection, untilClose bool) error {
	rs := &c.e.Response
	c.last = c.last || cn.Close
	status, length := rs.Status, rs.Length
	kind, size := grammar.Sized, length
	switch {
	case status == 101:
		if o.Upgrade == "" || !exchange.EqualFold(rs.Header.Get("Upgrade"), o.Upgrade) {
			return grammar.ErrUpgrade
		}
		c.last, length, size = true, 0, 0
	case o.Method == "HEAD":
		size = 0
	case untilClose:
		kind = grammar.UntilClose
	case length < 0:
		kind = grammar.Chunked
	}
	c.body.Reset(&c.src, kind, size, &c.p.cfg.Limits, &rs.Trailer)
	if !c.readBy.Equal(c.by) { // from here on the whole call's deadline holds
		c.readBy, c.armed = c.by, c.by
		c.nc.SetReadDeadline(c.by)
	}
	if Events(rs.Header.Get("Content-Type")) {
		c.flow()
	}
	c.e.SetBody(c, length)
	if status == 101 {
		rs.Takeover = c.tunnel
	}
	return nil
}

// halfCloser is a connection that can end its sending side alone.
type halfCloser interface{ CloseWrite() error }

// tunnel carries bytes both ways until both sides have ended or one has failed or fallen silent.
func (c *conn) tunnel(client net.Conn) {
	c.nc.SetDeadline(time.Time{})
	c.armed, c.readBy = time.Time{}, time.Time{}
	quiet := c.p.cfg.Timeouts.Tunnel
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !carry(c.nc, client, client, c.nc, quiet) {
			client.Close()
			c.nc.Close()
		}
	}()
	if !carry(client, &rest{c}, c.nc, client, quiet) {
		client.Close()
		c.nc.Close()
	}
	<-done
}

// rest reads what came behind the head, then the connection.
type rest struct{ c *conn }

// Read reads from the buffer first.
func (r *rest) Read(p []byte) (int, error) {
	if r.c.src.Buffered() > 0 {
		return r.c.src.Take(p), nil
	}
	return r.c.nc.Read(p)
}

// carry copies src to dst and ends dst's side when src has ended. Traffic on either side keeps both alive.
func carry(dst net.Conn, src io.Reader, a, b net.Conn, quiet time.Duration) bool {
	buf := make([]byte, 16<<10)
	for {
		if quiet > 0 {
			by := time.Now().Add(quiet)
			a.SetDeadline(by)
			b.SetDeadline(by)
		}
		n, err := src.Read(buf)
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return false
			}
		}
		if err == io.EOF {
			h, ok := dst.(halfCloser)
			return ok && h.CloseWrite() == nil
		}
		if err != nil {
			return false
		}
	}
}
