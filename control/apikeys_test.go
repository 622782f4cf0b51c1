// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/compile"
	"postern.dev/postern/configuration"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/key"
)

const subscribed = `
apiVersion: postern/v1
kind: Gateway
metadata: {name: keyed}
spec: {region: eu-1}
---
apiVersion: postern/v1
kind: API
metadata: {name: pets}
spec: {gateway: keyed, type: regional, openapi: example:petstore, keyRequired: true}
---
apiVersion: postern/v1
kind: Stage
metadata: {name: pets.prod}
spec: {autoDeploy: true}
---
apiVersion: postern/v1
kind: Product
metadata: {name: basic}
spec: {apis: [pets], throttle: {rate: 10}}
---
apiVersion: postern/v1
kind: Subscription
metadata: {name: checkout}
spec: {product: basic, consumer: checkout}
---
apiVersion: postern/v1
kind: Subscription
metadata: {name: returns}
spec: {product: basic, consumer: returns}
`

func keyedPlane(t *testing.T) *plane {
	p := newPlane(t)
	if _, err := p.client(p.admin).Apply(t.Context(), read(t, subscribed), false); err != nil {
		t.Fatal(err)
	}
	return p
}

// opens tells whose key a value is for those who serve.
func (p *plane) opens(value string) string {
	if k := p.served.Load().Gateways["keyed"].Keys.Find(value); k != nil {
		return k.Subscription.Name
	}
	return ""
}

func TestAKeyIsShownOnceAndKeptAsAHash(t *testing.T) {
	p := keyedPlane(t)
	c := p.client(p.admin)
	a, err := c.CreateKey(t.Context(), "checkout", wire.NewKey{Comment: "for the tests"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.CreateKey(t.Context(), "returns", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	if key.Check(a.Value) != nil || a.Value == b.Value || a.ID == b.ID || a.Subscription != "checkout" || a.Product != "basic" || a.Comment != "for the tests" || a.Created.IsZero() {
		t.Errorf("%+v, %+v", a, b)
	}
	if p.opens(a.Value) != "checkout" || p.opens(b.Value) != "returns" || p.opens(a.Value+"x") != "" {
		t.Errorf("they open %q and %q", p.opens(a.Value), p.opens(b.Value))
	}
	// Nothing that can be read, nor what is stored, holds the key; and what is
	// shown does not hold the hash either.
	set := p.opts.Registry.Head().Set
	g, _ := model.Get[*model.Gateway](set, "keyed")
	s, _ := model.Get[*model.Subscription](set, "checkout")
	hash, secret := s.Status.Keys[0].Hash.Reveal(), g.Status.KeySecret.Reveal()
	if len(hash) != 64 || len(secret) != 64 {
		t.Fatalf("%q, %q", hash, secret)
	}
	for _, o := range []model.Object{g, s} {
		stored, err := model.EncodeStored(o)
		if err != nil || strings.Contains(string(stored), a.Value) {
			t.Errorf("%s is stored with the key: %v", model.RefOf(o), err)
		}
	}
	for _, path := range []string{"/v1/keys", "/v1/subscriptions/checkout", "/v1/gateways/keyed", "/v1/subscriptions"} {
		r := p.call("GET", path, p.admin, "")
		for what, text := range map[string]string{"the key": a.Value, "its hash": hash, "the secret": secret} {
			if r.Code != http.StatusOK || strings.Contains(r.Body.String(), text) {
				t.Errorf("%s: %d, %s is shown", path, r.Code, what)
			}
		}
	}
	if strings.Contains(p.log.String(), a.Value) {
		t.Error("the key is in the log")
	}
	list, err := c.Keys(t.Context())
	for i := range list { // beside what was issued, it says what the key may
		if th := list[i].Throttle; th == nil || th.Rate != 10 || th.Left != nil || list[i].Quota != nil {
			t.Errorf("%+v", list[i])
		}
		list[i].Throttle = nil
	}
	if err != nil || len(list) != 2 || list[0] != a.Key || list[1] != b.Key {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.RevokeKey(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if p.opens(a.Value) != "" || p.opens(b.Value) != "returns" {
		t.Error("revoking one did not end that one alone")
	}
	if err := c.RevokeKey(t.Context(), a.ID); errorKind(err) != model.NotFound {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestAKeyThatWasMadeElsewhereIsTakenOnce(t *testing.T) {
	p := keyedPlane(t)
	c := p.client(p.admin)
	value := strings.Repeat("Ab1", 10)
	if _, err := c.CreateKey(t.Context(), "checkout", wire.NewKey{Value: value}); err != nil {
		t.Fatal(err)
	}
	if p.opens(value) != "checkout" {
		t.Error("it does not open")
	}
	for _, n := range []struct {
		to, value string
		kind      model.ErrorKind
	}{
		{"returns", value, model.Conflict},
		{"returns", "short", model.Invalid},
		{"returns", strings.Repeat("-", 30), model.Invalid},
		{"nobody", "", model.NotFound},
	} {
		if _, err := c.CreateKey(t.Context(), n.to, wire.NewKey{Value: n.value}); errorKind(err) != n.kind {
			t.Errorf("%+v: %v", n, err)
		}
	}
	if _, err := c.CreateKey(t.Context(), "checkout", wire.NewKey{Comment: strings.Repeat("x", 300)}); errorKind(err) != model.Invalid {
		t.Errorf("a long comment: %v", err)
	}
}

func TestKeysAreThePublishersAffair(t *testing.T) {
	p := keyedPlane(t)
	publisher, viewer := p.client(p.token(token.Publisher, "")), p.client(p.token(token.Viewer, ""))
	made, err := publisher.CreateKey(t.Context(), "checkout", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := viewer.Keys(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := viewer.CreateKey(t.Context(), "checkout", wire.NewKey{}); errorKind(err) != model.Denied {
		t.Errorf("a viewer issues a key: %v", err)
	}
	if err := viewer.RevokeKey(t.Context(), made.ID); errorKind(err) != model.Denied {
		t.Errorf("a viewer revokes a key: %v", err)
	}
	if err := publisher.RevokeKey(t.Context(), made.ID); err != nil {
		t.Error(err)
	}
}

func TestNobodyBringsKeysInAManifest(t *testing.T) {
	p := keyedPlane(t)
	c := p.client(p.admin)
	made, err := c.CreateKey(t.Context(), "checkout", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := model.Get[*model.Subscription](p.opts.Registry.Head().Set, "checkout")
	forged := model.Clone(s)
	forged.Metadata.Name, forged.Status.ID = "forged", ""
	changed := model.Clone(s)
	changed.Spec.Consumer, changed.Status.Keys = "somebody else", nil
	if _, err := c.Apply(t.Context(), []model.Object{forged, changed}, false); err != nil {
		t.Fatal(err)
	}
	set := p.opts.Registry.Head().Set
	if s, _ := model.Get[*model.Subscription](set, "forged"); len(s.Status.Keys) != 0 {
		t.Errorf("a manifest brought %+v", s.Status.Keys)
	}
	if s, _ := model.Get[*model.Subscription](set, "checkout"); len(s.Status.Keys) != 1 || s.Spec.Consumer != "somebody else" {
		t.Errorf("a manifest took keys away: %+v", s)
	}
	if p.opens(made.Value) != "checkout" {
		t.Error("the key does not open any longer")
	}
}

func TestKeysThatAreIssuedAtOnceAllOpen(t *testing.T) {
	p := keyedPlane(t)
	c := p.client(p.admin)
	values := make([]string, 12)
	var all sync.WaitGroup
	for i := range values {
		all.Go(func() {
			made, err := c.CreateKey(t.Context(), []string{"checkout", "returns"}[i%2], wire.NewKey{})
			if err != nil {
				t.Error(err)
			}
			values[i] = made.Value
		})
	}
	all.Wait()
	for i, v := range values {
		if got := p.opens(v); got != []string{"checkout", "returns"}[i%2] {
			t.Errorf("key %d is of %q", i, got)
		}
	}
}

func TestASubscriptionHasSoManyKeysAndNoMore(t *testing.T) {
	p := keyedPlane(t)
	_, err := p.opts.Registry.Update(t.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		s, _ := model.Get[*model.Subscription](h.Set, "checkout")
		s = model.Clone(s)
		for i := range model.MaxKeys {
			s.Status.Keys = append(s.Status.Keys, model.IssuedKey{ID: string(rune('a'+i%26)) + string(rune('a'+i/26))})
		}
		return put(s), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.client(p.admin).CreateKey(t.Context(), "checkout", wire.NewKey{}); errorKind(err) != model.Conflict {
		t.Errorf("one more: %v", err)
	}
}

func TestASelfHostedGatewayKnowsTheKeysOfWhatItIsAssigned(t *testing.T) {
	p := keyedPlane(t)
	c := p.client(p.admin)
	made, err := c.CreateKey(t.Context(), "checkout", wire.NewKey{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Apply(t.Context(), read(t, `
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: shop}
spec: {gateway: keyed, apis: [pets]}
---
apiVersion: postern/v1
kind: SelfHostedGateway
metadata: {name: idle}
spec: {gateway: keyed}
`), false)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"shop": true, "idle": false} {
		d, err := configuration.Assign(p.opts.Registry.Head().Set, name, configuration.Facts{Revision: 1, Base: base})
		if err != nil {
			t.Fatal(err)
		}
		set, err := d.Set()
		if err != nil {
			t.Fatal(err)
		}
		g := new(compile.Compiler).Compile(set, compile.Options{Base: base}).Snapshot.Gateways["keyed"]
		k := g.Keys.Find(made.Value)
		if (k != nil) != want || want && (k.ID != made.ID || !k.Subscription.Product.APIs[g.APIs[apiID(set)]] || k.Subscription.Product.Throttle.Rate != 10) {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

func apiID(set *model.Set) string {
	a, ok := model.Get[*model.API](set, "pets")
	if !ok {
		return ""
	}
	return a.Status.ID
}
