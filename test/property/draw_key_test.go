// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"encoding/json"
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

// keyedAPI is one that most callers reach who have a key.
const keyedAPI = "keyed"

// drawKeys draws an API that asks for keys, Products and Subscriptions, and issues
// keys for most.
func (d *draw) drawKeys() {
	k := d.keyDraw(0)
	g := pick(k, d.gateways...).Metadata.Name
	d.put(&model.API{Head: head(keyedAPI), Spec: model.APISpec{
		Gateway: g, Type: pick(k, model.Regional, model.Edge), OpenAPI: json.RawMessage(`"example:petstore"`), KeyRequired: true,
	}})
	st := &model.Stage{Head: head(keyedAPI + ".prod"), Spec: model.StageSpec{AutoDeploy: true}}
	switch k.IntN(6) {
	case 0:
		st.Spec.Throttle = &model.Throttle{}
	case 1:
		st.Spec.Throttle = &model.Throttle{Rate: 100_000}
	}
	d.put(st)
	products := [][]string{{keyedAPI}}
	for _, a := range d.apis {
		if slices.Contains(d.open, a) || !k.one(3) {
			continue // what leads to Backends is asked for without keys
		}
		a.Spec.KeyRequired = a.Spec.KeyRequired || k.one(3)
		if a.Spec.Gateway == g && k.one(2) {
			products[0] = append(products[0], a.Metadata.Name)
		} else {
			products = append(products, []string{a.Metadata.Name})
		}
	}
	for i, apis := range products {
		p := &model.Product{Head: head(fmt.Sprintf("p%d", i)), Spec: model.ProductSpec{APIs: apis}}
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

// keyFor draws whether question n comes with a key. Some are about the API that
// asks for one.
func (d *draw) keyFor(q *answer.Question, n uint64) {
	k := d.keyDraw(1 + n)
	if k.one(8) {
		*q = answer.Question{From: "internet/192.0.2.77", URL: "https://${API/" + keyedAPI + ".host}/prod/pets", Insecure: true}
		if k.one(4) {
			q.Headers = []answer.Header{{Name: "X-Api-Key", Value: "of nobody"}}
			return
		}
	}
	if len(d.keyed) > 0 && !k.one(3) {
		q.KeyOf = pick(k, d.keyed...)
	}
}
