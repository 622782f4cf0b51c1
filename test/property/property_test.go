// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// enough cases of the default seed come across everything, and of any other that
// many times over.
const enough = 1500

// perWorld is how many requests a world is asked for.
const perWorld = 25

// tally counts what was seen, so that a run that shows nothing is noticed.
type tally struct {
	mu       sync.Mutex
	cases    uint64
	worlds   int
	invalid  int
	outcomes map[string]int
	failed   int
	// shown are the disagreements that were reported, by sort: one of each is
	// enough to look at.
	shown map[string]int
	// fixed counts by verdict what following the fixes of a denial led to.
	fixed map[string]int
	// met counts what the questions came across.
	met map[string]int
}

// sort tells disagreements apart that are likely to have different causes.
func (r *result) sort() string {
	o := r.outcome
	text := fmt.Sprint(r.answer.Symptom.Kind, r.answer.Code, o.kind, o.request, r.why)
	if o.flow != nil {
		text += o.flow.code
	}
	return text
}

func TestExplanationsComeTrue(t *testing.T) {
	cases, seed := setting(t, "POSTERN_CASES", enough), setting(t, "POSTERN_SEED", 1)
	seed0 := seed
	workers := setting(t, "POSTERN_WORKERS", 2)
	sum := &tally{outcomes: map[string]int{}, shown: map[string]int{}, fixed: map[string]int{}, met: map[string]int{}}
	var next sync.Mutex
	take := func() (uint64, bool) {
		next.Lock()
		defer next.Unlock()
		sum.mu.Lock()
		defer sum.mu.Unlock()
		if sum.cases >= cases || len(sum.shown) >= 12 {
			return 0, false
		}
		seed++
		return seed - 1, true
	}
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for {
				s, ok := take()
				if !ok {
					return
				}
				sum.world(t, s)
			}
		})
	}
	wait.Wait()
	t.Logf("%d requests in %d worlds, %d worlds refused, last seed %d", sum.cases, sum.worlds, sum.invalid, seed-1)
	text, err := json.Marshal(sum.outcomes) // sorted
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	t.Logf("fixes that were followed led to: %v", sum.fixed)
	if cases >= enough && seed0 == 1 || cases >= 4*enough {
		sum.blind(t)
	}
	if sum.failed > 0 {
		t.Errorf("%d disagreements; one of each sort was reported", sum.failed)
	}
	if sum.invalid > 3*sum.worlds {
		t.Errorf("too many worlds are refused")
	}
}

// world draws one world, runs it and compares.
func (sum *tally) world(t *testing.T, seed uint64) {
	ctx := t.Context()
	d := newDraw(seed)
	s := d.world()
	l, err := start(ctx, s)
	sum.mu.Lock()
	if errors.Is(err, errWorld) {
		sum.invalid++
		if testing.Verbose() {
			t.Logf("seed %d: %v", seed, err)
		}
	} else {
		sum.worlds++
	}
	sum.mu.Unlock()
	if err != nil {
		if !errors.Is(err, errWorld) {
			t.Errorf("seed %d: %v", seed, err)
		}
		return
	}
	defer func() {
		if err := l.close(); err != nil {
			t.Errorf("seed %d: close: %v", seed, err)
		}
	}()
	var denied []*result
	for n := range perWorld {
		// A change that is refused changes nothing; one that deletes what a
		// question is about makes it one that cannot be asked.
		for n > perWorld/2 && d.one(3) {
			st := d.change()
			if err := l.step(ctx, &st); err == nil {
				s = &script{objects: s.objects, steps: append(slices.Clone(s.steps), st)}
			} else if !errors.Is(err, errWorld) {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		q := d.question()
		d.keyFor(&q, uint64(n))
		r, err := l.ask(ctx, q)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			t.Errorf("seed %d: %+v: %v", seed, q, err)
			continue
		}
		if testing.Verbose() {
			t.Logf("seed %d: %s %s %s %v: %s %d %s", seed, q.From, q.Method, q.URL, q.Headers, r.answer.Symptom.Kind, r.outcome.status, r.answer.Code)
		}
		sum.mu.Lock()
		sum.cases++
		sum.outcomes[fmt.Sprintf("%s %s", r.answer.Symptom.Kind, r.answer.Code)]++
		if r.answer.Verdict == "unknown" {
			sum.outcomes["unknown"]++
		}
		l.meets(q, r, func(what string) { sum.met[what]++ })
		sum.mu.Unlock()
		sum.judge(t, seed, l, s, r)
		if len(r.answer.Fixes) > 0 && len(r.differs) == 0 {
			denied = append(denied, r)
		}
	}
	sum.mu.Lock()
	l.standing(func(what string) { sum.met[what]++ })
	sum.mu.Unlock()
	// At the end of the world its fixes are carried out.
	for range min(followed, len(denied)) {
		r, err := l.ask(ctx, pick(d, denied...).q)
		if errors.Is(err, errGone) {
			continue
		}
		var done []step
		if err == nil {
			done, r, err = l.follow(ctx, r)
			s = &script{objects: s.objects, steps: slices.Concat(s.steps, done)}
		}
		if err != nil {
			t.Errorf("seed %d: follow the fixes: %v", seed, err)
			continue
		}
		sum.mu.Lock()
		sum.fixed[string(r.answer.Verdict)]++
		sum.mu.Unlock()
		sum.judge(t, seed, l, s, r)
	}
}

// followed is how many denials of each world are put right by their fixes.
const followed = 2

// judge reports a disagreement, one of each sort.
func (sum *tally) judge(t *testing.T, seed uint64, l *lab, s *script, r *result) {
	if len(r.differs) == 0 {
		return
	}
	sum.mu.Lock()
	sum.failed++
	sum.shown[r.sort()]++
	first := sum.shown[r.sort()] == 1
	sum.mu.Unlock()
	if first {
		report(t, t.Context(), seed, &script{objects: s.objects, steps: slices.Concat(s.steps, l.joined())}, r)
	}
}

// report prints a disagreement and writes the file that replays it.
func report(t *testing.T, ctx context.Context, seed uint64, s *script, r *result) {
	s = shrink(ctx, s, r)
	text, err := s.archive(fmt.Sprintf("Seed %d: %s.\n", seed, strings.Join(r.differs, "; ")), r.q, "")
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	dir := os.Getenv("POSTERN_DISAGREEMENTS")
	if dir == "" {
		dir = t.ArtifactDir()
	}
	name := filepath.Join(dir, fmt.Sprintf("seed-%d-%s.txtar", seed, strings.ReplaceAll(r.answer.Code, "/", "-")))
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Error(err)
	}
	said, err := json.MarshalIndent(r.answer, "", "  ")
	if err != nil {
		t.Error(err)
	}
	o := r.outcome
	t.Errorf("POSTERN_SEED=%d: %s\n%s\nreally: %s %d %q flow %+v gateway %q error %v\nexplained: %s\nwritten to %s",
		seed, strings.Join(r.differs, "; "), text, o.kind, o.status, o.body, o.flow, o.request, o.err, said, name)
}
