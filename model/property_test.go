// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.dev/postern/model"
)

// world makes random resources with few names and often wrong values, so that
// they refer to each other and clash.
type world struct{ *rand.Rand }

func (w world) of(list ...string) string { return list[w.IntN(len(list))] }

// name is one of few, sometimes one that is never there.
func (w world) name(prefix string) string {
	if w.IntN(30) == 0 {
		return prefix + "-absent"
	}
	return fmt.Sprintf("%s%d", prefix, w.IntN(3))
}

func (w world) names(prefix string) []string {
	var out []string
	for range w.IntN(3) {
		if n := w.name(prefix); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (w world) object() model.Object {
	k := model.Kinds[w.IntN(len(model.Kinds))]
	o := model.New(k)
	prefix := map[model.Kind]string{
		model.KindNetwork: "n", model.KindSubnet: "s", model.KindSecurityGroup: "g", model.KindHost: "h", model.KindLink: "l",
		model.KindPeering: "p", model.KindGateway: "w", model.KindEndpoint: "e", model.KindBackend: "b", model.KindAPI: "a", model.KindZone: "z", model.KindAuthorization: "t", model.KindSelfHosted: "o",
	}[k]
	name := fmt.Sprintf("%s%d", prefix, w.IntN(3))
	switch o := o.(type) {
	case *model.Network:
		// Mostly the one that the Subnets are cut from.
		o.Spec.CIDRs = []string{fmt.Sprintf("10.%s.0.0/16", name[1:])}
		if w.IntN(10) == 0 {
			o.Spec.CIDRs = []string{fmt.Sprintf("10.%d.0.0/16", w.IntN(3))}
		}
		o.Spec.InternetGateway = w.IntN(2) == 0
	case *model.Subnet:
		n := w.of("0", "0", "0", "1", "2")
		o.Spec = model.SubnetSpec{Network: "n" + n, CIDR: fmt.Sprintf("10.%s.%d.0/%d", n, w.IntN(5), w.size(24, 28, 29))}
		if w.IntN(10) == 0 {
			o.Spec.Network = w.name("n")
		}
		if w.IntN(4) == 0 {
			o.Spec.SecurityGroup = w.name("g")
		}
		if w.IntN(6) == 0 {
			o.Spec.DelegatedTo = w.name("w")
		}
	case *model.SecurityGroup:
		o.Spec.Network = w.of("n0", "n0", w.name("n"))
		o.Spec.Defaults = w.of("", "", "", "enterprise")
		for range w.IntN(3) {
			o.Spec.Rules = append(o.Spec.Rules, model.Rule{Direction: "inbound", From: []string{w.of("group:"+w.name("g"), "10.0.0.0/8", "tag:Internet", "group:"+w.name("w")+"-managed", "${Host/"+w.name("h")+".address}")}})
		}
	case *model.Host:
		o.Spec = model.HostSpec{Subnet: w.name("s"), SecurityGroups: w.names("g"), Address: w.of("", "", "", "", fmt.Sprintf("10.%d.%d.%d", w.IntN(3), w.IntN(3), w.IntN(8)), "${Host/"+w.name("h")+".address}")}
	case *model.Link:
		o.Spec = model.LinkSpec{Network: w.name("n"), Type: "vpn", CIDRs: []string{fmt.Sprintf("192.168.%d.0/24", w.IntN(3))}}
	case *model.Peering:
		o.Spec.Networks = []string{w.name("n"), w.name("n")}
	case *model.Gateway:
		o.Spec = model.GatewaySpec{Region: w.of("eu-1", "us-1"), PublicAddress: w.of("", "", "203.0.113.1"), PublicAccess: new(w.IntN(3) > 0), EndpointApproval: w.of("auto", "auto", "manual")}
		switch w.IntN(3) {
		case 0:
			o.Spec.NetworkMode, o.Spec.Subnet, o.Spec.SecurityGroups = "internal", w.name("s"), w.names("g")
		case 1:
			o.Spec.Outbound = &model.GatewayOutbound{Subnet: w.name("s")}
		}
	case *model.Endpoint:
		o.Spec = model.EndpointSpec{Gateway: w.name("w"), Subnets: append(w.names("s"), "s0"), SecurityGroups: w.names("g")}
		o.Spec.Subnets = slices.Compact(slices.Sorted(slices.Values(o.Spec.Subnets)))
		o.Spec.PrivateDNS = new(w.IntN(2) == 0)
	case *model.SecurityGroupAuthorization:
		o.Spec = model.SecurityGroupAuthorizationSpec{Gateway: w.name("w"), SecurityGroup: w.name("g"), Ports: []string{w.of("80/80", "1/9", "9/1"), w.of("81/81", "2/9")}}
	case *model.Backend:
		o.Spec.Targets = []model.Target{{Host: w.of("a.b", "${Host/"+w.name("h")+".address}"), Port: w.IntN(3)}}
		if w.IntN(2) == 0 {
			o.Spec.Network = w.name("n")
		}
	case *model.API:
		o.Spec = model.APISpec{Gateway: w.name("w"), Type: w.of("private", "regional"), OpenAPI: []byte(`"example:petstore"`), Path: w.of("", "", "x", "/x/", "y")}
		if o.Spec.Type == "private" {
			o.Spec.Endpoints = w.names("e")
			o.Spec.Policy = []byte(`{"Resource":"${Endpoint/` + w.name("e") + `.id}"}`)
		}
	case *model.Deployment:
		o.Spec = model.DeploymentSpec{API: w.name("a"), Number: 1, Spec: model.APISpec{Gateway: "w0", Type: "edge", OpenAPI: []byte(`"example:petstore"`)}}
		name = o.Spec.API + ".1"
	case *model.Stage:
		name = w.name("a") + ".prod"
		o.Spec.Deployment = model.DeploymentRef(w.of("", "1", "latest"))
	case *model.Domain:
		name = w.of("a.example.com", "*.example.com", "b.example.com")
		o.Spec = model.DomainSpec{Type: w.of("private", "regional"), Mappings: []model.Mapping{{Path: w.of("", "x"), API: w.name("a"), Stage: "prod"}}}
		if o.Spec.Type == "private" {
			o.Spec.Endpoints = append(w.names("e"), "e0")
		}
	case *model.Zone:
		o.Spec = model.ZoneSpec{Networks: []string{w.name("n")}, Domain: w.of("x.test", "y.test"), Records: []model.Record{{Name: "a", Type: "CNAME", Values: []string{w.of("a.x.test", "a.y.test", "c.test")}}}}
	}
	if o, ok := o.(*model.SelfHostedGateway); ok {
		o.Spec = model.SelfHostedGatewaySpec{Gateway: w.name("w"), Attach: w.of("", "host/h0", "link/l1"), APIs: w.names("a")}
	}
	o.Base().Metadata.Name = name
	return o
}

func (w world) size(list ...int) int { return list[w.IntN(len(list))] }

// grown returns a Set of thirty resources or so.
func (w world) grown() *model.Set {
	s := model.NewSet()
	for range 400 {
		if next, _, err := model.Admit(s, model.Change{Puts: []model.Object{w.object()}}, model.Options{Deployments: true}); err == nil {
			s = next
		}
	}
	return s
}

// change makes a few Puts, and now and then deletes what is there.
func (w world) change(s *model.Set) model.Change {
	var c model.Change
	seen := map[model.Ref]bool{}
	for range 1 + w.IntN(2)*w.IntN(3) {
		o := w.object()
		if r := model.RefOf(o); !seen[r] {
			seen[r] = true
			c.Puts = append(c.Puts, o)
		}
	}
	if all := s.Objects(); len(all) > 0 && w.IntN(6) == 0 {
		if r := model.RefOf(all[w.IntN(len(all))]); !seen[r] {
			c.Deletes = append(c.Deletes, r)
		}
		c.Cascade = w.IntN(2) == 0
	}
	return c
}

func refs(c model.Change) []string {
	var out []string
	for _, o := range c.Puts {
		b, _ := model.Encode(o)
		out = append(out, string(b))
	}
	for _, r := range c.Deletes {
		out = append(out, "delete "+r.String())
	}
	return out
}

func dump(s *model.Set) []string {
	var out []string
	for _, o := range s.Objects() {
		b, _ := model.Encode(o)
		out = append(out, string(b))
	}
	return out
}

// TestJudgingWhatDependsFindsWhatJudgingAllDoes is what lets Admit look at a
// part only.
func TestJudgingWhatDependsFindsWhatJudgingAllDoes(t *testing.T) {
	admitted, refused, size := 0, 0, 0
	const worlds = 10
	for seed := range uint64(worlds) {
		w := world{rand.New(rand.NewPCG(seed, 1))}
		current := w.grown()
		for range 150 {
			c := w.change(current)
			before := dump(current)
			part, whole, _ := model.Judge(current, c)
			if d := cmp.Diff(whole.Error(), part.Error()); d != "" {
				t.Fatalf("seed %d: -whole +part:\n%s\nchange %v\ncurrent %v", seed, d, refs(c), before)
			}
			next, changed, err := model.Admit(current, c, model.Options{Deployments: true})
			if d := cmp.Diff(before, dump(current)); d != "" {
				t.Fatalf("seed %d: current was changed:\n%s", seed, d)
			}
			if err != nil {
				refused++
				continue
			}
			if len(changed) > 0 {
				admitted++
			}
			if errs := model.Validate(next); errs != nil {
				t.Fatalf("seed %d: admitted, yet\n%v", seed, errs)
			}
			same := slices.Equal(before, dump(next))
			if same != (len(changed) == 0) {
				t.Fatalf("seed %d: changed %v, the same: %v", seed, changed, same)
			}
			current = next
		}
		size += current.Len()
	}
	if admitted < 200 || refused < 500 || size/worlds < 25 {
		t.Errorf("%d admitted and %d refused, %d resources at the end: that proves little", admitted, refused, size/worlds)
	}
}

func TestAdmitDoesNotDependOnTheOrder(t *testing.T) {
	for seed := range uint64(100) {
		w := world{rand.New(rand.NewPCG(seed, 2))}
		var c model.Change
		seen := map[model.Ref]bool{}
		for range 30 {
			if o := w.object(); !seen[model.RefOf(o)] {
				seen[model.RefOf(o)] = true
				c.Puts = append(c.Puts, o)
			}
		}
		admit := func() (string, []string) {
			s, _, err := model.Admit(model.NewSet(), c, model.Options{Deployments: true})
			if err != nil {
				return err.Error(), nil
			}
			return "", dump(s)
		}
		err1, one := admit()
		w.Shuffle(len(c.Puts), func(i, j int) { c.Puts[i], c.Puts[j] = c.Puts[j], c.Puts[i] })
		err2, two := admit()
		if d := cmp.Diff(err1, err2) + cmp.Diff(one, two); d != "" {
			t.Fatalf("seed %d:\n%s", seed, d)
		}
	}
}

func TestAdmittingNothingOrTheSameChangesNothing(t *testing.T) {
	for seed := range uint64(5) {
		w := world{rand.New(rand.NewPCG(seed, 3))}
		current := w.grown()
		for _, puts := range [][]model.Object{nil, current.Objects()} {
			next, changed, err := model.Admit(current, model.Change{Puts: puts}, model.Options{})
			if err != nil || len(changed) > 0 {
				t.Fatalf("seed %d: changed %v, %v", seed, changed, err)
			}
			if d := cmp.Diff(dump(current), dump(next)); d != "" {
				t.Fatalf("seed %d:\n%s", seed, d)
			}
		}
	}
}
