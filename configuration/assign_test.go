// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package configuration_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/configuration"
	"postern.dev/postern/model"
)

func named(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }

func admit(t testing.TB, set *model.Set, objects ...model.Object) *model.Set {
	t.Helper()
	next, _, err := model.Admit(set, model.Change{Puts: objects}, model.Options{Deployments: true, Internet: netip.MustParsePrefix("198.18.0.0/15")})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func openAPI(uri string) []byte {
	return fmt.Appendf(nil, `{"openapi":"3.0.3","info":{"title":"t","version":"1"},"paths":{"/":{"get":{"x-amazon-apigateway-integration":{"type":"http_proxy","httpMethod":"GET","uri":%q}}}}}`, uri)
}

const pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"

func key(of string) model.Secret {
	return model.NewSecret("-----BEGIN PRIVATE KEY-----\n" + of + "\n-----END PRIVATE KEY-----\n")
}

// published is an API with a Stage that serves its first Deployment.
func published(name, uri string) []model.Object {
	spec := model.APISpec{Gateway: "corp", Type: model.Regional, OpenAPI: openAPI(uri), Path: name}
	saved := spec
	saved.OpenAPI = openAPI("http://draft-of-" + name)
	return []model.Object{
		&model.API{Head: named(name), Spec: saved},
		&model.Deployment{Head: named(name + ".1"), Spec: model.DeploymentSpec{API: name, Number: 1, Spec: spec}},
		&model.Stage{Head: named(name + ".prod"), Spec: model.StageSpec{Deployment: "1"}},
	}
}

// world has two SelfHostedGateways and things that neither is assigned.
func world(t testing.TB) *model.Set {
	t.Helper()
	os := []model.Object{
		&model.Network{Head: named("net"), Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}}},
		&model.SecurityGroup{Head: named("nsg"), Spec: model.SecurityGroupSpec{Network: "net"}},
		&model.Subnet{Head: named("gateways"), Spec: model.SubnetSpec{Network: "net", CIDR: "10.20.1.0/28"}},
		&model.Gateway{Head: named("corp"), Spec: model.GatewaySpec{Region: "eu", NetworkMode: model.ModeInternal, Subnet: "gateways", SecurityGroups: []string{"nsg"}}},
		&model.Backend{Head: named("stock"), Spec: model.BackendSpec{Network: "net", Targets: []model.Target{{Host: "stock.internal", Port: 8080}}}},
		&model.Backend{Head: named("vault"), Spec: model.BackendSpec{Targets: []model.Target{{Host: "vault.internal", Port: 8080}}}},
		&model.API{Head: named("hidden"), Spec: model.APISpec{Gateway: "corp", Type: model.Private, OpenAPI: openAPI("http://hidden")}},
		&model.Domain{Head: named("shop.example.com"), Spec: model.DomainSpec{
			Type: model.Regional, TLS: &model.DomainTLS{Certificate: pem, Key: key("key of the shop")},
			Mappings: []model.Mapping{{Path: "orders", API: "orders", Stage: "prod"}, {Path: "pay", API: "payments", Stage: "prod"}},
		}},
		&model.Domain{Head: named("pay.example.com"), Spec: model.DomainSpec{
			Type: model.Regional, TLS: &model.DomainTLS{Certificate: pem, Key: key("key of payments")},
			Mappings: []model.Mapping{{API: "payments", Stage: "prod"}},
		}},
		&model.Zone{Head: named("z"), Spec: model.ZoneSpec{Networks: []string{"net"}, Domain: "corp.example"}},
		&model.SelfHostedGateway{Head: named("shop"), Spec: model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"orders", "hidden"}}},
		&model.SelfHostedGateway{Head: named("bank"), Spec: model.SelfHostedGatewaySpec{Gateway: "corp", APIs: []string{"payments"}}},
	}
	os = append(os, published("orders", "backend://stock/v1")...)
	os = append(os, published("payments", "backend://vault/v1")...)
	return admit(t, model.NewSet(), os...)
}

func assign(t testing.TB, set *model.Set, name string, revision int64) *configuration.Document {
	t.Helper()
	d, err := configuration.Assign(set, name, configuration.Facts{Revision: revision, Base: model.DefaultBase})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func refs(d *configuration.Document) []string {
	out := []string{}
	for _, r := range d.Resources {
		out = append(out, r.Ref().String())
	}
	return out
}

func TestAGatewayIsAssignedWhatItServesAndNothingElse(t *testing.T) {
	set := world(t)
	d := assign(t, set, "shop", 7)
	want := []string{"API/orders", "Backend/stock", "Deployment/orders.1", "Domain/shop.example.com", "Gateway/corp", "Stage/orders.prod"}
	if diff := cmp.Diff(want, refs(d)); diff != "" {
		t.Error(diff)
	}
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"payments", "vault", "hidden", "pay.example.com", "draft-of", "nsg", "10.20.", "corp.example", "bank"} {
		if strings.Contains(string(data), secret) {
			t.Errorf("the document of shop tells of %s", secret)
		}
	}
	if !strings.Contains(string(data), "key of the shop") {
		t.Error("the key of its own Domain is missing")
	}
	s, err := d.Set()
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := model.Get[*model.Domain](s, "shop.example.com"); len(o.Spec.Mappings) != 1 || o.Spec.Mappings[0].API != "orders" {
		t.Errorf("mappings %+v", o.Spec.Mappings)
	}
	if b, _ := model.Get[*model.Backend](s, "stock"); b.Spec.Network != "" {
		t.Error("the Backend is still in a Network, which the gateway does not know")
	}
	was, _ := model.Get[*model.API](set, "orders")
	if a, _ := model.Get[*model.API](s, "orders"); a.Status.ID != was.Status.ID || a.Status.Host != was.Status.Host {
		t.Errorf("callers know the API as %s, but it is assigned as %s", was.Status.ID, a.Status.ID)
	}
}

func TestSavingADraftChangesNothingForGateways(t *testing.T) {
	set := world(t)
	a, _ := model.Get[*model.API](set, "orders")
	a = model.Clone(a)
	a.Spec.OpenAPI = openAPI("http://another-draft")
	a.Metadata.Labels = map[string]string{"seen": "yes"}
	if before, after := assign(t, set, "shop", 7), assign(t, admit(t, set, a), "shop", 8); before.Hash() != after.Hash() {
		t.Error("the hash has moved")
	}
}

func TestAReferenceTravelsAsWhatItStandsFor(t *testing.T) {
	set := world(t)
	b, _ := model.Get[*model.Backend](set, "stock")
	b = model.Clone(b)
	b.Spec.Targets[0].Host = "${Gateway/corp.address}"
	s, err := assign(t, admit(t, set, b), "shop", 8).Set()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := model.Get[*model.Backend](s, "stock"); b.Spec.Targets[0].Host != "10.20.1.4" {
		t.Errorf("it dials %s", b.Spec.Targets[0].Host)
	}
}

func TestWhatStaysIsNotEncodedAgainAndTheSame(t *testing.T) {
	set := world(t)
	f := configuration.Facts{Revision: 7, Base: model.DefaultBase}
	before := configuration.Read(set, f, nil)
	if _, err := before.Document("shop"); err != nil {
		t.Fatal(err)
	}
	d, err := configuration.Read(set, f, before).Document("shop")
	if err != nil {
		t.Fatal(err)
	}
	if fresh := assign(t, set, "shop", 7); fresh.Hash() != d.Hash() {
		t.Error("what was remembered differs from what is made afresh")
	}
}

func TestNobodyIsAssignedNothing(t *testing.T) {
	if _, err := configuration.Assign(world(t), "absent", configuration.Facts{}); err == nil {
		t.Error("a gateway that does not exist is assigned something")
	}
}

// TestTheProxiesInFrontAreTrustedEverywhere: they stand in front of self-hosted
// gateways too.
func TestTheProxiesInFrontAreTrustedEverywhere(t *testing.T) {
	set := world(t)
	g, ok := model.Get[*model.Gateway](set, "corp")
	if !ok {
		t.Fatal("there is no Gateway")
	}
	g = model.Clone(g)
	g.Spec.TrustedProxies = []string{"192.0.2.8/29"}
	data, err := assign(t, admit(t, set, g), "shop", 7).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"trustedProxies":["192.0.2.8/29"]`) {
		t.Errorf("the document does not tell of them: %s", data)
	}
}
