// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	build "postern.dev/postern/compile/sg"
	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
)

var shapes = []struct {
	name string
	rule func(i int) model.Rule
}{
	// Every rule has a prefix of its own.
	{"prefixes", func(i int) model.Rule {
		return model.Rule{Direction: "inbound", Protocol: "tcp", Ports: []string{"443"}, From: []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}}
	}},
	// Every rule has a port of its own, from anywhere.
	{"ports", func(i int) model.Rule {
		return model.Rule{Direction: "inbound", Protocol: "tcp", Ports: []string{fmt.Sprint(1 + i*6)}}
	}},
	// Prefixes stand within one another, with many ports at each.
	{"nested", func(i int) model.Rule {
		bits := 8 + i%20
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), 0}), bits).Masked()
		return model.Rule{Direction: "inbound", Protocol: "tcp", Ports: []string{fmt.Sprint(1 + i*6)}, From: []string{p.String()}, Priority: 1 + i%5000}
	}},
}

func many(n int, rule func(i int) model.Rule) *model.SecurityGroup {
	g := &model.SecurityGroup{}
	g.Metadata.Name = "many"
	for i := range n {
		g.Spec.Rules = append(g.Spec.Rules, rule(i))
	}
	return g
}

var noEnv = build.Env{Members: func(string) []netip.Addr { return nil }}

// questions are flows of which some match and some do not.
func questions(n int) []flow {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]flow, 256)
	for i := range out {
		k := r.IntN(n)
		out[i] = flow{
			proto: sg.TCP, remote: netip.AddrFrom4([4]byte{10, byte(k >> 8), byte(k), 9}),
			port: []uint16{443, uint16(1 + k*6), uint16(r.Uint32())}[i%3],
		}
	}
	return out
}

func BenchmarkJudge(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{10, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", s.name, n), func(b *testing.B) {
				set, err := build.New().In(noEnv).Set(many(n, s.rule))
				if err != nil {
					b.Fatal(err)
				}
				qs := questions(n)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					q := &qs[i&255]
					i++
					decide.Judge(set, q.dir, q.proto, q.remote, q.port)
				}
			})
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, s := range shapes {
		g := many(10_000, s.rule)
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := build.New().In(noEnv).Set(g); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestVerdictsDoNotAllocate(t *testing.T) {
	for _, s := range shapes {
		set, err := build.New().In(noEnv).Set(many(1000, s.rule))
		if err != nil {
			t.Fatal(err)
		}
		qs := questions(1000)
		i := 0
		if n := testing.AllocsPerRun(1000, func() {
			q := &qs[i&255]
			i++
			decide.Judge(set, q.dir, q.proto, q.remote, q.port)
		}); n != 0 {
			t.Errorf("%s: %v allocations a verdict", s.name, n)
		}
	}
}
