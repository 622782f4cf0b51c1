// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"maps"
	"slices"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

const (
	// maxDepth is how many changes one way to a working request may take.
	maxDepth = 6
	// maxTries bounds the changed worlds that one question compiles.
	maxTries = 80
	// maxOpens bounds what is listed of what else a fix lets in.
	maxOpens = 20
)

// change is one proposal: of resources, of the request, or of the world around.
type change struct {
	summary string
	// puts are changed copies of resources, patch is the same for people.
	puts  []model.Object
	patch []answer.Patch
	// request is another way to ask, ask the question that results.
	request *answer.RequestChange
	ask     *answer.Question
	// linkUp says that the change is to bring up links.
	linkUp   bool
	commands []string
}

// search tries changes, within bounds.
type search struct{ tries int }

// fixes proposes changes for each blocker, tries each one together with what
// the other blockers need, and returns those that let the request through.
func fixes(t *trail) []answer.Fix {
	s := &search{}
	out := []answer.Fix{}
	seen := map[string]bool{}
	for _, stop := range t.stops {
		for _, c := range propose(t, stop) {
			if seen[c.summary] {
				continue
			}
			seen[c.summary] = true
			next, ok := s.apply(t, c)
			if !ok || next.blockedBy(t, stop) || !s.solve(next, maxDepth-1) {
				continue
			}
			out = append(out, answer.Fix{
				Summary: c.summary, For: stop.code, Patch: c.patch, Request: c.request, Commands: c.commands,
				Verified: true, AlsoOpens: opens(t, next, c),
			})
		}
	}
	return out
}

// solve tells whether some further changes let the request of t through.
func (s *search) solve(t *trail, depth int) bool {
	if t.Verdict == answer.Allow {
		return true
	}
	if t.Verdict != answer.Deny || depth == 0 {
		return false
	}
	stop := t.stops[0]
	for _, c := range propose(t, stop) {
		next, ok := s.apply(t, c)
		if ok && !next.blockedBy(t, stop) && s.solve(next, depth-1) {
			return true
		}
	}
	return false
}

// apply asks again with c. A change that is refused, as one that would break
// something else's validity, does not apply.
func (s *search) apply(t *trail, c change) (*trail, bool) {
	if s.tries >= maxTries {
		return nil, false
	}
	s.tries++
	w, q := t.w, t.q
	if len(c.puts) > 0 {
		var err error
		if w, err = w.Try(model.Change{Puts: c.puts}); err != nil {
			return nil, false
		}
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

// blockedBy tells whether the blocker that stopped before still stands.
func (t *trail) blockedBy(before *trail, s stop) bool {
	b := before.Hops[s.hop]
	return slices.ContainsFunc(t.Blockers, func(x answer.Blocker) bool {
		return x.Code == b.Code && x.Component == b.Component
	})
}

// propose lists changes that may remove a blocker, the smallest first.
func propose(t *trail, s stop) []change {
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

// opens lists the callers and URLs that a change newly lets through, beside
// those that were asked about.
func opens(before, after *trail, c change) []answer.Opening {
	if len(c.puts) == 0 {
		return nil
	}
	gained, _ := Difference(Reach(before.w), Reach(after.w))
	gained = slices.DeleteFunc(gained, func(o answer.Opening) bool { return o.From == before.from.name && o.To == before.q.URL })
	if len(gained) > maxOpens {
		gained = gained[:maxOpens]
	}
	return gained
}

// object returns a copy of a resource to change.
func object[T model.Object](t *trail, name string) (T, bool) {
	o, ok := model.Get[T](t.w.Set, name)
	if !ok {
		return o, false
	}
	return model.Clone(o), true
}

// put is a change of one resource.
func put(summary string, o model.Object, ops ...answer.PatchOperation) change {
	ref := model.RefOf(o).String()
	return change{
		summary: summary, puts: []model.Object{o},
		patch:    []answer.Patch{{Resource: ref, Ops: ops}},
		commands: []string{"postern apply -f FILE   # with the change of " + ref},
	}
}

// ask is a change of the request's URL and headers; an empty value takes a
// header out.
func ask(t *trail, summary, url string, headers map[string]string) change {
	q := t.q
	q.URL = url
	q.Headers = slices.DeleteFunc(slices.Clone(q.Headers), func(h answer.Header) bool {
		_, replaced := headers[strings.ToLower(h.Name)]
		return replaced
	})
	r := &answer.RequestChange{Method: q.Method, URL: url}
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		v := headers[k]
		if v != "" {
			q.Headers = append(q.Headers, answer.Header{Name: k, Value: v})
			if r.Headers == nil {
				r.Headers = map[string]string{}
			}
			r.Headers[k] = v
		}
		if _, sent := header(&t.q, k); sent && v == "" {
			r.Without = append(r.Without, k)
		}
	}
	return change{summary: summary, ask: &q, request: r}
}
