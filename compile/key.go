// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/key"
)

// meter names something that is counted and returns its place.
func (b *build) meter(name string) int {
	b.out.Meters = append(b.out.Meters, name)
	return len(b.out.Meters) - 1
}

func throttle(t *model.Throttle) *snapshot.Throttle {
	if t == nil {
		return nil
	}
	return &snapshot.Throttle{Rate: t.Rate, Burst: t.Burst, Interval: t.Interval()}
}

// subscriptions compiles Products, Subscriptions and the keys that were issued.
func (b *build) subscriptions() {
	products := map[string]*snapshot.Product{}
	for _, p := range all[*model.Product](b) {
		products[p.Metadata.Name] = b.product(p)
	}
	b.out.Subscriptions = map[string]*snapshot.Subscription{}
	for _, s := range all[*model.Subscription](b) {
		p := products[s.Spec.Product]
		if p == nil {
			b.absent(s, "spec.product", model.KindProduct, s.Spec.Product)
			continue
		}
		x := &snapshot.Subscription{Name: s.Metadata.Name, Consumer: s.Spec.Consumer, Product: p}
		p.Subscriptions = append(p.Subscriptions, x)
		b.out.Subscriptions[x.Name] = x
		b.keys(s, x)
	}
	for _, a := range all[*model.API](b) {
		x := b.out.APIs[a.Metadata.Name]
		if x != nil && asksForKey(x) && !slices.ContainsFunc(x.Products, func(p *snapshot.Product) bool { return len(p.Subscriptions) > 0 }) {
			b.advice(a, "NoSubscription", "calls need an API key, and no Subscription has one for the API; make a Product with it, a Subscription, and run: postern key create SUBSCRIPTION")
		}
	}
}

func (b *build) product(p *model.Product) *snapshot.Product {
	x := &snapshot.Product{Name: p.Metadata.Name, APIs: map[*snapshot.API]bool{}, Throttle: throttle(p.Spec.Throttle)}
	if q := p.Spec.Quota; q != nil {
		x.Quota = &snapshot.Quota{Limit: int64(q.Limit), Period: q.Period}
	}
	var open []string
	for i, name := range p.Spec.APIs {
		a := b.out.APIs[name]
		if a == nil {
			b.advice(p, "APINotReady", fmt.Sprintf("spec.apis[%d]: API/%s is absent or not ready; look at its conditions", i, name))
			continue
		}
		x.APIs[a] = true
		a.Products = append(a.Products, x)
		if deployed(a) && !asksForKey(a) {
			open = append(open, "API/"+name)
		}
	}
	if len(open) > 0 {
		b.advice(p, "NoKeyRequired", strings.Join(open, ", ")+": calls need no API key, so neither throttle nor quota holds for them; set keyRequired: true and deploy")
	}
	return x
}

// asksForKey tells whether any operation of a that is served needs a key.
func asksForKey(a *snapshot.API) bool {
	for _, s := range a.Stages {
		if s.Deployment != nil && s.Deployment.Operations.Keyed {
			return true
		}
	}
	return false
}

// keys adds what was issued for a Subscription to the table of its Gateway.
func (b *build) keys(s *model.Subscription, x *snapshot.Subscription) {
	if len(s.Status.Keys) == 0 {
		return
	}
	var g *snapshot.Gateway
	for a := range x.Product.APIs {
		g = a.Gateway // they are all of one
		break
	}
	if g == nil {
		return // there is nothing to open, which the Product's conditions say
	}
	var dead []string
	for _, k := range s.Status.Keys {
		sum, err := key.ParseSum(k.Hash.Reveal())
		if err != nil || k.Gateway != g.ID || !b.secret(g) {
			dead = append(dead, k.ID)
			continue
		}
		y := &snapshot.Key{ID: k.ID, Subscription: x, Meter: snapshot.NoMeter}
		if !g.Keys.Add(sum, y) {
			dead = append(dead, k.ID)
			continue
		}
		if p := x.Product; p.Throttle != nil || p.Quota != nil {
			period := ""
			if p.Quota != nil {
				period = p.Quota.Period
			}
			y.Meter = b.meter(snapshot.KeyMeter(k.ID, period))
		}
	}
	if len(dead) > 0 {
		b.advice(s, "KeyNotValid", "the keys "+strings.Join(dead, ", ")+" were issued for another Gateway than that of the Product's APIs, and open nothing; run: postern key create "+x.Name)
	}
}

// secret gives a Gateway its table of keys, and reports whether it has one.
func (b *build) secret(g *snapshot.Gateway) bool {
	if g.Keys != nil {
		return true
	}
	m, ok := get[*model.Gateway](b, g.Name)
	if !ok {
		return false
	}
	secret, err := key.ParseSecret(m.Status.KeySecret.Reveal())
	if err != nil {
		return false
	}
	g.Keys = snapshot.NewKeys(secret)
	return true
}
