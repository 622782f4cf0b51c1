// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
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
	// supposed are the names that the question itself takes to be public, and
	// looks says that they could be looked up.
	supposed []string
	looks    bool
	// before is who gets through as things are; nil until it is asked.
	before *Reachability
}

// spent tells whether the search has to end.
func (s *search) spent() bool { return time.Now().After(s.until) }

// fixes proposes changes for each blocker, tries each one together with what
// the other blockers need, and returns those that let the request through.
func fixes(t *trail) []answer.Fix {
	s := &search{until: time.Now().Add(maxTime), supposed: t.supposed, looks: t.live.looks()}
	out := []answer.Fix{}
	seen := map[string]bool{}
	stops := t.stops
	if t.Verdict == answer.Unknown {
		stops = t.maybe
	}
	for _, stop := range stops {
		var found []tried
		for _, c := range propose(t, stop) {
			for x := &c; x != nil && len(out)+len(found) < maxFixes; x = x.or {
				key := x.key()
				if seen[key] {
					break
				}
				seen[key] = true
				if f, ok := s.fix(t, stop, x); ok {
					found = append(found, f)
					break
				}
			}
		}
		out = append(out, plainest(found)...)
	}
	return out
}

// tried is a fix with how it was found.
type tried struct {
	answer.Fix
	// fresh says that it needs changes for what did not block before, apart that
	// it is told all the same.
	fresh, apart bool
}

// fix tries one change.
func (s *search) fix(t *trail, at stop, c *change) (tried, bool) {
	w := &chain{}
	if !s.step(w, t, at, c) || !s.solve(w, maxDepth-1) || s.spent() {
		return tried{}, false
	}
	f := tried{Fix: answer.Fix{
		Summary: c.summary, For: at.code, Patch: c.patch, Request: c.request, Commands: c.commands, Verified: true,
	}}
	f.apart = c.apart
	if t.w.AsWritten {
		t.byHand(&f.Fix)
	}
	for i, more := range w.changes[1:] {
		if !t.lists(w.stops[i+1], at) {
			f.Then, f.fresh = append(f.Then, more.summary), true
		}
	}
	s.effects(&f.Fix, t, w.end, c)
	return f, true
}

// lists tells whether s, of a later trail, stood in this one already,
// beside the one that is fixed: the same code at the same component.
func (t *trail) lists(s, fixed stop) bool {
	b := &s.at
	return slices.ContainsFunc(slices.Concat(t.stops, t.maybe), func(x stop) bool {
		h := &x.at
		return x.hop != fixed.hop && h.Code == b.Code && h.Component == b.Component
	})
}

// plainest puts first what needs the fewest changes besides, and leaves out
// what brings up new blockers where something else does not: what stands behind
// an assumed Stage or API is not known to hold for another.
func plainest(fs []tried) []answer.Fix {
	if slices.ContainsFunc(fs, func(f tried) bool { return !f.fresh }) {
		fs = slices.DeleteFunc(fs, func(f tried) bool { return f.fresh && !f.apart })
	}
	slices.SortStableFunc(fs, func(a, b tried) int { return len(a.Then) - len(b.Then) })
	out := make([]answer.Fix, len(fs))
	for i := range fs {
		out[i] = fs[i].Fix
	}
	return out
}

// chain is changes that lead from a question towards one that is let through:
// each with the trail that it was made to and the stop that it was made for.
type chain struct {
	changes []*change
	trails  []*trail
	stops   []stop
	end     *trail
}

// undoes tells whether a change takes back one before it: asks again what was
// asked, or throws a switch that was thrown.
func (w *chain) undoes(c *change) bool {
	for i, before := range w.changes {
		if c.ask != nil && len(c.puts) == 0 && len(before.puts) == 0 && same(&w.trails[i].q, c.ask) {
			return true
		}
		for _, p := range c.patch {
			for _, old := range before.patch {
				if p.Resource == old.Resource && opposite(p.Ops, old.Ops) {
					return true
				}
			}
		}
	}
	return false
}

func same(a, b *answer.Question) bool {
	return a.Method == b.Method && a.URL == b.URL && a.KeyOf == b.KeyOf && slices.Equal(a.Headers, b.Headers)
}

// opposite tells whether operations set a switch that others set, or take out
// what others put in, or the reverse.
func opposite(a, b []answer.PatchOperation) bool {
	for _, x := range a {
		_, turn := x.Value.(bool)
		if slices.ContainsFunc(b, func(y answer.PatchOperation) bool {
			return x.Path == y.Path && (turn || (x.Op == "remove") != (y.Op == "remove"))
		}) {
			return true
		}
	}
	return false
}

// step makes one change more, if it removes the blocker that it is for.
func (s *search) step(w *chain, t *trail, at stop, c *change) bool {
	if w.undoes(c) {
		return false
	}
	next, ok := s.apply(t, c)
	if !ok || !c.shifts && next.blockedBy(at) {
		return false
	}
	w.changes, w.trails, w.stops = append(w.changes, c), append(w.trails, t), append(w.stops, at)
	w.end = next
	return true
}

// solve looks for further changes that let the request at the end of the way
// through. An answer counts that nothing stops: what rests on an assumed Stage
// or API has the stop that made it be assumed.
func (s *search) solve(w *chain, depth int) bool {
	t := w.end
	if t.Verdict == answer.Allow {
		return s.sound(w)
	}
	stops := t.stops
	if t.Verdict == answer.Unknown {
		stops = t.maybe
	}
	if len(stops) == 0 || depth == 0 || s.spent() {
		return false
	}
	at := stops[0]
	if i := slices.IndexFunc(stops, func(x stop) bool { return !t.moot(x) }); i >= 0 {
		at = stops[i]
	}
	for _, c := range propose(t, at) {
		for x := &c; x != nil; x = x.or {
			n := len(w.changes)
			if s.step(w, t, at, x) && s.solve(w, depth-1) {
				return true
			}
			w.changes, w.trails, w.stops, w.end = w.changes[:n], w.trails[:n], w.stops[:n], t
		}
	}
	return false
}

// sound tells whether the end of a way rests on no name that has to be taken to
// be public: not where that could have been looked up, had it been asked about,
// nor where it is a change of the backend that leads there.
func (s *search) sound(w *chain) bool {
	if !slices.ContainsFunc(w.end.supposed, func(n string) bool { return !slices.Contains(s.supposed, n) }) {
		return true
	}
	return !s.looks && !slices.ContainsFunc(w.stops, func(x stop) bool { return x.by != nil })
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
		next.Access = w.Access // nor is there a token more
		w = next
	}
	if len(c.egress) > 0 {
		w = w.dialling(c.egress)
	}
	if c.linkUp {
		up := *w
		up.LinkUp = nil
		w = &up
	}
	if c.access {
		w = w.withAccess()
	}
	if c.ask != nil {
		q = *c.ask
	}
	next, err := follow(w, q, nil, t.names)
	return next, err == nil
}

// blockedBy tells whether the blocker that stopped before still stands: the
// same code at the same place of the same resource.
func (t *trail) blockedBy(s stop) bool {
	b := &s.at
	return slices.ContainsFunc(slices.Concat(t.stops, t.maybe), func(x stop) bool {
		h := &x.at
		return h.Code == b.Code && h.Component == b.Component && (h.Rule == nil || b.Rule == nil || *h.Rule == *b.Rule)
	})
}

// propose lists changes that may remove a blocker, the smallest first.
func propose(t *trail, s stop) []change {
	if s.in != nil {
		t.web = s.in
	}
	if t.moot(s) {
		return nil
	}
	if s.by != nil {
		return proposeBackend(t, s)
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
	case "auth":
		if s.code == request.CodeKeyMissing || s.code == request.CodeKeyUnknown {
			return proposeKey(t)
		}
		return proposeToken(t)
	case "limit":
		return proposeLimit(t, s)
	}
	return nil
}

// moot tells whether a stop is a rule for a port on which nothing listens: to
// open it helps nobody.
func (t *trail) moot(s stop) bool {
	return strings.HasPrefix(s.code, "sg/") &&
		slices.ContainsFunc(t.stops, func(x stop) bool { return x.flow != nil && x.flow.Layer == flow.LayerListen && x.by == s.by })
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
		if t.q.KeyOf != "" {
			own[answer.Opening{From: t.from.name, To: asked(t) + withKey}] = true
		}
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
