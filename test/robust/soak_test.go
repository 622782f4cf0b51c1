// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soak is a day of a gateway: everybody at once.
type soak struct {
	*load
	t     *testing.T
	dying *dying

	sockets, events, calls, whole, broken atomic.Int64
}

// rounds is how often everybody comes and goes. What is held is measured after
// each, when nobody is there.
const rounds = 5

// TestSoak has everything go on at once: callers of every protocol that come and
// go, WebSockets, event streams, calls with trailers, a configuration that changes
// and a backend that dies and comes back. Nothing fails but calls to that backend,
// and nothing grows from the first round to the last.
func TestSoak(t *testing.T) {
	each := time.Duration(setting(t, "POSTERN_SOAK", 10)) * time.Second / rounds
	bs := newBackends(t, odds)
	d := newDying(t)
	c := newCompiler(t, bs)
	c.dying = d.at
	first, err := c.generation(0)
	if err != nil {
		t.Fatal(err)
	}
	o := unhurried()
	o.Recent = 256 // all are taken soon
	g := open(t, first, o)
	generation := 0
	s := &soak{load: newLoad(g, newEras(0)), t: t, dying: d}
	var after [rounds]usage
	for i := range rounds {
		if err := s.round(each, c, &generation, uint64(i+1)<<32); err != nil {
			t.Fatal(err)
		}
		after[i] = s.rest()
		t.Logf("after round %d: %s", i+1, after[i])
	}
	for p, name := range protocols {
		t.Logf("%s: %d right answers", name, s.count[p])
	}
	t.Logf("%d WebSockets, %d event streams, %d calls with trailers; %d answers of the backend that dies, which broke %d; %d configurations, %d deaths",
		s.sockets.Load(), s.events.Load(), s.calls.Load(), s.whole.Load(), s.broken.Load(), generation, d.deaths)
	// Pools and what is remembered of requests fill up at first: a connection to a
	// backend for everybody who is there at a time, here with both its ends. What a request left
	// behind would be many times that after a long run.
	if last := after[rounds-1]; !last.within(after[0], usage{memory: 48 << 20, goroutines: 200, files: 300}) {
		t.Errorf("after the first round there were %s, after the last %s", after[0], last)
	}
}

// rest measures once those who have gone are gone on the gateway's side too.
func (s *soak) rest() usage {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for s.g.Connections() > 0 {
		select {
		case <-tick.C:
		case <-late:
			s.t.Fatalf("%d connections are open, and nobody is there", s.g.Connections())
		}
	}
	return measure()
}

// round lasts d.
func (s *soak) round(d time.Duration, c *compiler, generation *int, seed uint64) error {
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), d, errRound)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wait sync.WaitGroup
	run := func(f func(context.Context, *rand.Rand) error) {
		seed++
		r := rand.New(rand.NewPCG(seed, 1))
		wait.Go(func() {
			for ctx.Err() == nil {
				if err := f(context.WithoutCancel(ctx), r); err != nil {
					fail(err)
				}
			}
		})
	}
	for p := range protocols {
		for range 2 {
			run(func(ctx context.Context, r *rand.Rand) error { return s.visit(ctx, p, r) })
		}
		run(func(ctx context.Context, r *rand.Rand) error { return s.mourn(ctx, p, r) })
		if p != 0 && p != 1 {
			run(func(ctx context.Context, _ *rand.Rand) error { return s.trailers(ctx, p) })
		}
		run(func(ctx context.Context, _ *rand.Rand) error { return s.listen(ctx, p) })
	}
	for _, p := range []int{0, 1} {
		run(func(ctx context.Context, r *rand.Rand) error { return s.socket(ctx, p, r) })
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		*generation++
		if err := s.eras.swap(s.g, c, *generation); err != nil {
			fail(err)
		}
		if i%10 == 9 {
			s.dying.die()
		}
		if i%10 == 4 {
			if err := s.dying.live(); err != nil {
				fail(err)
			}
		}
	}
	wait.Wait()
	if err := context.Cause(ctx); !errors.Is(err, errRound) {
		return err
	}
	return nil
}

var errRound = errors.New("the round is over")

// visit is a caller with some requests.
func (s *soak) visit(ctx context.Context, protocol int, r *rand.Rand) error {
	c, err := s.g.call(ctx, protocols[protocol])
	if err != nil {
		return fmt.Errorf("%s: connect: %w", protocols[protocol], err)
	}
	defer c.Close()
	for range 1 + r.IntN(50) {
		if err := s.ask(ctx, c, protocol, false, r); errors.Is(err, errLast) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// mourn calls the backend that dies. It may not be there, and may die within an
// answer; but an answer that is whole is right.
func (s *soak) mourn(ctx context.Context, protocol int, r *rand.Rand) error {
	c, err := s.g.call(ctx, protocols[protocol])
	if err != nil {
		return fmt.Errorf("%s: connect: %w", protocols[protocol], err)
	}
	defer c.Close()
	for range 20 {
		id := fmt.Sprintf("%016x", r.Uint64())
		body := content(r, id)
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, scheme(protocols[protocol])+"://"+host+"/turns/dying", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set(fieldRequest, id)
		res, got, err := c.Do(req)
		switch {
		case err != nil:
			s.broken.Add(1)
			return nil // the connection may have ended within the answer
		case res.StatusCode >= 500:
			s.broken.Add(1)
		case res.StatusCode != http.StatusOK || res.Header.Get(fieldRequest) != id || !bytes.Equal(got, body):
			return fmt.Errorf("%s: the backend that dies answered %d with %d bytes of %d to %s, for %s", protocols[protocol], res.StatusCode, len(got), len(body), id, res.Header.Get(fieldRequest))
		default:
			s.whole.Add(1)
		}
		if res.Close {
			return nil
		}
	}
	return nil
}

// odds answers what is not echoed.
func odds(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/odd/socket":
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, in) // until it ends
	case "/odd/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range eventCount {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	case "/odd/trailers":
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.Copy(w, io.LimitReader(r.Body, maxEcho))
		w.Header().Set("Grpc-Status", "0")
	}
}

const eventCount = 20

// listen reads a stream of events to its end.
func (s *soak) listen(ctx context.Context, protocol int) error {
	c, err := s.g.call(ctx, protocols[protocol])
	if err != nil {
		return fmt.Errorf("%s: connect: %w", protocols[protocol], err)
	}
	defer c.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme(protocols[protocol])+"://"+host+"/turns/steady/events", nil)
	if err != nil {
		return err
	}
	res, got, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%s: events: %w", protocols[protocol], err)
	}
	var want bytes.Buffer
	for i := range eventCount {
		fmt.Fprintf(&want, "data: %d\n\n", i)
	}
	if res.StatusCode != http.StatusOK || !bytes.Equal(got, want.Bytes()) {
		return fmt.Errorf("%s: events: %d %q", protocols[protocol], res.StatusCode, got)
	}
	s.events.Add(1)
	return nil
}

// trailers makes a call as gRPC does.
func (s *soak) trailers(ctx context.Context, protocol int) error {
	c, err := s.g.call(ctx, protocols[protocol])
	if err != nil {
		return fmt.Errorf("%s: connect: %w", protocols[protocol], err)
	}
	defer c.Close()
	body := make([]byte, 5+20<<10)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme(protocols[protocol])+"://"+host+"/turns/grpc/trailers", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, got, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%s: a call with trailers: %w", protocols[protocol], err)
	}
	if res.StatusCode != http.StatusOK || len(got) != len(body) || res.Trailer.Get("Grpc-Status") != "0" {
		return fmt.Errorf("%s: a call with trailers: %d, %d bytes, %v", protocols[protocol], res.StatusCode, len(got), res.Trailer)
	}
	s.calls.Add(1)
	return nil
}

// socket changes protocols and has what it sends echoed.
func (s *soak) socket(ctx context.Context, protocol int, r *rand.Rand) error {
	x, err := s.g.call(ctx, protocols[protocol])
	if err != nil {
		return fmt.Errorf("%s: connect: %w", protocols[protocol], err)
	}
	defer x.Close()
	c := x.(*plain)
	if _, err := fmt.Fprintf(c.c, "GET /turns/steady/socket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", host); err != nil {
		return fmt.Errorf("a WebSocket: %w", err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("a WebSocket: %+v, %w", res, err)
	}
	for range 20 {
		sent := []byte(strconv.FormatUint(r.Uint64(), 16))
		if _, err := c.c.Write(sent); err != nil {
			return fmt.Errorf("a WebSocket: %w", err)
		}
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c.in, got); err != nil || !bytes.Equal(got, sent) {
			return fmt.Errorf("a WebSocket: %q came back of %q: %w", got, sent, err)
		}
	}
	s.sockets.Add(1)
	return nil
}

// dying is a backend that dies, with all that is under way, and comes back at the
// same place.
type dying struct {
	at     netip.AddrPort
	server *http.Server // nil while it is dead
	wait   sync.WaitGroup
	deaths int
}

func newDying(t *testing.T) *dying {
	t.Helper()
	d := &dying{at: netip.MustParseAddrPort("127.0.0.1:0")}
	if err := d.live(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.die()
		d.wait.Wait()
	})
	return d
}

// live brings it back. Meanwhile its port may have been given to somebody's
// connection, which ends.
func (d *dying) live() error {
	if d.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", d.at.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil // another time
	}
	if err != nil {
		return err
	}
	d.at = addrPort(l.Addr())
	b := &backends{}
	d.server = &http.Server{Handler: b.handler(0), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	s := d.server
	d.wait.Go(func() { _ = s.Serve(l) }) // until it is closed
	return nil
}

func (d *dying) die() {
	if d.server != nil {
		_ = d.server.Close() // connections may be gone already
		d.server = nil
		d.deaths++
	}
}
