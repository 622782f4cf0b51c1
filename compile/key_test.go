// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/key"
)

// keyedSet is an API that asks for keys, one that does not, and Subscriptions.
func keyedSet(more ...model.Object) []model.Object {
	api := func(name string, keyed bool) model.Object {
		return &model.API{Head: named(name), Spec: model.APISpec{Gateway: "main", Type: model.Regional, OpenAPI: []byte(`"example:petstore"`), KeyRequired: keyed}}
	}
	stage := func(name string, t *model.Throttle) model.Object {
		return &model.Stage{Head: named(name), Spec: model.StageSpec{Deployment: model.Latest, Throttle: t}}
	}
	return append(
		[]model.Object{
			&model.Gateway{Head: named("main"), Spec: model.GatewaySpec{Region: "eu-1"}},
			api("keyed", true), api("open", false), api("alone", true),
			stage("keyed.prod", &model.Throttle{Rate: 4}), stage("open.prod", nil), stage("alone.prod", nil),
			&model.Product{Head: named("basic"), Spec: model.ProductSpec{
				APIs: []string{"keyed", "open"}, Throttle: &model.Throttle{Rate: 2.5}, Quota: &model.Quota{Limit: 7, Period: model.PeriodDay},
			}},
			&model.Subscription{Head: named("checkout"), Spec: model.SubscriptionSpec{Product: "basic", Consumer: "them"}},
		}, more...,
	)
}

func TestProductsAreToldWhatTheyDoInVain(t *testing.T) {
	r := compiled(t, keyedSet()...)
	f := func(ref model.Ref, want ...string) {
		t.Helper()
		var got []string
		for _, c := range r.Conditions[ref] {
			got = append(got, c.Reason)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", ref, got, want)
		}
	}
	f(model.Ref{Kind: model.KindProduct, Name: "basic"}, "NoKeyRequired")
	f(model.Ref{Kind: model.KindAPI, Name: "keyed"})
	f(model.Ref{Kind: model.KindAPI, Name: "alone"}, "NoSubscription")
	f(model.Ref{Kind: model.KindSubscription, Name: "checkout"})
	s := r.Snapshot
	p := s.Subscriptions["checkout"].Product
	if p.Throttle.Rate != 2.5 || p.Throttle.Burst != 3 || p.Throttle.Interval != 4e8 || p.Quota.Limit != 7 || !p.APIs[s.APIs["open"]] || p.APIs[s.APIs["alone"]] {
		t.Errorf("%+v, %+v", p, p.Throttle)
	}
	st := s.APIs["keyed"].Stages["prod"]
	if st.Throttle.Burst != 4 || st.Qualified != "keyed.prod" || !strings.HasSuffix(s.Meters[st.Meter], "/prod") || s.APIs["open"].Stages["prod"].Meter >= 0 {
		t.Errorf("%+v, %v", st, s.Meters)
	}
}

func TestKeysOfAnotherGatewayOpenNothing(t *testing.T) {
	secret, text, err := key.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	issued := func(id, gateway, value string) model.IssuedKey {
		sum, _ := secret.Hash(value)
		return model.IssuedKey{ID: id, Gateway: gateway, Hash: model.NewSecret(sum.String())}
	}
	const gateway, good, moved = "gw-00000000000000001", "goodgoodgoodgoodgood", "movedmovedmovedmoved"
	os := keyedSet()
	for _, o := range os {
		switch o := o.(type) {
		case *model.Gateway:
			o.Status.ID, o.Status.KeySecret = gateway, model.NewSecret(text)
		case *model.Subscription:
			o.Status.Keys = []model.IssuedKey{
				issued("good", gateway, good), issued("moved", "gw-00000000000000002", moved),
				issued("again", gateway, good),
				{ID: "broken", Gateway: gateway, Hash: model.NewSecret("?")},
			}
		}
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: os}, model.Options{Server: true})
	if err != nil {
		t.Fatal(err)
	}
	r := new(compile.Compiler).Compile(set, options)
	g := r.Snapshot.Gateways["main"]
	k := g.Keys.Find(good)
	if k == nil || k.ID != "good" || r.Snapshot.Meters[k.Meter] != "Key/good/day" || g.Keys.Find(moved) != nil || g.Keys.Len() != 1 {
		t.Errorf("%+v, %d keys", k, g.Keys.Len())
	}
	cs := r.Conditions[model.Ref{Kind: model.KindSubscription, Name: "checkout"}]
	if len(cs) != 1 || cs[0].Reason != "KeyNotValid" || !strings.Contains(cs[0].Message, "moved, again, broken") {
		t.Errorf("%+v", cs)
	}
}
