// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/internal/limited"
	"postern.dev/postern/snapshot"
)

// flaky is a listener that plays what a test gives it, then is closed.
type flaky struct {
	plays []func() (net.Conn, error)
}

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.plays) == 0 {
		return nil, net.ErrClosed
	}
	play := f.plays[0]
	f.plays = f.plays[1:]
	return play()
}

func (f *flaky) Close() error   { return nil }
func (f *flaky) Addr() net.Addr { return &net.TCPAddr{} }

func testPublic(t *testing.T) *public {
	t.Helper()
	i := &Instance{gateway: gateway.New(gateway.Options{}), opts: Options{
		Log: slog.New(slog.DiscardHandler), Public: netip.MustParseAddr("192.0.2.1"),
	}}
	p := newPublic(i)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// pipe is a connection as its two ends.
func pipe(t *testing.T) (here, there net.Conn) {
	t.Helper()
	here, there = net.Pipe()
	if err := here.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return here, there
}

// handled tells whether who dialled sees an end.
func handled(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("read: %v, want the end", err)
	}
}

func TestPublishedPortOutlivesAFailedAccept(t *testing.T) {
	p := testPublic(t)
	here, there := pipe(t)
	p.serve(&flaky{plays: []func() (net.Conn, error){
		func() (net.Conn, error) { return nil, syscall.EMFILE },
		func() (net.Conn, error) { return there, nil },
	}}, 443)
	handled(t, here)
}

func TestPublishedPortRefusesBeyondItsBound(t *testing.T) {
	p := testPublic(t)
	p.open = limited.NewParties[netip.Addr](0)
	here, there := pipe(t)
	p.serve(&flaky{plays: []func() (net.Conn, error){func() (net.Conn, error) { return there, nil }}}, 443)
	handled(t, here)
}

func TestOpenedSocketsAreLogged(t *testing.T) {
	p := testPublic(t)
	var told bytes.Buffer
	p.i.opts.Log = slog.New(slog.NewTextHandler(&told, nil))
	p.i.opts.Public = netip.MustParseAddr("127.0.0.1")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().(*net.TCPAddr).AddrPort()
	p.i.opts.PublicPorts = map[uint16]uint16{443: at.Port()}
	g := &snapshot.Gateway{PublicPorts: map[uint16]snapshot.Components{443: {snapshot.ComponentPortal, snapshot.ComponentGateway}}}
	s := &snapshot.Snapshot{Gateways: map[string]*snapshot.Gateway{"main": g}}
	says := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(told.String(), w) {
				t.Errorf("%q does not tell %q", told.String(), w)
			}
		}
		told.Reset()
	}
	p.apply(s)
	says("level=ERROR", "a published port is not served", "port=443")
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	p.retry()
	says("level=INFO", "a published port is served", "address="+at.String(), "port=443", `for="gateway, portal"`)
	p.apply(&snapshot.Snapshot{})
	says("level=INFO", "no longer served", "address="+at.String())
}

func TestAGatewayTellsThatItsUDPPortIsTaken(t *testing.T) {
	p := testPublic(t)
	p.i.opts.Public = netip.MustParseAddr("127.0.0.1")
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p.i.opts.PublicPorts = map[uint16]uint16{443: taken.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	open := &snapshot.Gateway{PublicPorts: map[uint16]snapshot.Components{443: {snapshot.ComponentGateway}}}
	inside := &snapshot.Gateway{PublicPorts: map[uint16]snapshot.Components{443: {snapshot.ComponentManagement}}}
	p.apply(&snapshot.Snapshot{Gateways: map[string]*snapshot.Gateway{"open": open, "inside": inside}})
	if err := p.failure(open); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "HTTP/3 is not served") {
		t.Error(err)
	}
	if err := p.failure(inside); err != nil && strings.Contains(err.Error(), "HTTP/3") {
		t.Errorf("a Gateway that does not speak HTTP/3: %v", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	p.retry()
	if err := p.failure(open); err != nil && strings.Contains(err.Error(), "HTTP/3") {
		t.Errorf("the port is free again: %v", err)
	}
}

func TestAPublishedPortIsLeftToTheManagementAPI(t *testing.T) {
	for _, c := range []struct {
		management, public string
		port               uint16 // that is published; 3443 if 0
		moved              uint16 // it is, if not 0
		want               bool
	}{
		{management: "192.0.2.1:3443", public: "192.0.2.1", want: true},
		{management: "0.0.0.0:3443", public: "192.0.2.1", want: true},
		{management: "127.0.0.1:3443", public: "0.0.0.0", want: true},
		{management: "127.0.0.1:3443", public: "192.0.2.1"},
		{management: "192.0.2.1:8443", public: "192.0.2.1"},
		{management: "192.0.2.1:8443", public: "192.0.2.1", moved: 8443, want: true},
		{management: "192.0.2.1:3443", public: "192.0.2.1", port: 443, moved: 3443},
		{management: "192.0.2.1:3443", public: "192.0.2.1", port: 444, moved: 3443},
	} {
		if c.port == 0 {
			c.port = 3443
		}
		g := &snapshot.Gateway{
			PublicPorts: map[uint16]snapshot.Components{
				443: {snapshot.ComponentGateway, snapshot.ComponentManagement}, 444: {snapshot.ComponentManagement}, 3443: {snapshot.ComponentManagement},
			},
			ConfigurationPorts: map[uint16]snapshot.Components{444: {snapshot.ComponentConfiguration}},
		}
		p := testPublic(t)
		p.i.opts.Public = netip.MustParseAddr(c.public)
		if c.moved != 0 {
			p.i.opts.PublicPorts = map[uint16]uint16{c.port: c.moved}
		}
		p.i.listener = at{netip.MustParseAddrPort(c.management)}
		if got := p.leave(g, c.port); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// at is a listener with an address and nothing else.
type at struct{ addr netip.AddrPort }

func (at) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (at) Close() error              { return nil }
func (a at) Addr() net.Addr          { return net.TCPAddrFromAddrPort(a.addr) }
