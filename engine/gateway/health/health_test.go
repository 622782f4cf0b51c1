// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.dev/postern/engine/gateway/health"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// yard is backends that answer probes as a test wants.
type yard struct {
	mu     sync.Mutex
	status map[string]int // by host; 0 refuses, -1 is silent
	asked  []string
	open   atomic.Int32
	most   atomic.Int32
}

func (y *yard) set(host string, status int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.status[host] = status
}

func (y *yard) dial(ctx context.Context, gateway, network, host string, port uint16) (net.Conn, error) {
	y.mu.Lock()
	status := y.status[host]
	y.asked = append(y.asked, fmt.Sprintf("%s>%s/%s:%d", gateway, network, host, port))
	y.mu.Unlock()
	n := y.open.Add(1)
	for old := y.most.Load(); n > old && !y.most.CompareAndSwap(old, n); old = y.most.Load() {
	}
	if status == 0 {
		y.open.Add(-1)
		return nil, errors.New("connection refused")
	}
	c, s := net.Pipe()
	go func() {
		defer s.Close()
		in := bufio.NewReader(s)
		if r, err := http.ReadRequest(in); err == nil && status > 0 {
			fmt.Fprintf(s, "HTTP/1.1 %d x\r\nX-Path: %s\r\nContent-Length: 0\r\n\r\n", status, r.URL)
		}
		_, _ = in.ReadByte() // until the prober goes
	}()
	return &probed{Conn: c, gone: sync.OnceFunc(func() { y.open.Add(-1) })}, nil
}

// probed is the prober's end of a connection: it counts until the prober has
// closed it, for the prober's next dial does not wait for the backend's end.
type probed struct {
	net.Conn
	gone func()
}

func (c *probed) Close() error {
	c.gone()
	return c.Conn.Close()
}

// world is a snapshot in which Gateway main calls a Backend.
func world(h *snapshot.Health, hosts ...string) (*snapshot.Snapshot, *snapshot.Backend) {
	b := &snapshot.Backend{Name: "store", Protocol: "http", Network: &snapshot.Network{Name: "corp"}, Health: h}
	for _, host := range hosts {
		b.Targets = append(b.Targets, snapshot.Target{Host: host, Port: 8080, Weight: 1})
	}
	table := &operation.Table{Operations: []operation.Operation{{Method: "GET", Path: "/", Integration: operation.Integration{Backend: "store"}}}}
	if err := table.Build(); err != nil {
		panic(err)
	}
	g := &snapshot.Gateway{Name: "main", APIs: map[string]*snapshot.API{}}
	a := &snapshot.API{Name: "a", Gateway: g, Stages: map[string]*snapshot.Stage{}}
	a.Stages["prod"] = &snapshot.Stage{Name: "prod", API: a, Deployment: &snapshot.Deployment{Operations: table}}
	g.APIs["a"] = a
	return &snapshot.Snapshot{
		Gateways: map[string]*snapshot.Gateway{"main": g, "idle": {Name: "idle"}},
		Backends: map[string]*snapshot.Backend{"store": b},
	}, b
}

func probing() *snapshot.Health {
	return &snapshot.Health{Path: "/up", Interval: 10 * time.Second, Timeout: 2 * time.Second, Unhealthy: 3, Healthy: 2}
}

func prober(t *testing.T, y *yard) *health.Prober {
	p := health.New(health.Options{Dial: y.dial, InFlight: 2})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestATargetGoesOutAndComesBackAfterEnoughProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &yard{status: map[string]int{"good": 204, "bad": 500, "gone": 0, "silent": -1}}
		p := prober(t, y)
		defer p.Close()
		s, b := world(probing(), "good", "bad", "gone", "silent")
		p.Apply(s)
		set := p.Of("main", b)
		out := func() [4]bool { return [4]bool{set.Out(0), set.Out(1), set.Out(2), set.Out(3)} }
		wait := func(d time.Duration) { // the fake clock runs
			<-time.After(d)
			synctest.Wait()
		}
		if out() != [4]bool{} || p.Targets("main", "store")[1].Known {
			t.Error("a target is out before it was probed")
		}
		wait(16 * time.Second) // one probe at least, two at most
		if out() != [4]bool{} {
			t.Errorf("too early: %v", out())
		}
		wait(24 * time.Second)
		if out() != [4]bool{false, true, true, true} {
			t.Fatalf("after 40 s: %v %+v", out(), p.Targets("main", "store"))
		}
		for i, want := range []string{"", "GET /up was answered 500", "connection refused", "it did not answer within 2s"} {
			if got := p.Targets("main", "store")[i]; got.Err != want || got.Healthy != (want == "") || !got.Known {
				t.Errorf("%+v, want %q", got, want)
			}
		}
		y.set("bad", 302)
		wait(8 * time.Second)
		if !set.Out(1) {
			t.Error("one good probe is not enough")
		}
		wait(20 * time.Second)
		if set.Out(1) {
			t.Errorf("it is well again: %+v", p.Targets("main", "store")[1])
		}
		if n := y.most.Load(); n > 2 {
			t.Errorf("%d probes at a time, want 2 at most", n)
		}
		for _, a := range y.asked {
			if a[:len("main>corp/")] != "main>corp/" {
				t.Errorf("probed by %s", a)
			}
		}
	})
}

func TestSilentTargetsKeepNobodyElseWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &yard{status: map[string]int{"good": 204}}
		hosts := make([]string, 20)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("silent%d", i)
			y.status[hosts[i]] = -1
		}
		p := prober(t, y)
		defer p.Close()
		slow := probing()
		slow.Interval, slow.Timeout = time.Minute, time.Minute
		s, _ := world(slow, hosts...)
		one, b := world(probing(), "good")
		b.Name = "other"
		s.Backends["other"] = b
		ops := one.Gateways["main"].APIs["a"]
		ops.Name = "b"
		ops.Stages["prod"].Deployment.Operations.Operations[0].Integration.Backend = "other"
		s.Gateways["main"].APIs["b"] = ops
		p.Apply(s)
		<-time.After(20 * time.Second)
		synctest.Wait()
		if got := p.Targets("main", "other"); len(got) != 1 || !got[0].Known {
			t.Errorf("after 20 s: %+v", got)
		}
		// Those that are gone give back what they had, or waited for.
		s, _ = world(slow, hosts[0])
		p.Apply(s)
		<-time.After(3 * time.Minute)
		synctest.Wait()
		if got := p.Targets("main", "store"); len(got) != 1 || !got[0].Known {
			t.Errorf("after a change: %+v", got)
		}
	})
}

func TestAChangeKeepsWhatIsKnownOfOtherTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &yard{status: map[string]int{"a": 0, "b": 0}}
		p := prober(t, y)
		defer p.Close()
		s, b := world(probing(), "a")
		p.Apply(s)
		<-time.After(time.Minute)
		synctest.Wait()
		if !p.Of("main", b).Out(0) {
			t.Fatal("it is not out")
		}
		next, more := world(probing(), "b", "a")
		p.Apply(next)
		if p.Of("main", b) != nil {
			t.Error("the old Backend still counts though its targets are others")
		}
		if set := p.Of("main", more); set.Out(0) || !set.Out(1) {
			t.Error("what was known of a target is lost, or was taken for another's")
		}
		other := probing()
		other.Path = "/other"
		again, changed := world(other, "a")
		p.Apply(again)
		if p.Of("main", changed).Out(0) {
			t.Error("what another question found counts")
		}
		none, quiet := world(nil, "a")
		p.Apply(none)
		if p.Of("main", quiet) != nil || p.Targets("main", "store") != nil || len(p.Gateways("store")) != 0 {
			t.Error("something is probed though nothing asks for it")
		}
		y.mu.Lock()
		y.asked = nil
		y.mu.Unlock()
		<-time.After(time.Minute)
		synctest.Wait()
		if len(y.asked) > 0 {
			t.Errorf("probed all the same: %v", y.asked)
		}
	})
}

func TestAConnectionIsEnoughWithoutAPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &yard{status: map[string]int{"silent": -1, "gone": 0}}
		p := prober(t, y)
		defer p.Close()
		h := probing()
		h.Path, h.Unhealthy = "", 1
		s, b := world(h, "silent", "gone")
		p.Apply(s)
		<-time.After(3 * time.Second)
		synctest.Wait()
		if set := p.Of("main", b); set.Out(0) || !set.Out(1) {
			t.Errorf("%+v", p.Targets("main", "store"))
		}
	})
}

func TestAskingCostsNoAllocation(t *testing.T) {
	y := &yard{status: map[string]int{}}
	p := prober(t, y)
	h := probing()
	h.Interval = time.Hour
	s, b := world(h, "a", "b")
	p.Apply(s)
	if n := testing.AllocsPerRun(100, func() {
		if p.Of("main", b).Out(1) {
			t.Error("out")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
