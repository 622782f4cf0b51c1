// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/internal/nowait"
	"postern.dev/postern/snapshot"
)

type phase uint8

const (
	waiting phase = iota // for the first byte of a request
	inHead
	inBody
	lingering
)

// conn is one connection. It is used again for other connections, with its buffers.
type conn struct {
	s   *Server
	ctx context.Context
	nc  net.Conn
	w   wire
	raw syscall.RawConn // nil unless nc is the kernel's TCP
	src grammar.Source
	e   exchange.Exchange
	req body
	mem *memory
	out []byte

	// Of the request under way.
	cn    grammar.Connection
	ready bool // its head has been read, and not more

	// Of the fast path, see ride.
	step   func(fd uintptr) bool // c.stepped, made once
	inside bool                  // a step is under way
	fd     uintptr               // of that step
	over   bool                  // the connection has had its last request,
	why    error                 // with this error, or none
	lost   error                 // what a read outside will return
	ahead  bool                  // only what has come is read

	lingers bool // the client may still be sending
	prior   bool // the client speaks HTTP/2

	phase  phase
	first  bool // no request has come yet
	idle   atomic.Bool
	headBy time.Time // when the head must be complete; zero before its first byte
	readBy time.Time // when the read under way ends
	armedR time.Time // the read deadline set last
	armedW time.Time
	now    time.Time // of the last read
	unread bool      // the client may be sending what nobody will read

	dateOf int64
	date   [len(dateFormat)]byte
}

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// memory is what a connection reads into and writes from. A connection of the kernel's TCP gives it back while it waits
// for a request: most connections do nothing else.
type memory struct {
	in  [16 << 10]byte
	out [keptOut]byte
}

const keptOut = 4 << 10

var memories = sync.Pool{New: func() any { return new(memory) }}

var conns = sync.Pool{New: func() any {
	c := &conn{}
	c.step = c.stepped
	c.e.Interim = c.interim
	return c
}}

// take gets memory for a request.
func (c *conn) take() {
	switch {
	case c.raw == nil: // it waits with a buffer in hand, and keeps the one that it has
		if c.out == nil {
			c.out = make([]byte, 0, keptOut)
		}
	case c.mem == nil:
		c.mem = memories.Get().(*memory)
		c.src.Lend(c.mem.in[:])
		c.out = c.mem.out[:0]
	}
}

// give gives it back. No string of a request or response is in use any longer.
func (c *conn) give() {
	if c.mem != nil {
		c.src.Withdraw()
		c.out = nil
		memories.Put(c.mem)
		c.mem = nil
	}
}

// errAborted says that Abort interrupted a read.
var errAborted = errors.New("h1: reading the request body was given up")

// errShutdown ends an idle connection when the server shuts down.
var errShutdown = errors.New("h1: shutting down")

func (c *conn) reset(ctx context.Context, s *Server, nc net.Conn, o *snapshot.Origin) {
	c.ctx, c.s, c.nc, c.w, c.raw = ctx, s, nc, nc, nowait.Of(nc)
	c.ready, c.over, c.lingers, c.prior, c.why, c.lost = false, false, false, false, nil, nil
	c.src.Reset(reader{c})
	c.e.Origin, c.e.TLS, c.e.State = o, nil, nil
	c.phase, c.first, c.unread = waiting, true, false
	c.headBy, c.readBy, c.armedR, c.armedW = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	c.idle.Store(false)
	c.req.aborted.Store(false) // of the last connection, if its client was gone before the answer
}

// release gives c back for another connection.
func (c *conn) release() {
	c.e.Begin(context.Background(), time.Time{})
	c.e.Origin, c.e.TLS, c.e.State = nil, nil, nil
	c.ctx, c.s, c.nc, c.w, c.raw = nil, nil, nil, nil, nil
	c.src.Reset(nil)
	c.give()
	conns.Put(c)
}

func (c *conn) serve() error {
	c.now = time.Now()
	c.headBy = c.deadline(c.s.Timeouts.Head)
	if t, ok := c.nc.(secured); ok {
		if err := c.handshake(c.ctx, t); err != nil {
			return err
		}
	}
	if c.s.Opened != nil && c.s.Opened(c.ctx, c.nc, &c.e) {
		return nil
	}
	for !c.over {
		if c.raw != nil {
			if c.ride(); c.over {
				break
			}
		}
		c.one()
	}
	if c.lingers {
		c.linger()
	}
	if c.prior {
		c.nc.SetDeadline(time.Time{})
		return c.s.Prior(c.ctx, c.before(), &c.e)
	}
	return c.why
}

func (c *conn) handshake(ctx context.Context, t secured) error {
	c.nc.SetDeadline(c.headBy)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.nc.SetDeadline(time.Time{})
	st := t.ConnectionState()
	c.e.TLS = &exchange.TLS{
		ServerName: st.ServerName, Version: st.Version, CipherSuite: st.CipherSuite, Protocol: st.NegotiatedProtocol,
		PeerCertificates: st.PeerCertificates, VerifiedChains: st.VerifiedChains,
	}
	c.now = time.Now()
	c.headBy = c.deadline(c.s.Timeouts.Head)
	return nil
}

func (c *conn) deadline(d time.Duration) time.Time {
	if d < 0 {
		return time.Time{}
	}
	return c.now.Add(d)
}

// one carries one request, and says so in over if it is the last.
func (c *conn) one() {
	c.take()
	if !c.ready {
		c.next()
	}
	if c.over {
		return
	}
	c.ready = false
	again, err := c.carry()
	c.over, c.why = !again || err != nil, err
}

// next reads the head of the next request. If there is none to be carried, that is the end of the connection.
func (c *conn) next() {
	c.phase = waiting
	if c.src.Buffered() > 0 {
		c.phase = inHead
		c.now = time.Now()
		if c.headBy.IsZero() {
			c.headBy = c.deadline(c.s.Timeouts.Head)
		}
	}
	e := &c.e
	head, err := c.src.Head(&c.s.Limits, true)
	if err == errOutside {
		return
	}
	e.Begin(c.ctx, c.now)
	e.Request.Scheme = c.scheme()
	e.Request.Proto = exchange.HTTP11
	if c.first && err == nil && c.s.Prior != nil && c.e.TLS == nil && string(head) == preface {
		c.over, c.prior = true, true
		return
	}
	if err != nil {
		c.over, c.why = true, c.headFailed(err)
		return
	}
	c.first = false
	cn, why := grammar.ParseRequest(head, &e.Request, &c.s.Limits)
	if why == nil {
		why = c.admit()
	}
	if why != nil {
		c.over, c.why = true, c.refuse(why)
		return
	}
	c.cn, c.ready = cn, true
}

// carry has the request answered whose head has been read.
func (c *conn) carry() (again bool, err error) {
	e := &c.e
	cn := c.cn
	c.begin(cn)
	if why := c.req.refused(); why != nil {
		return false, c.refuse(why)
	}
	if err := c.handle(); err != nil {
		c.e.Failure = err
		return false, join(err, c.hurry(grammar.ErrHandler))
	}
	if why := c.req.refused(); why != nil {
		return false, c.refuse(why)
	}
	closing := cn.Close || c.s.closing.Load() || e.Response.Close || c.req.blocks(c.s.Drain) || c.abandons()
	return c.finish(closing)
}

// finish sends the response and readies the connection for the next request.
func (c *conn) finish(closing bool) (again bool, err error) {
	e := &c.e
	if e.Response.Reset {
		return false, join(c.nobody(), e.Finish())
	}
	if e.Response.Status == 101 {
		return false, c.takeover()
	}
	kept, err := c.respond(closing)
	if err != nil && e.Failure == nil {
		e.Failure = err
	}
	if err = join(err, e.Finish()); err != nil {
		return false, err
	}
	if !kept || !c.req.drain(c.s.Drain) {
		c.linger()
		return false, nil
	}
	c.src.Release()
	c.headBy = time.Time{}
	return true, nil
}

// nobody ends the connection so that the client sees it refused.
func (c *conn) nobody() error {
	if l, ok := c.nc.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(0) // else it is closed in the usual way
	}
	return nil
}

// admit checks what the grammar alone cannot.
func (c *conn) admit() *grammar.Error {
	r := &c.e.Request
	switch r.Scheme {
	case "":
		r.Scheme = c.scheme()
	case c.scheme():
	default:
		return grammar.ErrScheme
	}
	return nil
}

func (c *conn) scheme() string {
	if c.e.TLS != nil {
		return "https"
	}
	return "http"
}

// begin sets up the request's body.
func (c *conn) begin(cn grammar.Connection) {
	r := &c.e.Request
	c.phase = inBody
	c.req.reset(c, r, cn.Continue)
	r.Continue = cn.Continue
	if r.Length == 0 {
		r.Body = exchange.NoBody
	} else {
		r.Body = &c.req
	}
}

func (c *conn) handle() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	c.s.Handler(&c.e)
	return nil
}

// headFailed ends a connection on which no whole head arrived.
func (c *conn) headFailed(err error) error {
	var why *grammar.Error
	switch {
	case errors.As(err, &why):
		c.begin(grammar.Connection{})
		return c.refuse(why)
	case err == io.EOF, errors.Is(err, errShutdown):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && c.phase == waiting:
		return nil // an idle connection has had its time
	}
	return err
}

// refuse answers a request that the engine itself turns away, and ends the connection.
func (c *conn) refuse(why *grammar.Error) error {
	e := &c.e
	e.Failure = why
	c.hurryReply(why)
	c.unread = true
	_, err := c.respond(true)
	err = join(join(why, err), e.Finish())
	c.linger()
	return err
}

// join is errors.Join for two, but leaves a lone error as it is.
func join(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return errors.Join(a, b)
}

// hurry answers with a bare status and ends the connection.
func (c *conn) hurry(why *grammar.Error) error {
	c.hurryReply(why)
	_, err := c.respond(true)
	err = join(err, c.e.Finish())
	c.linger()
	return err
}

var jsonType = []exchange.Field{{Name: "Content-Type", Value: "application/json"}}

func (c *conn) hurryReply(why *grammar.Error) {
	c.e.Reply(why.Status, jsonType, messages[why.Status])
	c.e.Response.Close = true
	if c.s.Refused != nil {
		c.s.Refused(&c.e, why)
	}
}

// messages are the bodies of the engine's own answers.
var messages = func() map[int][]byte {
	m := make(map[int][]byte)
	for _, code := range []int{400, 408, 413, 414, 417, 431, 500, 501, 502, 505} {
		m[code] = []byte(`{"message":"` + grammar.Reason(code) + `"}`)
	}
	m[413] = []byte(`{"message":"Request Too Long"}`)
	m[500] = []byte(`{"message":"Internal server error"}`)
	m[502] = m[500]
	return m
}()

// takeover hands the connection over after a 101.
func (c *conn) takeover() error {
	e := &c.e
	if e.Response.Takeover == nil || e.Request.Upgrade == "" {
		e.Failure = grammar.ErrUnsendable
		return join(grammar.ErrUnsendable, c.hurry(grammar.ErrUnsendable))
	}
	if _, err := c.respond(false); err != nil {
		return join(err, e.Finish())
	}
	c.nc.SetDeadline(time.Time{})
	e.Response.Takeover(&taken{c.nc, c})
	return e.Finish()
}

// linger ends a connection so that the client gets to read what was sent: closing with unread input would reset it.
func (c *conn) linger() {
	if !c.unread && c.req.Done() && c.src.Buffered() == 0 {
		return
	}
	if c.lingers = c.inside; c.inside {
		return // nothing is read in a step: serve sees to it
	}
	h, ok := c.w.(halfCloser)
	if !ok || c.s.Timeouts.Linger < 0 || h.CloseWrite() != nil {
		return
	}
	c.phase = lingering
	c.now = time.Now()
	c.headBy = c.deadline(c.s.Timeouts.Linger)
	c.req.aborted.Store(false)
	for left := 256 << 10; left > 0; {
		n, err := c.read(c.out[:cap(c.out)])
		if err != nil {
			return // whatever ended it, the response is out
		}
		left -= n
	}
}
