// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// The bounds of the search for fixes.
const (
	// maxDepth is how many changes one way to a working request may take.
	maxDepth = 6
	// maxTries bounds the changed worlds that one question compiles, maxAsked
	// the changed questions that it asks, maxTime both.
	maxTries = 100
	maxAsked = 1000
	maxTime  = 5 * time.Second
	// maxFixes is how many fixes are offered.
	maxFixes = 16
	// maxOpens bounds each list of what else a fix opens or breaks.
	maxOpens = 20
)

// search tries changes, within bounds.
type search struct {
	tries, asked int
	until        time.Time
	// before is who gets through as things are; nil until it is asked.
	before *Reachability
}

// spent tells whether the search has to end.
func (s *search) spent() bool { return time.Now().After(s.until) }

// fixes proposes changes for each blocker, tries each one together with what
// the other blockers need, and returns those that let the request through.
func fixes(t *trail) []answer.Fix {
	s := &search{until: time.Now().Add(maxTime)}
	out := []answer.Fix{}
	seen := map[string]bool{}
	for _, stop := range t.stops {
		for _, c := range propose(t, stop) {
			for x := &c; x != nil && len(out) < maxFixes; x = x.or {
				key := x.key()
				if seen[key] {
					break
				}
				seen[key] = true
				if f, ok := s.fix(t, stop, x); ok {
					out = append(out, f)
					break
				}
			}
		}
	}
	return out
}

// fix tries one change.
func (s *search) fix(t *trail, at stop, c *change) (answer.Fix, bool) {
	next, ok := s.apply(t, c)
	if !ok || !c.shifts && next.blockedBy(t, at) {
		return answer.Fix{}, false
	}
	end := s.solve(next, maxDepth-1)
	if end == nil || s.spent() {
		return answer.Fix{}, false
	}
	f := answer.Fix{
		Summary: c.summary, For: at.code, Patch: c.patch, Request: c.request, Commands: c.commands, Verified: true,
	}
	s.effects(&f, t, end, c)
	return f, true
}

// solve looks for further changes that let the request of t through, and
// returns the question as it is asked then; nil if there are none.
func (s *search) solve(t *trail, depth int) *trail {
	if t.Verdict == answer.Allow {
		return t
	}
	if t.Verdict != answer.Deny || depth == 0 || s.spent() {
		return nil
	}
	at := t.stops[0]
	for _, c := range propose(t, at) {
		for x := &c; x != nil; x = x.or {
			next, ok := s.apply(t, x)
			if !ok || !x.shifts && next.blockedBy(t, at) {
				continue
			}
			if end := s.solve(next, depth-1); end != nil {
				return end
			}
		}
	}
	return nil
}

// apply asks again with c. A change that is refused, as one that would break
// something else's validity, does not apply.
func (s *search) apply(t *trail, c *change) (*trail, bool) {
	w, q := t.w, t.q
	if s.asked++; s.asked > maxAsked {
		return nil, false
	}
	if len(c.puts) > 0 {
		if s.tries++; s.tries > maxTries || s.spent() {
			return nil, false
		}
		next, err := w.Try(model.Change{Puts: c.puts})
		if err != nil {
			return nil, false
		}
		next.LinkUp = w.LinkUp // a Link is no more up than it was
		w = next
	}
	if c.linkUp {
		up := *w
		up.LinkUp = nil
		w = &up
	}
	if c.ask != nil {
		q = *c.ask
	}
	next, err := trace(w, q)
	return next, err == nil
}

// blockedBy tells whether the blocker that stopped before still stands: the
// same code at the same place of the same resource.
func (t *trail) blockedBy(before *trail, s stop) bool {
	b := &before.Hops[s.hop]
	return slices.ContainsFunc(t.stops, func(x stop) bool {
		h := &t.Hops[x.hop]
		return h.Code == b.Code && h.Component == b.Component && (h.Rule == nil || b.Rule == nil || *h.Rule == *b.Rule)
	})
}

// propose lists changes that may remove a blocker, the smallest first.
func propose(t *trail, s stop) []change {
	if s.in != nil {
		t.web = s.in
	}
	family, _, _ := strings.Cut(s.code, "/")
	switch family {
	case "dns":
		return proposeName(t)
	case "route":
		return proposeRoute(t, s)
	case "sg":
		return proposeGroup(t, s)
	case "listen":
		return proposeListen(t, s)
	case "endpoint":
		if s.web >= 0 {
			return proposePolicy(t, s)
		}
		return proposeApproval(t, s)
	case "tls", "host", "api":
		return proposeOtherName(t, s)
	case "stage":
		return proposeStage(t, s)
	case "method":
		return proposeMethod(t)
	case "policy":
		return proposePolicy(t, s)
	}
	return nil
}

// effects lists whom else a change of resources lets in and whom it keeps out,
// together with the other changes that it was tried with: by itself it may open
// nothing, because something else is in the way.
func (s *search) effects(f *answer.Fix, before, after *trail, c *change) {
	if len(c.puts) == 0 {
		return
	}
	more := []*trail{before, after}
	if s.before == nil {
		now := *before.w
		now.LinkUp = nil // what a change opens does not hang on the weather
		s.before = reach(&now, before)
	}
	later := *after.w
	later.LinkUp = nil
	gained, lost := Difference(s.before, reach(&later, more...))
	own := map[answer.Opening]bool{}
	for _, t := range more {
		own[answer.Opening{From: t.from.name, To: asked(t)}] = true
	}
	if s.before.Sampled {
		before.assume("what a fix opens or breaks was looked for among the first " + itoa(maxSources) + " callers and " + itoa(maxTargets) + " URLs")
	}
	gained = slices.DeleteFunc(gained, func(o answer.Opening) bool { return own[o] })
	f.AlsoOpens, f.Breaks = first(gained, maxOpens), first(lost, maxOpens)
	f.Omitted = len(gained) - len(f.AlsoOpens) + len(lost) - len(f.Breaks)
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// key is what makes two changes the same to whoever reads them.
func (c *change) key() string {
	b, err := json.Marshal([]any{c.patch, c.request, c.commands})
	if err != nil {
		return c.summary
	}
	return string(b)
}
