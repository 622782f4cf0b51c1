// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "postern.dev/postern/test/steady"

	build "postern.dev/postern/compile/sg"
	decide "postern.dev/postern/decide/sg"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/sg"
)

// flow is one question to groups.
type flow struct {
	dir    sg.Direction
	proto  sg.Protocol
	remote netip.Addr
	port   uint16
}

// twin answers as the contract says it, rule by rule, without any table.
func twin(env build.Env, groups []*model.SecurityGroup, f flow) (code, rule string) {
	type line struct {
		priority int
		deny     bool
		group    string
		order    int
		path     string
	}
	var matching []line
	closed := f.dir == sg.Inbound
	first, closing := "", ""
	for _, g := range groups {
		name := g.Metadata.Name
		if first == "" || name < first {
			first = name
		}
		for i, r := range g.Spec.Rules {
			if r.Direction == "outbound" && f.dir == sg.Outbound {
				closed = true
				if closing == "" || name < closing {
					closing = name
				}
			}
			if r.Direction != f.dir.String() || !twinProtocol(r, f) || !twinPeers(env, r, f.remote) {
				continue
			}
			p := r.Priority
			if p == 0 {
				p = 1000
			}
			matching = append(matching, line{p, r.Action == "deny", name, i, "spec.rules[" + strconv.Itoa(i) + "]"})
		}
		add := func(p int, deny bool, on bool) {
			if on {
				matching = append(matching, line{p, deny, name, 1 << 20, "spec.defaults"})
			}
		}
		local := within(env.VirtualNetwork, f.remote)
		switch g.Spec.Defaults {
		case "azure":
			add(65000, false, local)
			if f.dir == sg.Inbound {
				add(65001, false, within(env.AzureLoadBalancer, f.remote))
			} else {
				add(65001, false, !local)
			}
			add(65500, true, true)
		case "basic":
			add(65000, false, slices.Contains(env.Members(name), f.remote))
		case "enterprise":
			if f.dir == sg.Outbound {
				closed = true
				if closing == "" || name < closing {
					closing = name
				}
			}
		}
	}
	none := "sg/no-" + f.dir.String() + "-rule"
	if len(matching) == 0 {
		switch {
		case !closed:
			return "sg/allowed", first
		case f.dir == sg.Inbound:
			return none, first
		}
		return none, closing
	}
	best := matching[0]
	for _, l := range matching[1:] {
		switch {
		case l.priority != best.priority:
			if l.priority < best.priority {
				best = l
			}
		case l.deny != best.deny:
			if l.deny {
				best = l
			}
		case l.group != best.group:
			if l.group < best.group {
				best = l
			}
		case l.order < best.order:
			best = l
		}
	}
	switch {
	case !best.deny:
		code = "sg/allowed"
	case best.path == "spec.defaults":
		code = none
	default:
		code = "sg/" + f.dir.String() + "-deny"
	}
	return code, best.group + " " + best.path
}

func twinProtocol(r model.Rule, f flow) bool {
	if r.Protocol != "" && r.Protocol != "any" && r.Protocol != f.proto.String() {
		return false
	}
	if f.proto == sg.Any && r.Protocol != "" && r.Protocol != "any" {
		return false
	}
	if len(r.Ports) == 0 {
		return true
	}
	if f.proto != sg.TCP && f.proto != sg.UDP {
		return false
	}
	for _, p := range r.Ports {
		var a, b int
		if n, _ := fmt.Sscanf(strings.ReplaceAll(p, "/", "-"), "%d-%d", &a, &b); n == 1 {
			b = a
		}
		if a <= int(f.port) && int(f.port) <= b {
			return true
		}
	}
	return false
}

func twinPeers(env build.Env, r model.Rule, a netip.Addr) bool {
	peers := r.From
	if r.Direction == "outbound" {
		peers = r.To
	}
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		switch {
		case strings.HasPrefix(p, "group:"):
			if slices.Contains(env.Members(p[len("group:"):]), a) {
				return true
			}
		case p == "tag:VirtualNetwork":
			if within(env.VirtualNetwork, a) {
				return true
			}
		case p == "tag:Internet":
			if !within(env.VirtualNetwork, a) {
				return true
			}
		case p == "tag:ApiManagement":
			if within(env.ApiManagement, a) {
				return true
			}
		case p == "tag:AzureLoadBalancer":
			if within(env.AzureLoadBalancer, a) {
				return true
			}
		case netip.MustParsePrefix(p).Masked().Contains(a):
			return true
		}
	}
	return false
}

func within(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
}

// world draws groups that tread on one another's toes: few addresses, ports and
// priorities.
type world struct {
	env    build.Env
	groups []*model.SecurityGroup
}

var cidrs = []string{
	"0.0.0.0/0", "::/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.1.0/24", "10.0.1.0/25", "10.0.1.7/32", "10.0.1.6/31",
	"192.168.0.0/16", "198.18.0.0/15", "8.8.8.8/32", "fd00::/8", "fd00::1/128", "fd00::/64", "2001:db8::/32",
}

func drawWorld(t *rapid.T) world {
	var w world
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix { return netip.MustParsePrefix(rapid.SampledFrom(cidrs).Draw(t, "cidr")) })
	w.env.VirtualNetwork = rapid.SliceOfN(prefix, 0, 3).Draw(t, "virtual")
	w.env.ApiManagement = rapid.SliceOfN(prefix, 0, 1).Draw(t, "management")
	w.env.AzureLoadBalancer = rapid.SliceOfN(prefix, 0, 1).Draw(t, "probes")
	names := []string{"a", "b", "c"}
	members := map[string][]netip.Addr{}
	for _, n := range names {
		members[n] = rapid.SliceOfN(drawAddr(), 0, 4).Draw(t, "members")
	}
	w.env.Members = func(g string) []netip.Addr { return members[g] }
	for _, n := range names[:rapid.IntRange(1, 3).Draw(t, "groups")] {
		g := &model.SecurityGroup{}
		g.Metadata.Name = n
		g.Spec.Defaults = rapid.SampledFrom([]string{"", "strict", "azure", "basic", "enterprise"}).Draw(t, "defaults")
		g.Spec.Rules = rapid.SliceOfN(drawRule(g.Spec.Defaults != "enterprise"), 0, 12).Draw(t, "rules")
		w.groups = append(w.groups, g)
	}
	return w
}

func drawAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		p := netip.MustParsePrefix(rapid.SampledFrom(cidrs).Draw(t, "near"))
		a := p.Addr()
		for range rapid.IntRange(0, 8).Draw(t, "next") {
			a = a.Next()
		}
		if !a.IsValid() {
			a = p.Addr()
		}
		return a
	})
}

func drawRule(references bool) *rapid.Generator[model.Rule] {
	return rapid.Custom(func(t *rapid.T) model.Rule {
		peers := slices.Clone(cidrs)
		peers = append(peers, "tag:Internet", "tag:VirtualNetwork", "tag:ApiManagement", "tag:AzureLoadBalancer")
		if references {
			peers = append(peers, "group:a", "group:b", "group:c")
		}
		r := model.Rule{
			Direction: rapid.SampledFrom([]string{"inbound", "outbound"}).Draw(t, "direction"),
			Action:    rapid.SampledFrom([]string{"", "allow", "deny"}).Draw(t, "action"),
			Priority:  rapid.SampledFrom([]int{0, 1, 999, 1000, 1001, 64999}).Draw(t, "priority"),
			Protocol:  rapid.SampledFrom([]string{"", "any", "tcp", "udp", "icmp"}).Draw(t, "protocol"),
		}
		ports := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			a, b := max(1, drawPort(t)), max(1, drawPort(t))
			return fmt.Sprintf("%d%s%d", min(a, b), rapid.SampledFrom([]string{"-", "/"}).Draw(t, "dash"), max(a, b))
		}), 0, 12)
		r.Ports = ports.Draw(t, "ports")
		draw := rapid.SliceOfN(rapid.SampledFrom(peers), 0, 3).Draw(t, "peers")
		if r.Direction == "inbound" {
			r.From = draw
		} else {
			r.To = draw
		}
		return r
	})
}

func drawPort(t *rapid.T) uint16 {
	return rapid.OneOf(rapid.SampledFrom([]uint16{0, 1, 53, 63, 64, 65, 443, 8080, 65534, 65535}), rapid.Uint16()).Draw(t, "port")
}

func drawFlow(t *rapid.T) flow {
	return flow{
		dir:    rapid.SampledFrom([]sg.Direction{sg.Inbound, sg.Outbound}).Draw(t, "direction"),
		proto:  rapid.SampledFrom([]sg.Protocol{sg.TCP, sg.UDP, sg.ICMP, sg.Any}).Draw(t, "protocol"),
		remote: drawAddr().Draw(t, "remote"),
		port:   drawPort(t),
	}
}

func verdict(set *sg.Set, f flow) (code, rule string) {
	v := decide.Judge(set, f.dir, f.proto, f.remote, f.port)
	if (v.Code == decide.Allowed) != v.Allowed {
		return "code " + v.Code + " contradicts the verdict", ""
	}
	rule = v.Rule.Resource.Name
	if v.Rule.Path != "" {
		rule += " " + v.Rule.Path
	}
	return v.Code, rule
}

func checkTwin(t *rapid.T) {
	w := drawWorld(t)
	scope := build.New().In(w.env)
	set, err := scope.Set(w.groups...)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		f := drawFlow(t)
		code, rule := verdict(set, f)
		wantCode, wantRule := twin(w.env, w.groups, f)
		if code != wantCode || rule != wantRule {
			t.Fatalf("%+v: %s by %q, the twin says %s by %q", f, code, rule, wantCode, wantRule)
		}
		for i, each := range decide.JudgeEach(set, f.dir, f.proto, f.remote, f.port) {
			want, _ := twin(w.env, w.groups[i:i+1], f)
			if each.Group.Name != w.groups[i].Metadata.Name || each.Code != want {
				t.Fatalf("%+v: group %s alone says %s, the twin %s of %s", f, each.Group.Name, each.Code, want, w.groups[i].Metadata.Name)
			}
		}
	}
}

func TestVerdictsEqualTheTwins(t *testing.T) { rapid.Check(t, checkTwin) }

func FuzzVerdictsEqualTheTwins(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkTwin)) }

func TestOrderOfGroupsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		builder := build.New()
		set, err := builder.In(w.env).Set(w.groups...)
		if err != nil {
			t.Fatal(err)
		}
		members := w.env.Members
		w.env.Members = func(g string) []netip.Addr { return shuffled(members(g)) }
		w.env.VirtualNetwork = shuffled(w.env.VirtualNetwork)
		again, err := builder.In(w.env).Set(shuffled(w.groups)...)
		if err != nil {
			t.Fatal(err)
		}
		if set != again {
			t.Fatal("the same groups in another order make another set")
		}
	})
}

func shuffled[T any](in []T) []T {
	out := slices.Clone(in)
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// TestManyRulesEqualTheTwin has enough rules for the structures that few never
// reach: port indexes, and parents that are linked instead of copied.
func TestManyRulesEqualTheTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		w := world{env: noEnv}
		g := &model.SecurityGroup{}
		g.Metadata.Name = "dense"
		nested := []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.1.0/24", "10.0.1.0/25", "10.0.1.0/29", "fd00::/8"}
		for range 1 + r.IntN(600) {
			rule := model.Rule{
				Direction: "inbound", Action: []string{"allow", "deny"}[r.IntN(2)], Priority: 1 + r.IntN(300),
				Protocol: []string{"any", "tcp"}[r.IntN(2)],
			}
			// Often at the same few ranges, so that ranks meet.
			first := r.IntN(2000)
			rule.Ports = []string{fmt.Sprintf("%d-%d", 1+first, 1+first+r.IntN(3))}
			rule.From = []string{nested[r.IntN(1+r.IntN(len(nested)))]}
			g.Spec.Rules = append(g.Spec.Rules, rule)
		}
		w.groups = []*model.SecurityGroup{g}
		set, err := build.New().In(w.env).Set(g)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			f := flow{
				proto: []sg.Protocol{sg.TCP, sg.UDP}[r.IntN(2)], port: uint16(r.IntN(2010)),
				remote: netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(3)), byte(r.IntN(140))}),
			}
			code, rule := verdict(set, f)
			if wantCode, wantRule := twin(w.env, w.groups, f); code != wantCode || rule != wantRule {
				t.Fatalf("%+v: %s by %q, the twin says %s by %q", f, code, rule, wantCode, wantRule)
			}
		}
	})
}
