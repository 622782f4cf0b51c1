// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// maxFollowed is how many fixes lead to a request that gets through, at most.
const maxFollowed = 8

// follow carries out the fixes of a denial for real, one after the other, until
// the request gets through: that is what a fix promises. It returns what
// was done, and a result that differs if the promise was not kept.
func (l *lab) follow(ctx context.Context, r *result) (done []step, last *result, err error) {
	var told []string
	for range maxFollowed {
		if r.answer.Verdict != answer.Deny || len(r.differs) > 0 {
			return done, r, nil
		}
		if len(r.answer.Fixes) == 0 {
			// A fix is tried on the model; whether the backend answers then is seen
			// only now.
			if len(told) > 0 && !probed(&r.answer) {
				r.differs = append(r.differs, fmt.Sprintf("no fix is left after: %s", strings.Join(told, "; then ")))
			}
			return done, r, nil
		}
		// The first one that was not carried out before. Where each was, they
		// undo each other: each is part of some way, but none leads on.
		at := slices.IndexFunc(r.answer.Fixes, func(f answer.Fix) bool { return !slices.Contains(told, f.Summary) })
		if at < 0 {
			return done, r, nil
		}
		f := &r.answer.Fixes[at]
		told = append(told, f.Summary)
		q := r.q
		if f.Request != nil {
			q = changed(q, f.Request)
		}
		steps, err := l.stepsOf(f)
		for i := 0; i < len(steps) && err == nil; i++ {
			err = l.step(ctx, &steps[i])
			done = append(done, steps[i])
		}
		if err != nil {
			r.differs = append(r.differs, fmt.Sprintf("the fix %q cannot be applied: %v", f.Summary, err))
			return done, r, nil
		}
		if r, err = l.ask(ctx, q); err != nil {
			return done, nil, fmt.Errorf("after %s: %w", strings.Join(told, "; then "), err)
		}
	}
	if r.answer.Verdict == answer.Deny {
		r.differs = append(r.differs, fmt.Sprintf("still denied after: %s", strings.Join(told, "; then ")))
	}
	return done, r, nil
}

// probed tells whether what stops a request was tried and not concluded.
func probed(a *answer.Answer) bool {
	return a.DecidedBy < len(a.Hops) && a.Hops[a.DecidedBy].Evidence == "probe"
}

// changed is a question asked in another way.
func changed(q answer.Question, c *answer.RequestChange) answer.Question {
	if c.Method != "" {
		q.Method = c.Method
	}
	if c.URL != "" {
		q.URL = c.URL
	}
	if c.KeyOf != "" {
		q.KeyOf = c.KeyOf
	}
	q.Headers = slices.DeleteFunc(slices.Clone(q.Headers), func(h answer.Header) bool {
		for k := range c.Headers {
			if strings.EqualFold(k, h.Name) {
				return true
			}
		}
		return slices.ContainsFunc(c.Without, func(n string) bool { return strings.EqualFold(n, h.Name) })
	})
	for k, v := range c.Headers {
		q.Headers = append(q.Headers, answer.Header{Name: k, Value: v})
	}
	return q
}

// stepsOf is what a fix comes to: resources that are applied, and commands.
func (l *lab) stepsOf(f *answer.Fix) ([]step, error) {
	var out []step
	var patched []model.Object
	for _, c := range f.Commands {
		if name, ok := strings.CutPrefix(c, "postern endpoint approve "); ok {
			return []step{{approve: name}}, nil
		}
	}
	for _, p := range f.Patch {
		o, err := l.patched(p)
		if err != nil {
			return nil, err
		}
		patched = append(patched, o)
	}
	if len(patched) > 0 {
		out = append(out, step{apply: patched})
	}
	for _, c := range f.Commands {
		words := strings.Fields(c)
		switch {
		case len(words) == 5 && words[1] == "deploy":
			out = append(out, step{deploy: words[2], stage: words[4]})
		case len(words) > 3 && words[1] == "key" && l.keys[words[3]] == "":
			out = append(out, step{key: words[3]})
		case strings.HasPrefix(c, "postern config wireguard link/"):
			out = append(out, step{join: model.Ref{Kind: model.KindLink, Name: strings.TrimPrefix(words[3], "link/")}})
		}
	}
	return out, nil
}

// patched applies a patch to a resource as it is now.
func (l *lab) patched(p answer.Patch) (model.Object, error) {
	kind, name, _ := strings.Cut(p.Resource, "/")
	var doc any
	if o := l.Resources().Object(model.Ref{Kind: model.Kind(kind), Name: name}); o != nil {
		text, err := model.EncodeStored(o)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &doc); err != nil {
			return nil, err
		}
		if m, ok := doc.(map[string]any); ok {
			delete(m, "status")
		}
	}
	for _, op := range p.Ops {
		var path []string
		for _, s := range strings.Split(op.Path, "/")[min(1, len(op.Path)):] {
			if op.Path != "" {
				path = append(path, strings.NewReplacer("~1", "/", "~0", "~").Replace(s))
			}
		}
		var err error
		if doc, err = patch(doc, path, op); err != nil {
			return nil, fmt.Errorf("%s: %s %s: %w", p.Resource, op.Op, op.Path, err)
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return model.Decode(text)
}

var errPath = errors.New("the path leads nowhere")

// patch carries out one operation of RFC 6902 below at.
func patch(at any, path []string, op answer.PatchOperation) (any, error) {
	if len(path) == 0 {
		return op.Value, nil
	}
	key, last := path[0], len(path) == 1
	switch x := at.(type) {
	case map[string]any:
		if last && op.Op == "remove" {
			if _, ok := x[key]; !ok {
				return nil, errPath
			}
			delete(x, key)
			return x, nil
		}
		below, ok := x[key]
		if !ok && (!last || op.Op == "replace") {
			return nil, errPath
		}
		v, err := patch(below, path[1:], op)
		x[key] = v
		return x, err
	case []any:
		i, err := strconv.Atoi(key)
		if last && op.Op == "add" {
			if key == "-" {
				i, err = len(x), nil
			}
			if err != nil || i < 0 || i > len(x) {
				return nil, errPath
			}
			return slices.Insert(x, i, op.Value), nil
		}
		if err != nil || i < 0 || i >= len(x) {
			return nil, errPath
		}
		if last && op.Op == "remove" {
			return slices.Delete(x, i, i+1), nil
		}
		x[i], err = patch(x[i], path[1:], op)
		return x, err
	}
	return nil, errPath
}
