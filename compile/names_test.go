// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"postern.dev/postern/decide/name"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// api is a public API with a Stage.
func api(of, gateway string) []model.Object {
	return []model.Object{
		&model.API{Head: named(of), Spec: model.APISpec{Gateway: gateway, Type: model.Regional, OpenAPI: json.RawMessage(`"example:petstore"`)}},
		&model.Stage{Head: named(of + ".prod"), Spec: model.StageSpec{Deployment: model.Latest}},
	}
}

func domain(of, api string) model.Object {
	return &model.Domain{Head: named(of), Spec: model.DomainSpec{Type: model.Regional, Mappings: []model.Mapping{{API: api, Stage: "prod"}}}}
}

func TestNamesOfAnInjectedGatewayHideNoOthersInItsNetwork(t *testing.T) {
	// Each of these Gateways is called what stands in the names of others.
	objects := []model.Object{
		&model.Network{Head: named("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.20.0.0/16"}, InternetGateway: true}},
		&model.Subnet{Head: named("one"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.1.0/28"}},
		&model.Subnet{Head: named("two"), Spec: model.SubnetSpec{Network: "corp", CIDR: "10.20.2.0/28"}},
		&model.Gateway{Head: named("management"), Spec: model.GatewaySpec{Region: "eu-1", NetworkMode: model.ModeExternal, Subnet: "one"}},
		&model.Gateway{Head: named("eu-1"), Spec: model.GatewaySpec{Region: "eu-1", NetworkMode: model.ModeExternal, Subnet: "two"}},
		&model.Gateway{Head: named("other"), Spec: model.GatewaySpec{Region: "eu-1"}},
		domain("*.example.com", "near"), domain("api.example.com", "far"), domain("a.b.example.com", "far"),
	}
	objects = append(objects, api("near", "management")...)
	objects = append(objects, api("far", "other")...)
	s := compiled(t, objects...).Snapshot
	other, node := s.Gateways["other"].Public[0], s.Gateways["management"].Nodes[0].Addr
	for host, want := range map[string]netip.Addr{
		"other.management.postern.internal":      other,
		"management.management.postern.internal": node,
		s.APIs["far"].Host:                       other,
		s.APIs["near"].Host:                      node,
		"x.example.com":                          node,
		"api.example.com":                        other,
		"a.b.example.com":                        other,
	} {
		v := name.Resolve(s, name.View(s, s.Networks["corp"]), host, snapshot.TypeA)
		if len(v.Addrs) != 1 || v.Addrs[0] != want {
			t.Errorf("%s is at %v, not %s", host, v.Addrs, want)
		}
	}
	// A wildcard is served one label deep, and holds nothing else.
	for _, host := range []string{"example.com", "c.d.example.com"} {
		if v := name.Resolve(s, name.View(s, s.Networks["corp"]), host, snapshot.TypeA); !v.Forward {
			t.Errorf("%s, which is nobody's here, is kept from the forwarders: %+v", host, v)
		}
	}
}
