// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// keyDraw draws what has to do with API keys from numbers of its own, so that
// nothing else is drawn differently.
func (d *draw) keyDraw(what uint64) *draw {
	return &draw{Rand: rand.New(rand.NewPCG(d.seed, 0x6b657973+what))}
}

// drawKeys draws Products and Subscriptions, and issues keys for most.
func (d *draw) drawKeys() {
	k := d.keyDraw(0)
	if !k.one(3) {
		return
	}
	for i := range 1 + k.IntN(2) {
		a := pick(k, d.apis...)
		if slices.Contains(d.open, a) {
			continue // what leads to Backends is asked for without keys
		}
		a.Spec.KeyRequired = a.Spec.KeyRequired || !k.one(4)
		p := &model.Product{Head: head(fmt.Sprintf("p%d", i)), Spec: model.ProductSpec{APIs: []string{a.Metadata.Name}}}
		for _, o := range d.apis {
			if o != a && o.Spec.Gateway == a.Spec.Gateway && k.one(3) {
				p.Spec.APIs = append(p.Spec.APIs, o.Metadata.Name)
			}
		}
		// What is left must not depend on how often was asked.
		switch k.IntN(5) {
		case 0:
			p.Spec.Throttle = &model.Throttle{}
		case 1:
			p.Spec.Throttle = &model.Throttle{Rate: 100_000, Burst: 100_000}
		case 2:
			p.Spec.Quota = &model.Quota{Limit: 1_000_000, Period: pick(k, model.PeriodDay, model.PeriodWeek, model.PeriodMonth)}
		}
		s := &model.Subscription{Head: head(fmt.Sprintf("s%d", i)), Spec: model.SubscriptionSpec{Product: p.Metadata.Name, Consumer: "somebody"}}
		d.put(p)
		d.put(s)
		if !k.one(6) {
			d.keyed = append(d.keyed, s.Metadata.Name)
		}
	}
}

// issued are the steps that issue the keys.
func (d *draw) issued() []step {
	var out []step
	for _, s := range d.keyed {
		out = append(out, step{key: s})
	}
	return out
}

// keyFor draws whether a question comes with a key: its number among questions
// is n.
func (d *draw) keyFor(q *answer.Question, n uint64) {
	if k := d.keyDraw(1 + n); len(d.keyed) > 0 && k.one(2) {
		q.KeyOf = pick(k, d.keyed...)
	}
}
