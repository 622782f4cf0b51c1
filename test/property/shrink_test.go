// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"slices"

	"postern.dev/postern/model"
)

// shrinkTries bounds how many smaller worlds are tried.
const shrinkTries = 60

// shrink leaves out of a world what the disagreement of r does not need.
func shrink(ctx context.Context, s *script, r *result) *script {
	tries := 0
	still := func(c *script) bool {
		tries++
		l, err := start(ctx, c)
		if err != nil {
			return false
		}
		got, err := l.ask(ctx, r.q)
		if cerr := l.close(); err != nil || cerr != nil {
			return false
		}
		return len(got.differs) > 0
	}
	for i := len(s.steps) - 1; i >= 0 && tries < shrinkTries; i-- {
		c := &script{objects: s.objects, steps: slices.Delete(slices.Clone(s.steps), i, i+1)}
		if still(c) {
			s = c
		}
	}
	for i := len(s.objects) - 1; i >= 0 && tries < shrinkTries; i-- {
		c := s.without(model.RefOf(s.objects[i]))
		if still(c) {
			s = c
		}
		i = min(i, len(s.objects))
	}
	return s
}

// without leaves one resource out, and the steps about it.
func (s *script) without(ref model.Ref) *script {
	c := &script{objects: slices.DeleteFunc(slices.Clone(s.objects), func(o model.Object) bool { return model.RefOf(o) == ref })}
	for _, st := range s.steps {
		st.apply = slices.DeleteFunc(slices.Clone(st.apply), func(o model.Object) bool { return model.RefOf(o) == ref })
		if ref.Kind == model.KindAPI && st.deploy == ref.Name || ref.Kind == model.KindEndpoint && (st.approve == ref.Name || st.reject == ref.Name) {
			continue
		}
		if st.remove == ref || st.join == ref {
			continue
		}
		if st.deploy == "" && st.approve == "" && st.reject == "" && st.remove == (model.Ref{}) && st.join == (model.Ref{}) && len(st.apply) == 0 {
			continue
		}
		c.steps = append(c.steps, st)
	}
	return c
}
