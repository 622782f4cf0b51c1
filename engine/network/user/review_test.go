// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/engine/network/packet"
	"postern.dev/postern/engine/network/user"
	"postern.dev/postern/engine/network/wg"
	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// raw is a peer that sends and receives packets as they are.
type raw struct {
	t        testing.TB
	device   *wg.Device
	out, in  chan []byte
	closing  chan struct{}
	isClosed bool
}

// raw opens a tunnel with a key.
func (l *lab) raw(key wgkey.Private, network string) *raw {
	l.t.Helper()
	r := &raw{t: l.t, out: make(chan []byte, 256), in: make(chan []byte, 256), closing: make(chan struct{})}
	d, err := wg.New(wg.Options{PrivateKey: key, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Carrier: r})
	if err != nil {
		l.t.Fatal(err)
	}
	r.device = d
	l.t.Cleanup(func() { _ = d.Close() })
	hub, ok := l.fabric.HubAddr(network)
	if !ok {
		l.t.Fatalf("no hub of %s", network)
	}
	pub, err := wgkey.ParsePublic(public(l.t, l.hubs[network]))
	if err != nil {
		l.t.Fatal(err)
	}
	if err := d.SetPeer(wg.Peer{PublicKey: pub, Endpoint: hub.String(), AllowedIPs: everywhere}); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (r *raw) ReadBatch(bufs [][]byte, sizes []int, off int) (int, error) {
	select {
	case p := <-r.out:
		sizes[0] = copy(bufs[0][off:], p)
		return 1, nil
	case <-r.closing:
		return 0, net.ErrClosed
	}
}

func (r *raw) WriteBatch(bufs [][]byte, off int) (int, error) {
	for _, b := range bufs {
		select {
		case r.in <- append([]byte(nil), b[off:]...):
		default:
		}
	}
	return len(bufs), nil
}

func (r *raw) MTU() int { return 1420 }

func (r *raw) Close() error {
	if !r.isClosed {
		r.isClosed = true
		close(r.closing)
	}
	return nil
}

// next is the next packet that comes in, or nil if none does.
func (r *raw) next(limit time.Duration) []byte {
	select {
	case p := <-r.in:
		return p
	case <-time.After(limit):
		return nil
	}
}

func udp(src, dst string) []byte {
	return packet.AppendUDP(nil, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), []byte("hello"))
}

func TestICMPErrorGoesToTheSenderOfWhatItQuotesOnly(t *testing.T) {
	l := newLab(t)
	a, b, c := l.raw(l.keys["a"], "app"), l.raw(l.keys["b"], "app"), l.raw(l.keys["c"], "far")
	// b shows the hub where it is; its own query is answered.
	b.out <- udp("10.1.1.11:1000", "10.1.0.2:53")
	if b.next(wait) == nil {
		t.Fatal("b is not there")
	}
	a.out <- udp("10.1.1.10:9", "10.2.1.10:5555")
	quoted := udp("10.1.1.10:9", "10.2.1.10:5555")
	c.out <- udp("10.2.1.10:1", "10.1.0.99:1") // shakes hands
	a.out <- udp("10.1.1.10:9", "10.2.1.10:5555")
	if c.next(wait) == nil {
		t.Fatal("c heard nothing of a")
	}
	parse := func(p []byte) *packet.Info {
		i, err := packet.Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		return &i
	}
	forged := packet.AppendUnreachable(nil, quoted, parse(quoted), packet.Port, netip.Addr{})
	packet.SetDst(forged, parse(forged), netip.MustParseAddrPort("10.1.1.11:0"))
	c.out <- forged // to b, which c may not reach
	foreign := packet.AppendUnreachable(nil, quoted, parse(quoted), packet.Port, netip.MustParseAddr("10.1.1.11"))
	b.out <- foreign // b speaks for c
	c.out <- packet.AppendUnreachable(nil, quoted, parse(quoted), packet.Port, netip.Addr{})
	p := a.next(wait)
	if p == nil {
		t.Fatal("an error that c sent about a's packet did not arrive")
	}
	if from := parse(p).Src.Addr().String(); from != "10.2.1.10" {
		t.Fatalf("a heard from %s of a packet that it sent to c", from)
	}
	if p := b.next(silence); p != nil {
		t.Fatalf("c reached b by quoting another's packet: %v", parse(p).Tuple)
	}
}

func TestSuccessorOfAHostInheritsNoFlow(t *testing.T) {
	l := newLab(t)
	answer := func(r *raw) string {
		t.Helper()
		r.out <- udp("10.1.1.10:5555", "10.1.0.2:53")
		p := r.next(wait)
		if p == nil {
			t.Fatal("no answer")
		}
		return string(p[28:])
	}
	if got := answer(l.raw(l.keys["a"], "app")); got != "app/a:hello" {
		t.Fatalf("a is taken for %q", got)
	}
	delete(l.objects, "Host/a")
	l.keys["x"] = mustKey(t)
	l.put(&model.Host{Head: named("x"), Spec: model.HostSpec{Subnet: "app", Address: "10.1.1.10", PublicKey: public(t, l.keys["x"])}})
	l.apply()
	if got := answer(l.raw(l.keys["x"], "app")); got != "app/x:hello" {
		t.Fatalf("x, which has a's address now, is taken for %q", got)
	}
}

// held opens a connection.
func held(t *testing.T, c *join.Client, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	conn, err := c.Dial(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// speak sends a line and returns what comes back.
func speak(conn net.Conn, limit time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestConnectionEndsWithWhatItStoodOn(t *testing.T) {
	far := func(l *lab) net.Conn { return held(t, l.join("c", "far", "10.2.1.10"), l.endpoint()+":443") }
	near := func(l *lab) net.Conn { return held(t, l.join("a", "app", "10.1.1.10"), l.endpoint()+":443") }
	public := func(l *lab) net.Conn {
		return held(t, l.join("a", "app", "10.1.1.10"), l.snap.Gateways["main"].Public[0].String()+":443")
	}
	for _, c := range []struct {
		name   string
		open   func(*lab) net.Conn
		change func(*lab)
		lives  bool
	}{
		{"nothing changed", near, func(*lab) {}, true},
		{"the group denies it now", near, func(l *lab) {
			l.put(&model.SecurityGroup{Head: named("ep"), Spec: model.SecurityGroupSpec{Network: "app"}})
		}, true},
		{"the Endpoint was rejected", near, func(l *lab) {
			l.edit = func(s *snapshot.Snapshot) { s.Endpoints["ep"].Connection = snapshot.Rejected }
		}, false},
		{"the Endpoint is another", near, func(l *lab) {
			l.edit = func(s *snapshot.Snapshot) { s.Endpoints["ep"].ID += "0" }
		}, false},
		{"the Peering is gone", far, func(l *lab) { delete(l.objects, "Peering/app-far") }, false},
		{"a hub has another key", far, func(l *lab) { l.hubs["app"] = mustKey(t) }, false},
		{"over NAT, nothing changed", public, func(*lab) {}, true},
		{"over NAT, the Subnet's route is gone", public, func(l *lab) {
			l.objects["Subnet/app"].(*model.Subnet).Spec.InternetRoute = false
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			conn := c.open(l)
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

func TestPublishedPortsComeAndGoWithoutTheOthers(t *testing.T) {
	l := newLab(t)
	at := l.snap.Gateways["main"].Public[0].String()
	from := netip.MustParseAddr("203.0.113.10")
	dial := func(port string) (string, error) {
		return say(func(ctx context.Context) (net.Conn, error) {
			return l.fabric.DialInternet(ctx, from, netip.MustParseAddrPort(at+":"+port))
		}, wait)
	}
	for _, http := range []string{"serve", "off"} {
		l.objects["Gateway/main"].(*model.Gateway).Spec.HTTP = http
		l.apply()
		if _, err := dial("443"); err != nil {
			t.Fatalf("http: %s: port 443: %v", http, err)
		}
		_, err := dial("80")
		if want := map[string]string{"serve": "", "off": "refused"}[http]; (err == nil) != (want == "") || err != nil && join.Symptom(err) != want {
			t.Fatalf("http: %s: port 80: %v, want %q", http, err, want)
		}
	}
}

func TestGreedyHostDoesNotStarveOthers(t *testing.T) {
	t.Run("of flows", func(t *testing.T) {
		l := newLab(t, func(o *user.Options) { o.MaxFlows = 256 })
		a := l.raw(l.keys["a"], "app")
		for port := range 1000 {
			a.out <- udp(fmt.Sprintf("10.1.1.10:%d", 1000+port), "10.2.1.10:9")
		}
		a.out <- udp("10.1.1.10:999", "10.1.0.2:53")
		if a.next(silence) != nil {
			t.Fatal("a has used its share up and opened one more flow")
		}
		if _, err := say(to(l.join("b", "app", "10.1.1.11"), l.endpoint()+":443"), wait); err != nil {
			t.Fatalf("b: %v", err)
		}
	})
	t.Run("of connections", func(t *testing.T) {
		l := newLab(t, func(o *user.Options) { o.MaxConns = 16 })
		a := l.join("a", "app", "10.1.1.10")
		first, second := held(t, a, l.endpoint()+":443"), held(t, a, l.endpoint()+":443")
		for range 2 {
			select {
			case <-l.served:
			case <-time.After(wait):
				t.Fatal("a's own are not served")
			}
		}
		if _, err := say(to(a, l.endpoint()+":443"), wait); join.Symptom(err) != "reset" {
			t.Fatalf("a third connection of a's: %v, want a reset", err)
		}
		if _, err := say(to(l.join("b", "app", "10.1.1.11"), l.endpoint()+":443"), wait); err != nil {
			t.Fatalf("b: %v", err)
		}
		for _, c := range []net.Conn{first, second} {
			if _, err := speak(c, wait); err != nil {
				t.Fatalf("a's own: %v", err)
			}
		}
	})
}

func TestSiteWhoseNameIsNotFoundMayCall(t *testing.T) {
	l := newLab(t)
	l.objects["Link/site"].(*model.Link).Spec.Endpoint = "site.invalid:51820"
	l.apply() // neither fails nor waits for the name
	if got, err := say(to(l.join("site", "app", "192.168.9.7"), l.endpoint()+":443"), wait); err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}
