// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"strings"
	"testing"
	"time"

	"postern.dev/postern/model"
)

// sites is a Set with what a SelfHostedGateway may name.
func sites(t *testing.T) *model.Set {
	t.Helper()
	api := func(name, gateway string) model.Object {
		return &model.API{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: model.APISpec{Gateway: gateway, Type: model.Regional, OpenAPI: []byte(`"example:petstore"`)}}
	}
	gateway := func(name string) model.Object {
		return &model.Gateway{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: model.GatewaySpec{Region: "eu"}}
	}
	next, _, err := model.Admit(model.NewSet(), model.Change{Puts: []model.Object{gateway("corp"), gateway("other"), api("orders", "corp"), api("stock", "other")}}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestSelfHostedGatewayIsJudged(t *testing.T) {
	set := sites(t)
	f := func(name string, spec model.SelfHostedGatewaySpec, want string) {
		t.Helper()
		g := &model.SelfHostedGateway{Head: model.Head{Metadata: model.Metadata{Name: name}}, Spec: spec}
		next, _, err := model.Admit(set, model.Change{Puts: []model.Object{g}}, model.Options{})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s %+v: %v", name, spec, err)
		case want == "":
			if o, _ := model.Get[*model.SelfHostedGateway](next, name); !strings.HasPrefix(o.Status.ID, "shg-") {
				t.Errorf("%s has the id %q", name, o.Status.ID)
			}
		case err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%s %+v: got %v, want %q", name, spec, err, want)
		}
	}
	f("shop", model.SelfHostedGatewaySpec{Gateway: "corp"}, "")
	f("shop", model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"orders"}, Location: "Ulm"}, "")
	f("shop", model.SelfHostedGatewaySpec{}, "spec.gateway")
	f("shop", model.SelfHostedGatewaySpec{Gateway: "absent"}, `no Gateway "absent"`)
	f("shop", model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"stock"}}, `on Gateway "other"`)
	f("shop", model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"orders", "orders"}}, "already")
	f("shop", model.SelfHostedGatewaySpec{Gateway: "corp", Attach: "subnet/a"}, "host/NAME")
	f("shop", model.SelfHostedGatewaySpec{Gateway: "corp", Attach: "link/berlin"}, `no Link "berlin"`)
	f("managed", model.SelfHostedGatewaySpec{Gateway: "corp"}, "another name")
}

func TestWhatASelfHostedGatewayNamesIsKept(t *testing.T) {
	set := sites(t)
	g := &model.SelfHostedGateway{Head: model.Head{Metadata: model.Metadata{Name: "shop"}}, Spec: model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"orders"}}}
	set, _, err := model.Admit(set, model.Change{Puts: []model.Object{g}}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []model.Ref{{Kind: model.KindGateway, Name: "corp"}, {Kind: model.KindAPI, Name: "orders"}} {
		if _, _, err := model.Admit(set, model.Change{Deletes: []model.Ref{ref}}, model.Options{}); err == nil || !strings.Contains(err.Error(), "SelfHostedGateway/shop") {
			t.Errorf("%s is deleted: %v", ref, err)
		}
	}
}

func TestInstancesOfASelfHostedGatewayAreNotBelieved(t *testing.T) {
	g := &model.SelfHostedGateway{Head: model.Head{Metadata: model.Metadata{Name: "shop"}}, Spec: model.SelfHostedGatewaySpec{Gateway: "corp"}}
	g.Status.Instances = []model.Instance{{Name: "a", Seen: time.Unix(1, 0).UTC()}}
	data, err := model.Encode(g)
	if err != nil {
		t.Fatal(err)
	}
	o, err := model.Decode(data)
	if err != nil || !model.Equal(g, o) {
		t.Fatalf("read back %s: %v", data, err)
	}
	next, _, err := model.Admit(sites(t), model.Change{Puts: []model.Object{o}}, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := model.Get[*model.SelfHostedGateway](next, "shop"); len(n.Status.Instances) > 0 {
		t.Errorf("they are stored: %+v", n.Status.Instances)
	}
}

func TestSelfHostedIsShortForTheKind(t *testing.T) {
	for _, s := range []string{"selfhosted", "SelfHosted", "selfhostedgateway", "selfhostedgateways", "SelfHostedGateway"} {
		if k, ok := model.ParseKind(s); !ok || k != model.KindSelfHosted {
			t.Errorf("%s: %s %v", s, k, ok)
		}
	}
}
