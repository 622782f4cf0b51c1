// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package instance

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/client"
	"postern.dev/postern/model"
)

// takenPort holds a UDP port until free is called.
func takenPort(t *testing.T) (port int, free func()) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	free = func() {
		if !closed {
			closed = true
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(free)
	return c.LocalAddr().(*net.UDPAddr).Port, free
}

func TestWhatTheEnginesCannotBringUpIsACondition(t *testing.T) {
	udp, freeUDP := takenPort(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() }) // closed below, if all goes well
	tcp2, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp2.Close() })                                              // closed below, if all goes well
	port := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) } //nolint:gosec // a port
	i, err := Start(t.Context(), Options{
		Data: t.TempDir(), Management: "127.0.0.1:0",
		WireGuard: netip.MustParseAddr("127.0.0.1"), Low: udp, High: udp,
		Public:      netip.MustParseAddr("127.0.0.1"),
		PublicPorts: map[uint16]uint16{443: port(tcp), 3443: port(tcp2)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	set := i.Settings()
	c, err := client.New(client.Options{Address: set.Address, CA: set.CA, Token: set.Token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	done, err := c.Apply(t.Context(), []model.Object{
		&model.Network{Head: model.Head{Metadata: model.Metadata{Name: "corp"}}, Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}}},
		&model.Gateway{Head: model.Head{Metadata: model.Metadata{Name: "main"}}, Spec: model.GatewaySpec{Region: "eu-1"}},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range done.Results {
		if r.NotReady == nil {
			t.Errorf("%s was applied as if it were up", r.Ref)
		}
	}
	corp, main := model.Ref{Kind: model.KindNetwork, Name: "corp"}, model.Ref{Kind: model.KindGateway, Name: "main"}
	ready := func(ref model.Ref) (bool, string) {
		t.Helper()
		r, err := c.Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range r.Status.Conditions {
			if x.Type == "Ready" {
				return x.Status, x.Reason + ": " + x.Message
			}
		}
		t.Fatalf("%s says nothing of being ready", ref)
		return false, ""
	}
	for ref, words := range map[model.Ref]string{corp: "WireGuard hub of Network/corp", main: "published port 443 is not served"} {
		ok, why := ready(ref)
		if ok || !strings.HasPrefix(why, "PortTaken: "+words) || !strings.Contains(why, "address already in use") {
			t.Errorf("%s: ready %v, %q", ref, ok, why)
		}
	}

	if _, why := ready(main); !strings.Contains(why, "move it with --public-ports; published port 3443 is not served") {
		t.Errorf("two ports are told of as %q", why)
	}

	freeUDP()
	if err := errors.Join(tcp.Close(), tcp2.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	tick, ended := make(chan time.Time), make(chan struct{})
	go func() { defer close(ended); i.retry(ctx, tick) }()
	tick <- time.Now()
	tick <- time.Now() // taken only once the first is done with
	cancel()
	<-ended
	for _, ref := range []model.Ref{corp, main} {
		if ok, why := ready(ref); !ok {
			t.Errorf("%s: %s", ref, why)
		}
	}
}
