// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package user_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.dev/postern/compile"
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/engine/network/join"
	"postern.dev/postern/engine/network/quick"
	"postern.dev/postern/engine/network/user"
	"postern.dev/postern/internal/wgkey"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait is how long a test waits for what must come; silence is how long it
// listens for what must not.
const (
	wait    = 10 * time.Second
	silence = 300 * time.Millisecond
)

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

func mustKey(t testing.TB) wgkey.Private {
	t.Helper()
	k, err := wgkey.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k wgkey.Private) string {
	t.Helper()
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p.String()
}

// lab is an engine with joined hosts and a site.
type lab struct {
	t       testing.TB
	fabric  *user.Fabric
	objects map[string]model.Object
	hubs    map[string]wgkey.Private
	keys    map[string]wgkey.Private
	snap    *snapshot.Snapshot
	// edit, if set, changes what was compiled before it is applied.
	edit func(*snapshot.Snapshot)

	mu      sync.Mutex
	origins []snapshot.Origin
	served  chan struct{} // one for each connection
	drops   chan string
	// ahead is by how much, in nanoseconds, the engine's clock is ahead.
	ahead atomic.Int64
}

// newLab starts two peered Networks: app with the hosts a and b and the Endpoint
// ep, far with the host c; a site behind app; and the Gateway main.
func newLab(t testing.TB, options ...func(*user.Options)) *lab {
	l := &lab{t: t, objects: map[string]model.Object{}, hubs: map[string]wgkey.Private{}, keys: map[string]wgkey.Private{}, drops: make(chan string, 1024), served: make(chan struct{}, 1024)}
	o := user.Options{
		Listen: netip.MustParseAddr("127.0.0.1"),
		Serve:  l.serve,
		Now:    func() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) },
		Resolve: func(_ context.Context, network string, o *snapshot.Origin, query []byte, _ bool) []byte {
			return append([]byte(network+"/"+o.Host+o.Link+":"), query...)
		},
		Trace: func(v *flow.Verdict) {
			if v.Outcome == flow.Drop {
				select {
				case l.drops <- v.Code:
				default:
				}
			}
		},
	}
	for _, set := range options {
		set(&o)
	}
	var err error
	l.fabric, err = user.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.fabric.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	for _, n := range []string{"app", "far"} {
		l.hubs[n] = mustKey(t)
	}
	for _, n := range []string{"a", "b", "c", "site"} {
		l.keys[n] = mustKey(t)
	}
	l.put(
		&model.Network{Head: named("app"), Spec: model.NetworkSpec{CIDRs: []string{"10.1.0.0/16"}, InternetGateway: true}},
		&model.Network{Head: named("far"), Spec: model.NetworkSpec{CIDRs: []string{"10.2.0.0/16"}}},
		&model.Peering{Head: named("app-far"), Spec: model.PeeringSpec{Networks: []string{"app", "far"}}},
		&model.Subnet{Head: named("app"), Spec: model.SubnetSpec{Network: "app", CIDR: "10.1.1.0/24", InternetRoute: true}},
		&model.Subnet{Head: named("far"), Spec: model.SubnetSpec{Network: "far", CIDR: "10.2.1.0/24"}},
		&model.SecurityGroup{Head: named("web"), Spec: model.SecurityGroupSpec{Network: "app", Rules: []model.Rule{
			{Direction: "inbound", Protocol: "tcp", Ports: []string{"8080"}, From: []string{"10.1.0.0/16", "10.2.0.0/16"}},
		}}},
		&model.SecurityGroup{Head: named("ep"), Spec: model.SecurityGroupSpec{Network: "app", Rules: []model.Rule{
			{Direction: "inbound", Protocol: "tcp", Ports: []string{"80", "443"}, From: []string{"10.1.0.0/16", "192.168.9.0/24", "10.2.0.0/16"}},
		}}},
		&model.Host{Head: named("a"), Spec: model.HostSpec{Subnet: "app", Address: "10.1.1.10", PublicKey: public(t, l.keys["a"])}},
		&model.Host{Head: named("b"), Spec: model.HostSpec{Subnet: "app", Address: "10.1.1.11", PublicKey: public(t, l.keys["b"]), SecurityGroups: []string{"web"}}},
		&model.Host{Head: named("c"), Spec: model.HostSpec{Subnet: "far", Address: "10.2.1.10", PublicKey: public(t, l.keys["c"])}},
		&model.Link{Head: named("site"), Spec: model.LinkSpec{Network: "app", Type: "vpn", CIDRs: []string{"192.168.9.0/24"}, PublicKey: public(t, l.keys["site"])}},
		&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
		&model.Endpoint{Head: named("ep"), Spec: model.EndpointSpec{Gateway: "main", Subnets: []string{"app"}, SecurityGroups: []string{"ep"}}},
	)
	l.apply()
	return l
}

func (l *lab) put(objects ...model.Object) {
	for _, o := range objects {
		l.objects[model.RefOf(o).String()] = o
	}
}

func (l *lab) apply() {
	l.t.Helper()
	var puts []model.Object
	for _, o := range l.objects {
		puts = append(puts, o)
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: puts}, model.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	r := new(compile.Compiler).Compile(set, compile.Options{
		Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet},
		Hub: func(n string) snapshot.Hub {
			return snapshot.Hub{PrivateKey: model.NewSecret(l.hubs[n].Reveal()), PublicKey: public(l.t, l.hubs[n])}
		},
	})
	l.snap = r.Snapshot
	if l.edit != nil {
		l.edit(l.snap)
	}
	if err := l.fabric.Apply(r.Snapshot); err != nil {
		l.t.Fatal(err)
	}
}

// serve answers one line with who is calling.
func (l *lab) serve(c net.Conn, o *snapshot.Origin) {
	defer c.Close()
	l.mu.Lock()
	l.origins = append(l.origins, *o)
	l.mu.Unlock()
	select {
	case l.served <- struct{}{}:
	default:
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	fmt.Fprintf(c, "%s%s via %s from %s: %s", o.Host, o.Link, o.Endpoint, o.Source.Addr(), line)
}

var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// join opens the tunnel of a host or the site.
func (l *lab) join(name, network string, addr string) *join.Client {
	l.t.Helper()
	hub, ok := l.fabric.HubAddr(network)
	if !ok {
		l.t.Fatalf("no hub of %s", network)
	}
	pub, err := wgkey.ParsePublic(public(l.t, l.hubs[network]))
	if err != nil {
		l.t.Fatal(err)
	}
	at := netip.MustParseAddr(addr)
	c, err := join.Open(join.Options{Config: &quick.Config{
		Interface: quick.Interface{
			PrivateKey: l.keys[name], Addresses: []netip.Prefix{netip.PrefixFrom(at, at.BitLen())},
			DNS: []netip.Addr{netip.MustParseAddr("10.1.0.2")},
		},
		Peers: []quick.Peer{{
			PublicKey: pub, Endpoint: hub.String(),
			AllowedIPs: everywhere,
		}},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			l.t.Errorf("leave: %v", err)
		}
	})
	return c
}

// say connects, sends a line and returns what comes back.
func say(dial func(context.Context) (net.Conn, error), limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func to(c *join.Client, address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return c.Dial(ctx, "tcp", address) }
}

func (l *lab) endpoint() string { return l.snap.Endpoints["ep"].Interfaces[0].Addr.String() }

func TestEndpointLearnsWhoCalls(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct{ name, network, addr, want string }{
		{"a", "app", "10.1.1.10", "a via ep from 10.1.1.10: hello\n"},
		{"c", "far", "10.2.1.10", "c via ep from 10.2.1.10: hello\n"},
		{"site", "app", "192.168.9.7", "site via ep from 192.168.9.7: hello\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := say(to(l.join(c.name, c.network, c.addr), l.endpoint()+":443"), wait)
			if err != nil || got != c.want {
				t.Fatalf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestClosedPortIsRefusedAndFilteredPortIsSilent(t *testing.T) {
	l := newLab(t)
	a := l.join("a", "app", "10.1.1.10")
	for _, c := range []struct{ name, address, symptom string }{
		{"port 80 is admitted, nothing listens", l.endpoint() + ":80", "refused"},
		{"port 81 is not admitted", l.endpoint() + ":81", "timeout"},
		{"nobody has the address", "10.1.1.99:443", "timeout"},
		{"a public port that is not published", l.snap.Gateways["main"].Public[0].String() + ":444", "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := wait
			if c.symptom == "timeout" {
				limit = silence
			}
			_, err := say(to(a, c.address), limit)
			if got := join.Symptom(err); got != c.symptom {
				t.Fatalf("%v is a %s; want %s", err, got, c.symptom)
			}
		})
	}
}

func TestHostsReachEachOtherAsTheirGroupsSay(t *testing.T) {
	l := newLab(t)
	a, b := l.join("a", "app", "10.1.1.10"), l.join("b", "app", "10.1.1.11")
	ln, err := b.Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "b hears %s\n", c.RemoteAddr())
			_ = c.Close()
		}
	}()
	defer func() { _ = ln.Close(); <-done }()
	if got, err := say(to(a, "10.1.1.11:8080"), wait); err != nil || got[:16] != "b hears 10.1.1.1" {
		t.Fatalf("%q, %v", got, err)
	}
	c := l.join("c", "far", "10.2.1.10")
	if got, err := say(to(c, "10.1.1.11:8080"), wait); err != nil || got[:18] != "b hears 10.2.1.10:" {
		t.Fatalf("over the peering: %q, %v", got, err)
	}
	if _, err := say(to(a, "10.1.1.11:8081"), silence); join.Symptom(err) != "timeout" {
		t.Fatalf("a port that no rule admits: %v", err)
	}
}

func TestGatewayIsReachedThroughNAT(t *testing.T) {
	l := newLab(t)
	public := l.snap.Gateways["main"].Public[0]
	nat := l.snap.Networks["app"].NAT[0]
	got, err := say(to(l.join("a", "app", "10.1.1.10"), public.String()+":443"), wait)
	if want := fmt.Sprintf("a via  from %s: hello\n", nat); err != nil || got != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
	caller := netip.MustParseAddr("203.0.113.10")
	got, err = say(func(ctx context.Context) (net.Conn, error) {
		return l.fabric.DialInternet(ctx, caller, netip.AddrPortFrom(public, 443))
	}, wait)
	if want := " via  from 203.0.113.10: hello\n"; err != nil || got != want {
		t.Fatalf("from the internet: %q, %v; want %q", got, err, want)
	}
	_, err = say(to(l.join("c", "far", "10.2.1.10"), public.String()+":443"), silence)
	if join.Symptom(err) != "timeout" {
		t.Fatalf("far has no internet gateway: %v", err)
	}
}

func TestServerIsNoRelay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := newLab(t)
	a := l.join("a", "app", "10.1.1.10")
	for _, address := range []string{ln.Addr().String(), "169.254.169.254:80", "192.168.0.1:80"} {
		if _, err := say(to(a, address), silence); join.Symptom(err) != "timeout" {
			t.Errorf("%s: %v; want silence", address, err)
		}
	}
}

func TestResolverIsAskedThroughTheTunnel(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct{ name, network, addr, want string }{
		{"a", "app", "10.1.1.10", "app/a:hello"},
		{"site", "app", "192.168.9.7", "app/site:hello"},
	} {
		client := l.join(c.name, c.network, c.addr)
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		u, err := client.Dial(ctx, "udp", "10.1.0.2:53")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if err := u.SetDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(u, "hello"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		n, err := u.Read(buf)
		if err != nil || string(buf[:n]) != c.want {
			t.Fatalf("%s: %q, %v", c.name, buf[:n], err)
		}
	}
}

func TestEstablishedConnectionOutlivesItsRule(t *testing.T) {
	l := newLab(t)
	a, b := l.join("a", "app", "10.1.1.10"), l.join("b", "app", "10.1.1.11")
	ln, err := b.Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	c, err := a.Dial(ctx, "tcp", "10.1.1.11:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l.put(&model.SecurityGroup{Head: named("web"), Spec: model.SecurityGroupSpec{Network: "app"}})
	l.apply()
	if _, err := io.WriteString(c, "still\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(s).ReadString('\n'); err != nil || got != "still\n" {
		t.Fatalf("the established connection was cut: %q, %v", got, err)
	}
	if _, err := say(to(a, "10.1.1.11:8080"), silence); join.Symptom(err) != "timeout" {
		t.Fatalf("a new connection: %v; want silence", err)
	}
}

func TestLinkIsDownUntilTheSiteCalls(t *testing.T) {
	l := newLab(t)
	if l.fabric.LinkUp("app", "site") {
		t.Fatal("the link is up before anybody called")
	}
	site := l.join("site", "app", "192.168.9.7")
	if _, err := say(to(site, l.endpoint()+":443"), wait); err != nil {
		t.Fatal(err)
	}
	if !l.fabric.LinkUp("app", "site") {
		t.Fatal("the link is down although packets passed")
	}
	l.keys["site"] = mustKey(t)
	l.objects["Link/site"].(*model.Link).Spec.PublicKey = public(t, l.keys["site"])
	l.apply()
	if l.fabric.LinkUp("app", "site") {
		t.Fatal("the link is up although its site has another key")
	}
	if _, err := say(to(site, l.endpoint()+":443"), silence); join.Symptom(err) != "timeout" {
		t.Fatalf("with the old key: %v; want silence", err)
	}
}

func TestSilentLinkIsDown(t *testing.T) {
	l := newLab(t)
	site := l.join("site", "app", "192.168.9.7")
	if _, err := say(to(site, l.endpoint()+":443"), wait); err != nil {
		t.Fatal(err)
	}
	l.ahead.Store(int64(150 * time.Second))
	if !l.fabric.LinkUp("app", "site") {
		t.Fatal("the link is down although its handshake is fresh")
	}
	l.ahead.Store(int64(10 * time.Minute))
	if l.fabric.LinkUp("app", "site") {
		t.Fatal("the link is up although its site has been silent for ten minutes")
	}
}

func TestAddressGainedLaterIsNotDialled(t *testing.T) {
	f, err := user.New(user.Options{
		Listen: netip.MustParseAddr("127.0.0.1"), Serve: func(c net.Conn, _ *snapshot.Origin) { _ = c.Close() },
		Own: func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if _, err := f.Dialer().DialContext(ctx, "udp", "8.8.8.8:53"); !errors.Is(err, user.ErrEgress) {
		t.Fatalf("an address of the server itself: %v", err)
	}
}
