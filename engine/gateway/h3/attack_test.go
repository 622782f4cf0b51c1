// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package h3_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"postern.dev/postern/engine/gateway/exchange"
)

// raw is a connection whose streams the test fills by itself.
func (l *lab) raw() *quic.Conn {
	l.t.Helper()
	q, err := quic.DialAddr(l.t.Context(), l.addr.String(), &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", NextProtos: []string{"h3"}}, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = q.CloseWithError(0, "") }) // the server may have closed it
	return q
}

// request is GET https://a.example/ as HEADERS: each field but the last is one of QPACK's static table.
var request = append([]byte{0x01, 16, 0, 0, 0xd1, 0xd7, 0xc1, 0x50, 9}, "a.example"...)

func TestStreamsThatComeToNothingAreBounded(t *testing.T) {
	// What a stream itself says is of no interest: the server may have given it up as well.
	bidi := func(f func(*quic.Stream)) func(context.Context, *quic.Conn) error {
		return func(ctx context.Context, q *quic.Conn) error {
			s, err := q.OpenStreamSync(ctx)
			if err == nil {
				f(s)
			}
			return err
		}
	}
	uni := func(f func(*quic.SendStream)) func(context.Context, *quic.Conn) error {
		return func(ctx context.Context, q *quic.Conn) error {
			s, err := q.OpenUniStreamSync(ctx)
			if err == nil {
				f(s)
			}
			return err
		}
	}
	for name, one := range map[string]func(context.Context, *quic.Conn) error{
		"given up before the request": bidi(func(s *quic.Stream) {
			_, _ = s.Write(request[:3])
			s.CancelWrite(0x10c)
			s.CancelRead(0x10c)
		}),
		"given up behind the request": bidi(func(s *quic.Stream) {
			_, _ = s.Write(request)
			s.CancelRead(0x10c)
			_ = s.Close()
		}),
		"cut short behind the request": bidi(func(s *quic.Stream) {
			_, _ = s.Write(request)
			s.CancelWrite(0x10c)
			s.CancelRead(0x10c)
		}),
		"nothing but an end":    bidi(func(s *quic.Stream) { _ = s.Close() }),
		"one way, of no kind":   uni(func(s *quic.SendStream) { _ = s.Close() }),
		"one way, given up":     uni(func(s *quic.SendStream) { s.CancelWrite(0) }),
		"one way, unknown kind": uni(func(s *quic.SendStream) { _, _ = s.Write([]byte{0x21}); _ = s.Close() }),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, ok)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			q := l.raw()
			var err error
			n := 0
			for ; err == nil && n < 50_000; n++ {
				err = one(ctx, q)
			}
			select {
			case <-q.Context().Done():
			case <-ctx.Done():
			}
			if why, ok := errors.AsType[*quic.ApplicationError](context.Cause(q.Context())); !ok || !why.Remote || why.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad) {
				t.Errorf("after %d streams: %v, %v", n, err, context.Cause(q.Context()))
			}
			l.serves()
		})
	}
}

func TestRequestsThatAreGivenUpCountAsLongAsTheyAreWorkedOn(t *testing.T) {
	var active, most atomic.Int64
	l := newLab(t, func(e *exchange.Exchange) {
		if !e.Request.Header.Has("Hold") {
			ok(e)
			return
		}
		for n := active.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-e.Context().Done()
		active.Add(-1)
	})
	// The same request with hold: 1.
	held := append([]byte{0x01, 23, 0, 0, 0xd1, 0xd7, 0xc1, 0x50, 9}, "a.example\x24hold\x011"...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	q := l.raw()
	var err error
	for err == nil {
		var s *quic.Stream
		if s, err = q.OpenStreamSync(ctx); err != nil {
			break
		}
		_, _ = s.Write(held) // the connection tells how it went
		s.CancelRead(0x10c)
		_ = s.Close() // as before
	}
	select {
	case <-q.Context().Done():
	case <-ctx.Done():
	}
	if n := most.Load(); n < 1 || n > 100 {
		t.Errorf("%d at a time", n)
	}
	if why := context.Cause(q.Context()); why == nil {
		t.Error("the connection goes on")
	}
	l.serves()
}

func TestARequestThatIsGivenUpNowAndThenCostsNobodyTheConnection(t *testing.T) {
	l := newLab(t, ok)
	q := l.raw()
	for i := range 1500 {
		s, err := q.OpenStreamSync(t.Context())
		if err != nil {
			t.Fatal(i, err)
		}
		if _, err := s.Write(request); err != nil {
			t.Fatal(i, err)
		}
		if i%5 == 0 {
			s.CancelRead(0x10c)
		}
		if err := s.Close(); err != nil {
			t.Fatal(i, err)
		}
		if i%5 != 0 {
			if b, err := io.ReadAll(s); err != nil || len(b) == 0 {
				t.Fatal(i, len(b), err)
			}
		}
	}
}
