// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is an attacker that writes HTTP/2 frame by frame.
type frames struct {
	t *testing.T
	c net.Conn
	f *http2.Framer
	h *hpack.Encoder
	b bytes.Buffer
}

// setting0 asks that nothing be sent of a body.
var setting0 = http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}

// frames connects.
func (s *siege) frames() *frames {
	s.t.Helper()
	c, err := secured(context.WithoutCancel(s.t.Context()), s.g.secure, &tls.Config{RootCAs: s.g.roots, ServerName: host, NextProtos: []string{"h2"}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.keep(c)
	f := &frames{t: s.t, c: c, f: http2.NewFramer(c, nil)}
	f.h = hpack.NewEncoder(&f.b)
	s.send(c, http2.ClientPreface)
	return f
}

func (f *frames) settings(x ...http2.Setting) {
	f.t.Helper()
	if err := f.f.WriteSettings(x...); err != nil {
		f.t.Fatal(err)
	}
}

// request opens a stream.
func (f *frames) request(stream uint32, path string, ends bool) {
	f.t.Helper()
	if err := f.headers(stream, path, ends); err != nil {
		f.t.Fatal(err)
	}
}

func (f *frames) headers(stream uint32, path string, ends bool) error {
	f.b.Reset()
	for _, x := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", host}, {":path", path}} {
		if err := f.h.WriteField(hpack.HeaderField{Name: x[0], Value: x[1]}); err != nil {
			return err
		}
	}
	return f.f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.b.Bytes(), EndHeaders: true, EndStream: ends})
}

// TestFloodsOfFramesEndTheirConnection: what each of them is cut off with stands
// in engine/gateway/h2; here others are served meanwhile.
func TestFloodsOfFramesEndTheirConnection(t *testing.T) {
	s := besiege(t, nil)
	for name, flood := range map[string]func(f *frames, i int) error{
		"resets": func(f *frames, i int) error {
			if err := f.headers(uint32(2*i+1), "/turns/echo", false); err != nil {
				return err
			}
			return f.f.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		},
		"settings": func(f *frames, _ int) error { return f.f.WriteSettings() },
		"pings":    func(f *frames, _ int) error { return f.f.WritePing(false, [8]byte{}) },
		"continuations": func(f *frames, i int) error {
			if i == 0 {
				return f.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			}
			return f.f.WriteContinuation(1, false, []byte{0x00, 0x01, 'a', 0x01, 'b'})
		},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 5
			for range n {
				f := s.frames()
				f.settings()
				s.wait.Go(func() { _, _ = io.Copy(io.Discard, f.c) }) // answers are read, until the connection ends
				s.wait.Go(func() {
					// Far more than what may be sent at once and comes back meanwhile.
					for i := range 1 << 20 {
						if flood(f, i) != nil {
							return
						}
					}
					t.Error(errFlood)
				})
			}
			s.t = t
			s.holds(each(n, 2<<20, 300, 3), garbage)
			s.wait.Wait() // the gateway ends it, not we
			s.ends()
		})
	}
}
