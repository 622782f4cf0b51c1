// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/selfhosted/setting"
)

// candidates lists where protocol v2 may be, in the order in which they are
// tried: as set, then the management host name that belongs to a configuration
// host name, at 443 and at 3443.
func candidates(e setting.Endpoint) []string {
	at := func(host string, port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	out := []string{at(e.Host, e.Port)}
	first, rest, ok := strings.Cut(e.Host, ".")
	kind, base, below := strings.Cut(rest, ".")
	if !ok || !below || kind != "configuration" && kind != "management" {
		return out // a name of one's own leads to one place
	}
	for _, w := range configuration.Ways(first, base)[1:] {
		if c := at(w.Host, w.Port); c != out[0] {
			out = append(out, c)
		}
	}
	return out
}

// round tries every candidate until one works, and carries its stream to the
// end. It reports whether one did, and why it ended or why none did.
func (l *Link) round(ctx context.Context) (worked bool, failure *Failure) {
	var before []string
	for _, c := range candidates(l.o.Endpoint) {
		s, f := l.open(ctx, c)
		if f == nil {
			why := "as set"
			if len(before) > 0 {
				why = strings.Join(before, "; ")
			}
			l.connected(setting.V2, c, why)
			return s.carry(ctx)
		}
		if ctx.Err() != nil {
			return false, f
		}
		before = append(before, f.Error())
		if f.settles() {
			return false, f
		}
		failure = failure.and(f)
	}
	return false, failure
}

// stream is one connection of protocol v2.
type stream struct {
	l       *Link
	address string
	body    io.ReadWriteCloser
	release func()
	out     chan *configuration.Frame
	// heard is when the last byte came, in nanoseconds since begin.
	begin time.Time
	heard atomic.Int64
	// changed asks for a heartbeat before its time.
	changed chan struct{}
}

// open asks a candidate for the stream.
func (l *Link) open(ctx context.Context, address string) (*stream, *Failure) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+configuration.Path, nil)
	if err != nil {
		return nil, &Failure{Kind: KindRequest, Address: address, Message: err.Error(), Err: err}
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", configuration.Upgrade)
	l.introduce(r)
	if have := l.o.Have(); have != nil {
		r.Header.Set(configuration.HeaderRevision, strconv.FormatInt(have.Revision, 10))
		r.Header.Set(configuration.HeaderHash, have.Hash())
	}
	res, release, err := l.do(r)
	if err != nil {
		return nil, unreached(address, err, l.o.Now())
	}
	l.clock(address, res)
	if res.StatusCode != http.StatusSwitchingProtocols {
		f := answered(address, res)
		_ = res.Body.Close() // it is not used again
		release()
		return nil, f
	}
	body, ok := res.Body.(io.ReadWriteCloser)
	if !ok || res.Header.Get("Upgrade") != configuration.Upgrade {
		_ = res.Body.Close()
		release()
		return nil, &Failure{Kind: KindRequest, Address: address, Message: "the answer switches to another protocol than " + configuration.Upgrade}
	}
	l.expiry(res.Header)
	return &stream{l: l, address: address, body: body, release: release, out: make(chan *configuration.Frame, 8), begin: time.Now(), changed: make(chan struct{}, 1)}, nil
}

// introduce says who asks.
func (l *Link) introduce(r *http.Request) {
	if !l.o.Token.IsZero() {
		r.Header.Set("Authorization", l.o.Token.Reveal())
	}
	r.Header.Set(configuration.HeaderInstance, l.o.Instance)
}

// silence is how long a stream may be without a byte: then nobody is there.
const silence = 3 * configuration.PingEvery

// Read notes that something came.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	if n > 0 {
		s.heard.Store(int64(time.Since(s.begin)))
	}
	return n, err
}

// carry reads and writes frames until the stream ends, and says why it did.
func (s *stream) carry(ctx context.Context) (worked bool, failure *Failure) {
	defer s.release()
	ctx, stop := context.WithCancelCause(ctx)
	closed := context.AfterFunc(ctx, func() { _ = s.body.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.write(ctx, stop)
	}()
	worked, failure = s.read(ctx, stop)
	stop(failure)
	<-done
	if closed() {
		_ = s.body.Close()
	}
	if f, ok := errors.AsType[*Failure](context.Cause(ctx)); ok {
		failure = f
	}
	return worked, failure
}

// read takes frames. The first error of either side is why the stream ended.
func (s *stream) read(ctx context.Context, stop context.CancelCauseFunc) (worked bool, failure *Failure) {
	for {
		f, err := configuration.ReadFrame(s, configuration.MaxFrame)
		if err != nil {
			failure = &Failure{Kind: KindEnded, Address: s.address, Err: err, Message: "the stream ended: " + cause(err)}
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				failure.Message = "the management plane closed the stream"
			}
			stop(failure)
			return worked, failure
		}
		switch f.Type {
		case configuration.TypeDocument, configuration.TypeDelta, configuration.TypeCurrent:
			ack := s.take(f)
			worked = worked || ack.Error == ""
			s.send(ctx, &configuration.Frame{Type: configuration.TypeAck, Ack: ack})
			select {
			case s.changed <- struct{}{}:
			default:
			}
		case configuration.TypePing:
			s.send(ctx, &configuration.Frame{Type: configuration.TypePong})
		case configuration.TypeStanding:
			s.l.standing(f.Standing)
		case configuration.TypeRefuse:
			failure = refused(s.address, f.Refuse)
			stop(failure)
			return worked, failure
		}
	}
}

// take serves what came, and says what is served then.
func (s *stream) take(f *configuration.Frame) *configuration.Ack {
	l := s.l
	have := l.o.Have()
	var next *configuration.Document
	var err error
	switch f.Type {
	case configuration.TypeDocument:
		next = f.Document
	case configuration.TypeDelta:
		if err = errors.New("there is nothing that the change could be made to"); have != nil {
			next, err = configuration.Apply(have, f.Delta)
		}
	case configuration.TypeCurrent:
		if have == nil || have.Hash() != f.Current.Hash {
			err = errors.New("what is here is not what the management plane takes it for")
		}
	}
	if err == nil && next != nil {
		err = l.o.Take(next)
	}
	if err == nil {
		l.confirmed()
	} else {
		l.note(unserved(s.address, err))
	}
	ack := &configuration.Ack{}
	if have = l.o.Have(); have != nil {
		ack.Revision, ack.Hash = have.Revision, have.Hash()
	}
	if err != nil {
		ack.Error = clip(err.Error())
	}
	return ack
}

// clip keeps a text within a frame.
func clip(s string) string {
	const longest = 2000
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "")
	}
	return s
}

// send queues a frame; a writer that does not come on is noticed there.
func (s *stream) send(ctx context.Context, f *configuration.Frame) {
	select {
	case s.out <- f:
	case <-ctx.Done():
	}
}

// write sends frames and heartbeats, and watches for silence.
func (s *stream) write(ctx context.Context, stop context.CancelCauseFunc) {
	beat := time.NewTimer(0)
	defer beat.Stop()
	watch := time.NewTicker(configuration.PingEvery / 2)
	defer watch.Stop()
	put := func(f *configuration.Frame) bool {
		stuck := time.AfterFunc(s.l.o.Timeout, func() {
			stop(&Failure{Kind: KindHalfOpen, Address: s.address, Message: fmt.Sprintf("what was sent was not taken within %s", s.l.o.Timeout)})
		})
		defer stuck.Stop()
		if err := configuration.WriteFrame(s.body, f); err != nil {
			stop(&Failure{Kind: KindEnded, Address: s.address, Err: err, Message: "the stream ended: " + cause(err)})
			return false
		}
		return true
	}
	sent := false
	for {
		ok := true
		select {
		case <-ctx.Done():
			return
		case f := <-s.out:
			ok = put(f)
		case <-s.changed:
			if sent { // the first heartbeat is on its way with the first change
				beat.Reset(0)
			}
		case <-beat.C:
			h := s.l.beat()
			ok = put(&configuration.Frame{Type: configuration.TypeHeartbeat, Heartbeat: &h})
			sent = true
			beat.Reset(configuration.HeartbeatEvery)
		case <-watch.C:
			if quiet := time.Since(s.begin) - time.Duration(s.heard.Load()); quiet > silence {
				stop(&Failure{Kind: KindHalfOpen, Address: s.address, Message: fmt.Sprintf("nothing came for %s: the connection is open on this side only", quiet.Round(time.Second))})
				return
			}
		}
		if !ok {
			return
		}
	}
}
