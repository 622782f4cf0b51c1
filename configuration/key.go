// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"slices"
	"time"

	"postern.dev/postern/model"
)

// keyed are the Products and Subscriptions of a Set.
type keyed struct {
	products      map[string][]*model.Product      // by API
	subscriptions map[string][]*model.Subscription // by Product
}

func readKeyed(set *model.Set) keyed {
	k := keyed{products: map[string][]*model.Product{}, subscriptions: map[string][]*model.Subscription{}}
	for _, p := range model.All[*model.Product](set) {
		for _, api := range p.Spec.APIs {
			k.products[api] = append(k.products[api], p)
		}
	}
	for _, s := range model.All[*model.Subscription](set) {
		if len(s.Status.Keys) > 0 {
			k.subscriptions[s.Spec.Product] = append(k.subscriptions[s.Spec.Product], s)
		}
	}
	return k
}

// keys adds what opens the assigned APIs: their Products, of which no more than
// the assigned APIs is told, and the Subscriptions that have keys, which are
// hashes. It reports whether there is any key.
func (c *collection) keys() (bool, error) {
	found := false
	var names []string
	for name := range c.assigned {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, p := range c.products[name] {
			if c.seen[model.RefOf(p)] {
				continue
			}
			c.seen[model.RefOf(p)] = true
			x, errs := model.Expand(p, c.set)
			if len(errs) > 0 {
				continue // a condition says so
			}
			n := model.Clone(x.(*model.Product))
			n.Spec.APIs = slices.DeleteFunc(n.Spec.APIs, func(a string) bool { return !c.assigned[a] })
			bare(n)
			r, err := newResource(n)
			if err != nil {
				return false, err
			}
			c.doc.Resources = append(c.doc.Resources, r)
			for _, s := range c.subscriptions[p.Metadata.Name] {
				found = true
				if err := c.add(s, hashes); err != nil {
					return false, err
				}
			}
		}
	}
	return found, nil
}

// hashes leaves of a Subscription what its keys are found by.
func hashes(o model.Object) {
	keys := o.Base().Status.Keys
	bare(o)
	for i := range keys {
		keys[i].Comment, keys[i].Created = "", time.Time{}
	}
	o.Base().Status.Keys = keys
	o.(*model.Subscription).Spec.Consumer = ""
}

// gateway adds the Gateway, with the secret of its keys if there are any.
func (c *collection) gateway(g *model.Gateway, keys bool) error {
	if !keys {
		return c.add(g, placeless)
	}
	x, errs := model.Expand(g, c.set)
	if len(errs) > 0 {
		return nil // as add does
	}
	n := model.Clone(x.(*model.Gateway))
	placeless(n)
	n.Status.KeySecret = g.Status.KeySecret
	r, err := newResource(n)
	if err != nil {
		return err
	}
	c.doc.Resources = append(c.doc.Resources, r)
	return nil
}
