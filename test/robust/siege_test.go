// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"postern.dev/postern/snapshot"
)

// siege is a gate under attack, with others that want to be served.
type siege struct {
	t        *testing.T
	g        *gate
	backends *backends
	before   usage
	peak     int64 // of the heap, garbage included

	mu    sync.Mutex
	conns []io.Closer // the attackers'
	wait  sync.WaitGroup
}

// besiege opens a gate whose backend answers /odd/ with odd, and measures it once
// everybody has been served.
func besiege(t *testing.T, odd http.HandlerFunc) *siege {
	t.Helper()
	bs := newBackends(t, odd)
	return besiegeAt(t, bs, newCompiler(t, bs))
}

func besiegeAt(t *testing.T, bs *backends, c *compiler) *siege {
	t.Helper()
	var s *snapshot.Snapshot
	s, err := c.generation(0)
	if err != nil {
		t.Fatal(err)
	}
	x := &siege{t: t, g: open(t, s, unhurried()), backends: bs}
	t.Cleanup(x.lift)
	x.others()
	x.before = measure()
	x.peak = 0
	return x
}

// others are served: each protocol on a new connection, with bodies.
func (s *siege) others() {
	s.t.Helper()
	l := newLoad(s.g, newEras(0))
	for p, name := range protocols {
		c, err := s.g.call(s.t.Context(), name)
		if err != nil {
			s.t.Fatalf("%s: another caller cannot connect: %v", name, err)
		}
		r := rand.New(rand.NewPCG(uint64(p), 7))
		for range 10 {
			err := l.ask(s.t.Context(), c, p, false, r)
			if err != nil && !errors.Is(err, errLast) {
				s.t.Errorf("another caller: %v", err)
			}
			if err != nil {
				break
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			s.peak = max(s.peak, int64(m.HeapAlloc+m.StackInuse))
		}
		_ = c.Close() // the gateway may have closed it
	}
}

// holds has others served while the attack is on, and then what it costs measured:
// more is what may be held beyond what was before it, and slack how much garbage
// there may be beside at any time.
func (s *siege) holds(more usage, slack int64) {
	s.t.Helper()
	s.others()
	now := measure()
	s.t.Logf("before: %s; under attack: %s; at most %.1f MiB with garbage", s.before, now, float64(s.peak)/(1<<20))
	if !now.within(s.before, more) {
		s.t.Errorf("there were %s before, and there are %s under attack: more than %s more", s.before, now, more)
	}
	if s.peak > s.before.memory+more.memory+slack {
		s.t.Errorf("there were %s before, and up to %.1f MiB with garbage under attack", s.before, float64(s.peak)/(1<<20))
	}
}

// attack opens a connection of an attacker.
func (s *siege) attack(address string) net.Conn {
	s.t.Helper()
	c, err := dial(s.t.Context(), address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.keep(c)
	return c
}

func (s *siege) keep(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
}

// send writes for an attacker that the gateway has to hear out.
func (s *siege) send(c net.Conn, text string) {
	s.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		s.t.Fatal(err)
	}
}

// lift ends the attack: all attackers go.
func (s *siege) lift() {
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close() // the gateway may have closed it
	}
	s.conns = nil
	s.mu.Unlock()
	s.wait.Wait()
}

// ends lifts the attack, and nothing of it stays. Pools may have grown a little.
func (s *siege) ends() {
	s.t.Helper()
	s.lift()
	s.others()
	recovers(s.t, s.before, usage{memory: 8 << 20, goroutines: 20, files: 20})
}

// each is an allowance for n attackers.
func each(n int, memory int64, goroutines, files int) usage {
	return usage{memory: 8<<20 + int64(n)*memory, goroutines: 30 + n*goroutines, files: 30 + n*files}
}
