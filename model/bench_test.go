// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"postern.dev/postern/model"
)

// large returns a Set of n APIs with a Stage each, and n/2 Hosts in 20 Subnets.
func large(tb testing.TB, n int) *model.Set {
	var puts []model.Object
	head := func(name string) model.Head { return model.Head{Metadata: model.Metadata{Name: name}} }
	puts = append(puts, &model.Network{Head: head("corp"), Spec: model.NetworkSpec{CIDRs: []string{"10.0.0.0/8"}}},
		&model.SecurityGroup{Head: head("web"), Spec: model.SecurityGroupSpec{Network: "corp", Rules: []model.Rule{{Direction: "inbound", Ports: []string{"443"}}}}},
		&model.Gateway{Head: head("gw"), Spec: model.GatewaySpec{Region: "eu-1"}})
	for i := range 20 {
		puts = append(puts, &model.Subnet{Head: head(fmt.Sprintf("s%d", i)), Spec: model.SubnetSpec{Network: "corp", CIDR: fmt.Sprintf("10.%d.0.0/16", i)}})
	}
	doc := json.RawMessage(fmt.Sprintf(`{"openapi":"3.0.3","info":{"title":"t","version":"1","description":%q},"paths":{}}`, strings.Repeat("x", 500)))
	for i := range n {
		puts = append(puts, &model.API{Head: head(fmt.Sprintf("api%d", i)), Spec: model.APISpec{Gateway: "gw", Type: "regional", OpenAPI: doc, Path: fmt.Sprintf("/a%d", i)}},
			&model.Stage{Head: head(fmt.Sprintf("api%d.prod", i)), Spec: model.StageSpec{AutoDeploy: true}})
	}
	for i := range n / 2 {
		puts = append(puts, &model.Host{Head: head(fmt.Sprintf("h%d", i)), Spec: model.HostSpec{Subnet: fmt.Sprintf("s%d", i%20), SecurityGroups: []string{"web"}}})
	}
	s, _, err := model.Admit(model.NewSet(), model.Change{Puts: puts}, model.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func BenchmarkAdmit(b *testing.B) {
	s := large(b, 10_000)
	for name, change := range map[string]func(i int) model.Change{
		"host": func(i int) model.Change {
			return model.Change{Puts: []model.Object{&model.Host{Head: model.Head{Metadata: model.Metadata{Name: fmt.Sprintf("new%d", i)}}, Spec: model.HostSpec{Subnet: "s1"}}}}
		},
		"api": func(i int) model.Change {
			a, _ := model.Get[*model.API](s, fmt.Sprintf("api%d", i%10_000))
			c := model.Clone(a)
			c.Spec.KeyRequired = !c.Spec.KeyRequired
			return model.Change{Puts: []model.Object{c}}
		},
		"delete": func(i int) model.Change {
			return model.Change{Deletes: []model.Ref{{Kind: model.KindHost, Name: fmt.Sprintf("h%d", i%5_000)}}}
		},
		"group": func(i int) model.Change {
			g, _ := model.Get[*model.SecurityGroup](s, "web")
			c := model.Clone(g)
			c.Spec.Rules[0].Priority = i%100 + 1
			return model.Change{Puts: []model.Object{c}}
		},
	} {
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				if _, _, err := model.Admit(s, change(i), model.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAdmitAll(b *testing.B) {
	for range b.N {
		large(b, 10_000)
	}
}
