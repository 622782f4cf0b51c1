// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/user"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// by dials from a Gateway.
func (l *lab) by(gateway, network, address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return l.fabric.DialGateway(ctx, gateway, network, netip.MustParseAddrPort(address))
	}
}

// greet lets a host answer every connection on a port with who calls.
func (l *lab) greet(c *join.Client, port uint16) {
	l.t.Helper()
	ln, err := c.Listen(port)
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s\n", c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			_ = c.Close()
		}
	}()
	l.t.Cleanup(func() { _ = ln.Close(); <-done })
}

func TestGatewayDialsFromItsPlace(t *testing.T) {
	l := newLab(t)
	l.inject()
	l.greet(l.join("d", "app", "10.1.1.12"), 8080)
	l.greet(l.join("c", "far", "10.2.1.10"), 8080)
	site := l.join("site", "app", "192.168.9.7")
	l.greet(site, 8080)
	if _, err := say(to(site, l.endpoint()+":443"), wait); err != nil {
		t.Fatal(err) // shakes hands
	}
	outbound := l.snap.Gateways["out"].Outbound.Addr.String()
	for _, c := range []struct{ name, gateway, network, address, want string }{
		{"a Host of its Network", "in", "app", "10.1.1.12:8080", l.node("in")},
		{"a Host of a peer", "in", "app", "10.2.1.10:8080", l.node("in")},
		{"a machine behind a Link", "in", "app", "192.168.9.7:8080", l.node("in")},
		{"a Host, from outbound integration", "out", "far", "10.2.1.10:8080", outbound},
		{"a Host of a peer, from outbound integration", "out", "far", "10.1.1.12:8080", outbound},
		{"a Host, from internal mode", "deep", "far", "10.2.1.10:8080", l.node("deep")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := say(l.by(c.gateway, c.network, c.address), wait); err != nil || got != c.want+"\n" {
				t.Fatalf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestGatewayCallsGateways(t *testing.T) {
	l := newLab(t)
	l.inject()
	outbound := l.snap.Gateways["out"].Outbound.Addr.String()
	for _, c := range []struct {
		name, gateway, network, address, from string
		want                                  snapshot.Origin
	}{
		{"itself, at its node", "in", "app", l.node("in") + ":443", l.node("in"), snapshot.Origin{Network: "app", Gateway: "in", Node: "in"}},
		{"itself, at its public address", "in", "", l.public("in") + ":443", l.public("in"), snapshot.Origin{Gateway: "in"}},
		{"itself, at its public address, from a Network", "in", "app", l.public("in") + ":443", l.public("in"), snapshot.Origin{Gateway: "in"}},
		{"itself, without a Network", "main", "", l.public("main") + ":443", l.public("main"), snapshot.Origin{Gateway: "main"}},
		{"another's public address", "main", "", l.public("in") + ":443", l.public("main"), snapshot.Origin{Gateway: "main"}},
		{"another's from its node", "in", "", l.public("main") + ":443", l.public("in"), snapshot.Origin{Gateway: "in"}},
		{"an Endpoint in its Network", "in", "app", l.endpoint() + ":443", l.node("in"), snapshot.Origin{Network: "app", Gateway: "in", Endpoint: "ep"}},
		{"an Endpoint of a peer", "deep", "far", l.endpoint() + ":443", l.node("deep"), snapshot.Origin{Network: "far", Gateway: "deep", Endpoint: "ep"}},
		{"a node in a peer", "in", "app", l.node("deep") + ":443", l.node("in"), snapshot.Origin{Network: "app", Gateway: "in", Node: "deep"}},
		{"a node in its Network, from outbound integration", "out", "far", l.node("deep") + ":443", outbound, snapshot.Origin{Network: "far", Gateway: "out", Node: "deep"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := say(l.by(c.gateway, c.network, c.address), wait); err != nil {
				t.Fatal(err)
			}
			got := l.last()
			if got.Local.String() != c.address || got.Source.Addr().String() != c.from {
				t.Errorf("from %s to %s, want from %s to %s", got.Source, got.Local, c.from, c.address)
			}
			got.Source, got.Local = netip.AddrPort{}, netip.AddrPort{}
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestGatewayDialThatIsNotDeliveredFailsAtOnce(t *testing.T) {
	l := newLab(t)
	l.inject()
	l.join("d", "app", "10.1.1.12")
	for _, c := range []struct{ name, gateway, network, address, code string }{
		{"a Host's group", "in", "app", "10.1.1.11:8081", "sg/no-inbound-rule"},
		{"a closed port of an Endpoint", "in", "app", l.endpoint() + ":80", flow.ListenRefused},
		{"nobody has the address", "in", "app", "10.1.1.99:80", flow.RouteNone},
		{"a Link that is down", "in", "app", "192.168.9.7:80", flow.RouteLinkDown},
		{"a public port that is not published", "main", "", l.public("in") + ":444", flow.ListenRefused},
		{"internal mode to the internet", "deep", "", l.public("in") + ":443", flow.RouteNone},
		{"outbound integration to the internet", "out", "far", l.public("in") + ":443", flow.RouteNone},
		{"the server itself", "main", "", "127.0.0.1:80", flow.RouteNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			_, err := say(l.by(c.gateway, c.network, c.address), wait)
			var u *flow.Undelivered
			if !errors.As(err, &u) || u.Verdict.Code != c.code {
				t.Fatalf("%v, want %s", err, c.code)
			}
			if d := time.Since(began); d > wait/2 {
				t.Fatalf("it took %v", d)
			}
		})
	}
	t.Run("a closed port of a Host", func(t *testing.T) {
		if _, err := say(l.by("in", "app", "10.1.1.12:81"), wait); join.Symptom(err) != "refused" {
			t.Fatalf("%v, want a refusal by the Host", err)
		}
	})
	for name, at := range map[string][2]string{
		"a Network it is not in": {"in", "far"}, "a Network that is not there": {"in", "nowhere"}, "a Gateway that is not there": {"nobody", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := say(l.by(at[0], at[1], "10.1.1.12:80"), wait); !errors.Is(err, user.ErrNoAddress) {
				t.Fatalf("%v, want %v", err, user.ErrNoAddress)
			}
		})
	}
}

func TestGatewayDialWakesALinkThatTheHubCanCall(t *testing.T) {
	l := newLab(t)
	l.inject()
	site := l.raw(l.keys["site"], "app")
	l.objects["Link/site"].(*model.Link).Spec.Endpoint = fmt.Sprintf("127.0.0.1:%d", site.device.Addr().Port())
	l.apply()
	failed := make(chan error, 1)
	go func() {
		_, err := say(l.by("in", "app", "192.168.9.7:80"), wait)
		failed <- err
	}()
	p := site.next(wait)
	if p == nil {
		t.Fatal("the site was not called")
	}
	i, err := packet.Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	site.out <- packet.AppendReset(nil, p, &i)
	if err := <-failed; join.Symptom(err) != "refused" {
		t.Fatalf("%v, want the site's refusal", err)
	}
	// A site that does not answer is a Link that is down, as far as anybody knows.
	l.objects["Link/site"].(*model.Link).Spec.Endpoint = "127.0.0.1:9"
	l.keys["site"] = mustKey(t)
	l.objects["Link/site"].(*model.Link).Spec.PublicKey = public(t, l.keys["site"])
	l.apply()
	_, err = say(l.by("in", "app", "192.168.9.7:80"), silence)
	var u *flow.Undelivered
	if !errors.As(err, &u) || u.Verdict.Code != flow.RouteLinkDown || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want %s after the time-out", err, flow.RouteLinkDown)
	}
}

func TestGatewayFlowEndsWithItsInterface(t *testing.T) {
	for _, c := range []struct {
		name             string
		gateway, network string
		at               func(*lab) string
		change           func(*lab)
		lives            bool
	}{
		{"nothing changed", "in", "app", func(l *lab) string { return l.endpoint() }, func(*lab) {}, true},
		{"the Gateway is gone", "in", "app", func(l *lab) string { return l.endpoint() }, func(l *lab) { delete(l.objects, "Gateway/in") }, false},
		{"the Gateway is another", "in", "app", func(l *lab) string { return l.endpoint() }, func(l *lab) {
			l.edit = func(s *snapshot.Snapshot) { s.Gateways["in"].ID += "0" }
		}, false},
		{"the Gateway called is gone", "in", "app", func(l *lab) string { return l.node("deep") }, func(l *lab) { delete(l.objects, "Gateway/deep") }, false},
		{"over the segment, nothing changed", "out", "", func(l *lab) string { return l.public("in") }, func(*lab) {}, true},
		{"over the segment, the caller is gone", "out", "", func(l *lab) string { return l.public("in") }, func(l *lab) {
			delete(l.objects, "Gateway/out")
			delete(l.objects, "Subnet/out")
		}, false},
		{"over the segment, from a node", "in", "", func(l *lab) string { return l.public("main") }, func(*lab) {}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			l.inject()
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			conn, err := l.by(c.gateway, c.network, c.at(l)+":443")(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c.change(l)
			l.apply()
			limit := wait
			if !c.lives {
				limit = silence
			}
			if got, err := speak(conn, limit); (err == nil) != c.lives {
				t.Fatalf("%q, %v; lives on should be %v", got, err, c.lives)
			}
		})
	}
}

func TestGreedyGatewayDoesNotStarveOthers(t *testing.T) {
	l := newLab(t, func(o *user.Options) { o.MaxFlows = 64 })
	l.inject()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for range 16 {
		c, err := l.by("in", "app", l.endpoint()+":443")(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := say(l.by("in", "app", l.endpoint()+":443"), silence); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the Gateway has used its share up and opened one more flow: %v", err)
	}
	if _, err := say(to(l.join("site", "app", "192.168.9.7"), l.endpoint()+":443"), wait); err != nil {
		t.Fatalf("the site: %v", err)
	}
}

func TestGatewayMovesBulk(t *testing.T) {
	l := newLab(t)
	l.inject()
	d := l.join("d", "app", "10.1.1.12")
	ln, err := d.Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const size = 4 << 20
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write(make([]byte, size))
		_ = c.Close()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	c, err := l.by("in", "app", "10.1.1.12:8080")(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
}
