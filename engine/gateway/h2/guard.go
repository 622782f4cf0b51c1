// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"postern.dev/postern/engine/gateway/h1/grammar"
	"postern.dev/postern/engine/gateway/stream"
)

// The bounds of what a client may send beside requests.
const (
	maxBlock         = 64 << 10 // bytes of a header block as sent
	maxContinuations = 16       // frames of a header block
	maxSettings      = 100
	frameHead        = 9
	settingLen       = 6
	tableSize        = 4096 // of HPACK, as the server announces it
)

// Why the guard ends a connection.
var (
	ErrFlood        = errors.New("h2: frames that cost the client nothing come too fast")
	ErrResets       = errors.New("h2: requests are given up too fast")
	ErrHeaderBlock  = errors.New("h2: a header block is too large, or in too many frames")
	ErrFrameTimeout = errors.New("h2: a frame or header block did not arrive in time")
)

// stater is a connection with TLS whose handshake is over.
type stater interface {
	ConnectionState() tls.ConnectionState
}

// guard is the connection as the server reads it. It hands on what it read, frame by frame. A header block is read as a
// whole first; if the request is malformed in a way that the server would answer rather than reset the stream for (RFC
// 9113 8.1.1), the guard makes it depend on itself, for which the server resets it.
type guard struct {
	net.Conn
	s *Server

	in       []byte // of the connection, not looked at
	out      []byte // looked at, not yet handed on
	buf      []byte // in is a part of it
	block    []byte // a header block that is being gathered, with its first frame's head
	pass     int    // bytes of a payload that are handed on unseen
	preface  int    // bytes of it still to come
	head     [frameHead]byte
	frags    int
	openID   uint32 // of the stream whose block is gathered
	bad      bool   // the block has a field that makes its request malformed
	deadline bool   // one is set

	hpack *hpack.Decoder

	free    stream.Bucket // frames that cost nothing
	resets  stream.Bucket
	earned  atomic.Int64 // by what was sent to the client
	reason  atomic.Pointer[error]
	pending error
}

const bufSize = 8 << 10

func newGuard(nc net.Conn, s *Server) *guard {
	g := &guard{Conn: nc, s: s, preface: len(http2.ClientPreface)}
	g.free, g.resets = stream.NewBucket(freeBurst, freeRate), stream.GivenUp()
	g.hpack = hpack.NewDecoder(tableSize, g.field)
	return g
}

// err is why the guard has ended the connection, nil if it has not.
func (g *guard) err() error {
	if p := g.reason.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends the connection with a code.
func (g *guard) fail(why error, code http2.ErrCode) {
	g.reason.CompareAndSwap(nil, &why)
	g.pending = http2.ConnectionError(code)
}

// Write counts what is sent: a client that reads much may acknowledge much.
func (g *guard) Write(p []byte) (int, error) {
	n, err := g.Conn.Write(p)
	g.earn(n)
	return n, err
}

// Read reads what has been looked at.
func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(g.out) > 0:
			n := copy(p, g.out)
			g.out = g.out[n:]
			return n, nil
		case g.pending != nil:
			return 0, g.pending
		case g.pass > 0 && len(g.in) > 0:
			n := copy(p[:min(len(p), g.pass)], g.in)
			g.in = g.in[n:]
			g.pass -= n
			return n, nil
		}
		if len(g.in) > 0 && g.frame() {
			continue
		}
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
}

// fill reads from the connection. Once a frame or header block has begun it has to arrive in time. Whoever waits for a
// payload sees to that: the reader of a body, or the idle time-out.
func (g *guard) fill() error {
	if g.s.closing.Load() && g.preface > 0 {
		return io.EOF // it came while the server was being shut down
	}
	if g.buf == nil {
		g.buf = make([]byte, bufSize)
	}
	n := copy(g.buf, g.in)
	partial := n > 0 || g.block != nil || g.preface > 0
	if partial != g.deadline {
		var by time.Time
		if d := g.s.Timeouts.Head; partial && d >= 0 {
			by = time.Now().Add(d)
		}
		if err := g.Conn.SetReadDeadline(by); err != nil {
			return err
		}
		g.deadline = partial
	}
	m, err := g.Conn.Read(g.buf[n:])
	g.in = g.buf[:n+m]
	if m > 0 {
		return nil
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		g.fail(ErrFrameTimeout, http2.ErrCodeNo)
		return io.EOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// frame looks at what is at hand, and reports whether it got further.
func (g *guard) frame() bool {
	if g.preface > 0 {
		n := min(g.preface, len(g.in))
		g.out, g.in = g.in[:n], g.in[n:]
		g.preface -= n
		return true
	}
	if len(g.in) < frameHead {
		return false
	}
	length := int(g.in[0])<<16 | int(g.in[1])<<8 | int(g.in[2])
	kind, flags := http2.FrameType(g.in[3]), http2.Flags(g.in[4])
	id := binary.BigEndian.Uint32(g.in[5:]) & (1<<31 - 1)
	if g.openID != 0 && (kind != http2.FrameContinuation || id != g.openID) {
		// The server knows what that is. It need not know the block.
		g.block, g.openID = nil, 0
		g.fail(ErrHeaderBlock, http2.ErrCodeProtocol)
		return true
	}
	switch {
	case length > maxFrame: // the server refuses it by its head
	case kind == http2.FrameHeaders && id != 0, kind == http2.FrameContinuation && g.openID != 0:
		if len(g.in) < frameHead+length {
			return g.wide(frameHead + length)
		}
		g.gather(kind, flags, id, g.in[frameHead:frameHead+length])
		g.in = g.in[frameHead+length:]
		return true
	case kind == http2.FrameSettings && !flags.Has(http2.FlagSettingsAck) && length > settingLen && length%settingLen == 0 && length <= maxSettings*settingLen:
		if len(g.in) < frameHead+length {
			return false
		}
		if !g.affords(kind, length) {
			return true
		}
		g.out, g.in = unique(g.in[:frameHead+length:frameHead+length]), g.in[frameHead+length:]
		return true
	default:
		if !g.affords(kind, length) {
			return true
		}
	}
	copy(g.head[:], g.in)
	g.out, g.in, g.pass = g.head[:], g.in[frameHead:], length
	return true
}

// unique is a SETTINGS frame without the values that later ones in the same frame take the place of, for which the server
// would hang up. A value that is not allowed stays: the server refuses it.
func unique(f []byte) []byte {
	type setting struct {
		at int
		ok bool
	}
	last := map[uint16]setting{}
	for at := frameHead; at < len(f); at += settingLen {
		id := binary.BigEndian.Uint16(f[at:])
		if was, ok := last[id]; ok && !was.ok {
			continue
		}
		s := http2.Setting{ID: http2.SettingID(id), Val: binary.BigEndian.Uint32(f[at+2:])}
		last[id] = setting{at, s.Valid() == nil}
	}
	n := frameHead
	for at := frameHead; at < len(f); at += settingLen {
		if last[binary.BigEndian.Uint16(f[at:])].at == at {
			n += copy(f[n:], f[at:at+settingLen])
		}
	}
	binary.BigEndian.PutUint16(f[1:], uint16(n-frameHead))
	return f[:n]
}

// wide makes room for a frame of n bytes.
func (g *guard) wide(n int) bool {
	if n > len(g.buf) {
		buf := make([]byte, n)
		g.in = buf[:copy(buf, g.in)]
		g.buf = buf
	}
	return false
}

// gather adds a frame to the header block. When that is complete it is handed on.
func (g *guard) gather(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	if kind == http2.FrameHeaders {
		if !g.affords(kind, len(payload)) {
			return
		}
		g.openID, g.frags = id, 0
		g.block = append(g.block[:0:0], make([]byte, 0, len(payload)+2*frameHead)...)
	}
	g.frags++
	at := len(g.block)
	if at+frameHead+len(payload) > maxBlock || g.frags > maxContinuations+1 {
		g.block, g.openID = nil, 0
		g.fail(ErrHeaderBlock, http2.ErrCodeEnhanceYourCalm)
		return
	}
	g.block = append(g.block, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), byte(kind), byte(flags), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(g.block[at+5:], id)
	g.block = append(g.block, payload...)
	if !flags.Has(http2.FlagHeadersEndHeaders) { // the same bit in both
		return
	}
	g.judge()
	g.out, g.block, g.openID = g.block, nil, 0
}

// judge reads the fields of a complete block.
func (g *guard) judge() {
	g.bad = false
	g.hpack.SetMaxStringLength(maxBlock)
	for b := g.block; len(b) > 0; {
		length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		frag, ok := fragment(http2.FrameType(b[3]), http2.Flags(b[4]), b[frameHead:frameHead+length])
		if !ok {
			return // the server finds the same
		}
		if _, err := g.hpack.Write(frag); err != nil {
			return // and this
		}
		b = b[frameHead+length:]
	}
	if g.hpack.Close() != nil {
		return
	}
	if g.bad {
		g.turn()
	}
}

// fragment takes padding and priority off the payload of a frame.
func fragment(kind http2.FrameType, flags http2.Flags, p []byte) ([]byte, bool) {
	if kind != http2.FrameHeaders {
		return p, true
	}
	pad := 0
	if flags.Has(http2.FlagHeadersPadded) {
		if len(p) == 0 {
			return nil, false
		}
		pad, p = int(p[0]), p[1:]
	}
	if flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return nil, false
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil, false
	}
	return p[:len(p)-pad], true
}

// field looks at one field.
func (g *guard) field(f hpack.HeaderField) {
	g.bad = g.bad || grammar.ConnectionField(f.Name, f.Value)
}

// turn makes the block one for which the server resets the stream: of a stream that depends on itself. The fields stay,
// for both sides remember them.
func (g *guard) turn() {
	b := g.block
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	flags := http2.Flags(b[4])
	p := b[frameHead : frameHead+length]
	frag, _ := fragment(http2.FrameHeaders, flags, p)
	flags = flags&^http2.FlagHeadersPadded | http2.FlagHeadersPriority
	out := make([]byte, 0, len(b)+5+frameHead)
	head := frag[:min(len(frag), maxFrame-5)]
	rest := frag[len(head):]
	last := flags.Has(http2.FlagHeadersEndHeaders)
	if len(rest) > 0 {
		flags &^= http2.FlagHeadersEndHeaders
	}
	n := len(head) + 5
	out = append(out, byte(n>>16), byte(n>>8), byte(n), byte(http2.FrameHeaders), byte(flags))
	out = append(out, b[5:9]...) // the stream
	out = append(out, b[5:9]...) // what it depends on
	out = append(out, 0)
	out = append(out, head...)
	if len(rest) > 0 {
		end := http2.Flags(0)
		if last {
			end = http2.FlagContinuationEndHeaders
		}
		out = append(out, 0, 0, byte(len(rest)), byte(http2.FrameContinuation), byte(end))
		out = append(out, b[5:9]...)
		out = append(out, rest...)
	}
	g.block = append(out, b[frameHead+length:]...)
}
