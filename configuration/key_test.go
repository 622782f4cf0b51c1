// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
)

// subscribed is world with a Product for both gateways, one for the bank's
// alone, and a key of each.
func subscribed(t testing.TB) *model.Set {
	t.Helper()
	set := admit(
		t, world(t),
		&model.Product{Head: named("both"), Spec: model.ProductSpec{APIs: []string{"orders", "payments"}, Throttle: &model.Throttle{Rate: 5}}},
		&model.Product{Head: named("money"), Spec: model.ProductSpec{APIs: []string{"payments"}}},
		&model.Subscription{Head: named("partner"), Spec: model.SubscriptionSpec{Product: "both", Consumer: "somebody@example.com"}},
		&model.Subscription{Head: named("idle"), Spec: model.SubscriptionSpec{Product: "both", Consumer: "nobody"}},
		&model.Subscription{Head: named("insider"), Spec: model.SubscriptionSpec{Product: "money", Consumer: "somebody"}},
	)
	g, _ := model.Get[*model.Gateway](set, "corp")
	g = model.Clone(g)
	g.Status.KeySecret = model.NewSecret("the secret of corp")
	puts := []model.Object{g}
	for _, name := range []string{"partner", "insider"} {
		s, _ := model.Get[*model.Subscription](set, name)
		s = model.Clone(s)
		s.Status.Keys = []model.IssuedKey{{ID: "id-of-" + name, Comment: "comment", Created: time.Unix(1e9, 0).UTC(), Gateway: g.Status.ID, Hash: model.NewSecret("hash of " + name)}}
		puts = append(puts, s)
	}
	next, _, err := model.Admit(set, model.Change{Puts: puts}, model.Options{Deployments: true, Server: true})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAGatewayIsSentTheKeysOfWhatItServes(t *testing.T) {
	set := subscribed(t)
	d := assign(t, set, "shop", 7)
	for _, want := range []string{"Product/both", "Subscription/partner"} {
		if !slices.Contains(refs(d), want) {
			t.Errorf("%s is missing: %v", want, refs(d))
		}
	}
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, secret := range []string{"payments", "money", "insider", "idle", "somebody@", "comment", "2001-"} {
		if strings.Contains(text, secret) {
			t.Errorf("the document of shop tells of %s", secret)
		}
	}
	for _, needed := range []string{"hash of partner", "the secret of corp", "id-of-partner"} {
		if !strings.Contains(text, needed) {
			t.Errorf("the document of shop does not tell of %s", needed)
		}
	}
	s, err := d.Set()
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := model.Get[*model.Product](s, "both"); !slices.Equal(p.Spec.APIs, []string{"orders"}) || p.Spec.Throttle == nil {
		t.Errorf("%+v", p.Spec)
	}
	before := configuration.Read(set, configuration.Facts{Revision: 7, Base: model.DefaultBase}, nil)
	for _, name := range []string{"bank", "shop", "bank"} {
		again, err := before.Document(name)
		if err != nil {
			t.Fatal(err)
		}
		if again.Hash() != assign(t, set, name, 7).Hash() {
			t.Errorf("what %s is assigned depends on who was asked for before", name)
		}
	}
}

func TestASecretThatNoKeyNeedsStays(t *testing.T) {
	set := subscribed(t)
	next, _, err := model.Admit(set, model.Change{Deletes: []model.Ref{{Kind: model.KindSubscription, Name: "partner"}}}, model.Options{Server: true})
	if err != nil {
		t.Fatal(err)
	}
	data, err := assign(t, next, "shop", 8).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "the secret of corp") {
		t.Error("the secret travels, though no key does")
	}
}
