// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"slices"
	"time"

	"postern.dev/postern/model"
)

// The bounds of how many smaller worlds are tried, and for how long.
const (
	shrinkTries = 60
	shrinkTime  = 45 * time.Second
)

// shrink leaves out of a world what the disagreement of r does not need.
func shrink(ctx context.Context, s *script, r *result) *script {
	tries, end := 0, time.Now().Add(shrinkTime)
	still := func(c *script) bool {
		if tries++; time.Now().After(end) {
			return false
		}
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
		about := []model.Ref{
			{Kind: model.KindAPI, Name: st.deploy},
			{Kind: model.KindEndpoint, Name: st.approve},
			{Kind: model.KindEndpoint, Name: st.reject},
			{Kind: model.KindHost, Name: st.serve},
			{Kind: model.KindHost, Name: st.stop},
			{Kind: model.KindSecurityGroup, Name: st.revoke},
			{Kind: model.KindSubscription, Name: st.key},
			st.remove, st.join,
		}
		if slices.Contains(about, ref) || st.empty() {
			continue
		}
		c.steps = append(c.steps, st)
	}
	return c
}

// empty tells whether nothing is left of a step.
func (st *step) empty() bool {
	return len(st.apply) == 0 && st.deploy+st.approve+st.reject+st.serve+st.stop+st.revoke+st.key == "" && st.remove == (model.Ref{}) && st.join == (model.Ref{})
}
