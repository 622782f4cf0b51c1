// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package robust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"postern.dev/postern/engine/gateway"
	"postern.dev/postern/engine/gateway/h1"
	"postern.dev/postern/engine/gateway/upstream"
)

// eras tells which generations may judge a request: those from the last that was
// in place when it began to the last that was being put in place when it ended.
type eras struct {
	first, last atomic.Int64
	changed     sync.Cond // when last has changed, or it is over
	over        bool
}

func newEras(n int) *eras {
	e := &eras{changed: sync.Cond{L: new(sync.Mutex)}}
	e.first.Store(int64(n))
	e.last.Store(int64(n))
	return e
}

// span is the generations that may have judged a request.
type span struct{ from, to int }

func (s span) any(holds func(n int) bool) bool {
	for n := s.from; n <= s.to; n++ {
		if holds(n) {
			return true
		}
	}
	return false
}

// swap puts a generation in place.
func (e *eras) swap(g *gate, c *compiler, n int) error {
	s, err := c.generation(n)
	if err != nil {
		return err
	}
	e.last.Store(int64(n))
	g.Swap(s)
	e.first.Store(int64(n))
	e.changed.L.Lock()
	defer e.changed.L.Unlock()
	e.changed.Broadcast()
	return nil
}

func (e *eras) end() {
	e.changed.L.Lock()
	defer e.changed.L.Unlock()
	e.over = true
	e.changed.Broadcast()
}

// await waits until a generation after n is in place.
func (e *eras) await(n int) {
	e.changed.L.Lock()
	defer e.changed.L.Unlock()
	for !e.over && int(e.first.Load()) <= n {
		e.changed.Wait()
	}
}

// load makes requests and judges the answers.
type load struct {
	g        *gate
	eras     *eras
	mu       sync.Mutex
	progress sync.Cond // with mu: count has changed, or it is over
	count    [5]int    // right answers, by protocol
}

func newLoad(g *gate, e *eras) *load {
	l := &load{g: g, eras: e}
	l.progress.L = &l.mu
	return l
}

// counted notes a right answer.
func (l *load) counted(protocol int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[protocol]++
	l.progress.Broadcast()
}

// beyond waits until there are more than n right answers of a protocol, or ctx ends,
// and tells how many there are.
func (l *load) beyond(ctx context.Context, protocol, n int) int {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.progress.Broadcast()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.count[protocol] <= n && ctx.Err() == nil {
		l.progress.Wait()
	}
	return l.count[protocol]
}

// A question is a request whose answer is known for each generation.
type question struct {
	path    string
	key     int // that is shown, or -1
	allowed func(n int) bool
}

func questions(r *rand.Rand) question {
	always := func(int) bool { return true }
	switch r.IntN(5) {
	case 0:
		return question{"/guarded", -1, func(n int) bool { return !guards(n) }}
	case 1:
		k := r.IntN(keys)
		return question{"/keyed", k, func(n int) bool { return opens(n, k) }}
	case 2:
		route := r.IntN(routes)
		return question{"/route" + strconv.Itoa(route), -1, func(n int) bool { return hasRoute(n, route) }}
	}
	return question{"/echo", -1, always}
}

// ask makes one request that is drawn and judges its answer.
// A patient one may wait for another generation in the middle of its body.
func (l *load) ask(ctx context.Context, c caller, protocol int, patient bool, r *rand.Rand) error {
	q := questions(r)
	id := fmt.Sprintf("%016x", r.Uint64())
	body := content(r, id)
	var sent io.Reader = bytes.NewReader(body)
	began := int(l.eras.first.Load())
	switch kind := r.IntN(8); {
	case kind == 0: // in pieces, of a length that is not told
		sent = struct{ io.Reader }{sent}
	case kind == 1 && patient: // the second half after the configuration has changed
		half := len(body) / 2
		sent = struct{ io.Reader }{io.MultiReader(bytes.NewReader(body[:half]), &later{l.eras, began, bytes.NewReader(body[half:])})}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme(protocols[protocol])+"://"+host+"/turns"+q.path, sent)
	if err != nil {
		return err
	}
	req.Header.Set(fieldRequest, id)
	req.Header.Set("User-Agent", "robust")
	if q.key >= 0 {
		req.Header.Set("x-api-key", secretOf(q.key))
	}
	res, got, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", protocols[protocol], q.path, err)
	}
	if err := judge(q, span{began, int(l.eras.last.Load())}, id, body, res, got); err != nil {
		why, _ := l.g.Recent(res.Header.Get("x-postern-request-id"))
		return fmt.Errorf("%s %s: %w (%s by revision %d)", protocols[protocol], q.path, err, why.Code, why.Revision)
	}
	l.counted(protocol)
	if res.Close {
		return errLast
	}
	return nil
}

// errLast says that an answer was right and the last on its connection, as the
// gateway said itself.
var errLast = errors.New("the connection is over")

// judge holds an answer against the generations that may have made it.
func judge(q question, s span, id string, body []byte, res *http.Response, got []byte) error {
	switch res.StatusCode {
	case http.StatusForbidden:
		if !s.any(func(n int) bool { return !q.allowed(n) }) {
			return fmt.Errorf("refused with %s, but every generation of %d to %d allows it", got, s.from, s.to)
		}
		return nil
	case http.StatusOK:
	default:
		return fmt.Errorf("status %d: %s", res.StatusCode, got)
	}
	h := res.Header
	n, err := strconv.Atoi(h.Get(fieldGeneration))
	switch {
	case err != nil:
		return fmt.Errorf("no generation is told: %w", err)
	case n < s.from || n > s.to:
		return fmt.Errorf("judged by generation %d, in place were %d to %d", n, s.from, s.to)
	case !q.allowed(n):
		return fmt.Errorf("generation %d allows what it does not allow", n)
	case h.Get(fieldSide) != strconv.Itoa(side(n)):
		return fmt.Errorf("generation %d called backend %s", n, h.Get(fieldSide))
	case h.Get(fieldPath) != q.path || h.Get(fieldRequest) != id:
		return fmt.Errorf("the answer to %s of %s came to %s of %s", h.Get(fieldRequest), h.Get(fieldPath), id, q.path)
	case !bytes.Equal(got, body):
		return fmt.Errorf("%d bytes came back of %d, or others", len(got), len(body))
	}
	return nil
}

// content is a body that no other request has.
func content(r *rand.Rand, id string) []byte {
	sizes := [...]int{0, 20, 1 << 10, 10 << 10, 70 << 10, 200 << 10}
	b := make([]byte, sizes[r.IntN(len(sizes))])
	for i := range b {
		b[i] = byte(i>>8) ^ id[i%len(id)]
	}
	return b
}

// later is what is sent after the generation that was in place has been replaced.
type later struct {
	eras *eras
	n    int
	r    io.Reader
}

func (l *later) Read(p []byte) (int, error) {
	l.eras.await(l.n)
	return l.r.Read(p)
}

// work makes requests on a connection, and on another when the gateway says that
// it was the last, until ctx ends; the first failure is told.
func (l *load) work(ctx context.Context, protocol int, patient bool, seed uint64) error {
	for ctx.Err() == nil {
		c, err := l.g.call(context.WithoutCancel(ctx), protocols[protocol])
		if err != nil {
			return fmt.Errorf("%s: connect: %w", protocols[protocol], err)
		}
		errs := make([]error, together(protocol))
		var wait sync.WaitGroup
		for i := range errs {
			wait.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for ctx.Err() == nil && errs[i] == nil {
					errs[i] = l.ask(context.WithoutCancel(ctx), c, protocol, patient, r)
				}
			})
		}
		wait.Wait()
		_ = c.Close() // the gateway may have closed it
		for _, err := range errs {
			if err != nil && !errors.Is(err, errLast) {
				return err
			}
		}
		seed += 1000
	}
	return nil
}

// together is how many requests are under way on one connection of a protocol.
func together(protocol int) int {
	if protocol < 2 {
		return 1
	}
	return 3
}

// unhurried has no time-out that a slow machine could run into.
func unhurried() gateway.Options {
	return gateway.Options{
		Timeouts: h1.Timeouts{Head: patience, Body: patience, Idle: patience, Write: patience, Linger: patience},
		Upstream: upstream.Timeouts{Connect: patience, Head: patience, Total: patience, Stream: patience, Tunnel: patience},
	}
}

// TestNothingFailsWhileTheConfigurationChanges changes everything that a request
// hangs on while every protocol is under load.
func TestNothingFailsWhileTheConfigurationChanges(t *testing.T) {
	swaps := setting(t, "POSTERN_SWAPS", 200)
	bs := newBackends(t, nil)
	c := newCompiler(t, bs)
	first, err := c.generation(0)
	if err != nil {
		t.Fatal(err)
	}
	l := newLoad(open(t, first, unhurried()), newEras(0))
	ctx, cancel := context.WithCancelCause(t.Context())
	var wait sync.WaitGroup
	for p := range protocols {
		for i := range 2 {
			wait.Go(func() {
				if err := l.work(ctx, p, i == 1, uint64(p*10+i)); err != nil {
					cancel(err)
				}
			})
		}
	}
	seen := [len(l.count)]int{}
	for n := 1; n <= swaps && ctx.Err() == nil; n++ {
		if err := l.eras.swap(l.g, c, n); err != nil {
			t.Error(err)
			break
		}
		// A change that nobody could notice proves nothing: each protocol has answers
		// before the next.
		for p := range seen {
			seen[p] = l.beyond(ctx, p, seen[p])
		}
	}
	cancel(nil)
	l.eras.end()
	wait.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for p, name := range protocols {
		t.Logf("%s: %d right answers while the configuration changed %d times", name, l.count[p], swaps)
	}
}
