// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// ask judges a flow written as "web 10.0.2.10 tcp/443". The source is a Host,
// site/IP or internet/IP.
func (w *world) ask(text string, every bool) flow.Verdict {
	f := strings.Fields(text)
	q := flow.Query{Dst: addr(f[1])}
	name, ip, _ := strings.Cut(f[0], "/")
	switch name {
	case "site":
		q.Source = flow.FromLink(w.s.Links["site"], addr(ip))
	case "internet":
		q.Source = flow.FromInternet(addr(ip))
	default:
		q.Source = flow.FromInterface(w.s.Hosts[name])
		if ip != "" {
			q.Source.Addr = addr(ip)
		}
	}
	proto, port, _ := strings.Cut(f[2], "/")
	q.Proto = map[string]sg.Protocol{"tcp": sg.TCP, "udp": sg.UDP, "icmp": sg.ICMP}[proto]
	_, _ = fmt.Sscan(port, &q.Port)
	return flow.Judge(w.s, q, every)
}

// path writes the steps of a verdict: passed ones as layer=code, stops with an
// exclamation mark, skipped ones with a question mark.
func path(v *flow.Verdict) string {
	var out []string
	for i := range v.Steps() {
		s := &v.Steps()[i]
		mark := map[flow.StepOutcome]string{flow.Pass: "", flow.Stop: "!", flow.Skip: "?"}[s.Outcome]
		out = append(out, fmt.Sprintf("%s=%s%s", s.Layer, s.Code, mark))
	}
	return strings.Join(out, " ")
}

func TestFlows(t *testing.T) {
	type change = func(*world)
	unchanged := func(*world) {}
	group := func(host string, rules ...model.Rule) change {
		return func(w *world) { w.s.Hosts[host].Groups = w.group("g-"+host, rules...) }
	}
	f := func(change change, ask, want string) {
		t.Helper()
		w := newWorld(t)
		change(w)
		v := w.ask(ask, false)
		if got := v.Outcome.String() + " " + v.Code; got != want {
			t.Errorf("%s: %s, want %s\n%s", ask, got, want, path(&v))
		}
		if s := v.Steps()[v.Decided]; s.Code != v.Code {
			t.Errorf("%s: Decided leads to %s, not %s", ask, s.Code, v.Code)
		}
		every := w.ask(ask, true)
		if every.Outcome != v.Outcome || every.Code != v.Code {
			t.Errorf("%s: %s %s with every, %s %s without", ask, every.Outcome, every.Code, v.Outcome, v.Code)
		}
		for i := range every.Steps() {
			if r := every.Reason(i); !strings.HasSuffix(r, ".") || strings.Contains(r, "%!") {
				t.Errorf("%s: step %d has the reason %q", ask, i, r)
			}
		}
	}

	// Routes.
	f(unchanged, "web 10.0.2.10 tcp/5432", "deliver listen/accepted")
	f(unchanged, "web 10.0.2.11 tcp/5432", "drop route/none") // nobody has it
	f(unchanged, "web 10.1.1.10 tcp/22", "deliver route/peering")
	f(unchanged, "builder 10.0.1.10 tcp/22", "deliver route/peering")
	f(unchanged, "web 10.2.1.10 tcp/22", "drop route/none")       // peering is not transitive
	f(unchanged, "builder 192.168.0.9 tcp/22", "drop route/none") // nor through it to a site
	f(unchanged, "web 192.168.0.9 tcp/22", "deliver route/link")
	f(unchanged, "web 172.16.0.1 tcp/22", "drop route/none")
	f(unchanged, "web 224.0.0.1 udp/5353", "drop route/none")
	f(unchanged, "web 255.255.255.255 udp/67", "drop route/none")
	f(unchanged, "web/10.0.2.10 10.1.1.10 tcp/22", "drop route/none") // another's address
	f(func(w *world) { w.s.Links["site"].Down = true }, "web 192.168.0.9 tcp/22", "drop route/link-down")

	// From a site.
	f(unchanged, "site/192.168.0.9 10.0.2.10 tcp/22", "deliver route/link")
	f(unchanged, "site/192.168.1.9 10.0.2.10 tcp/22", "drop route/none") // not its prefix
	f(unchanged, "site/192.168.0.9 10.1.1.10 tcp/22", "drop route/none")
	f(unchanged, "site/192.168.0.9 198.18.0.10 tcp/443", "drop route/none")
	f(unchanged, "site/192.168.0.9 8.8.8.8 tcp/443", "drop route/none")
	f(unchanged, "site/192.168.0.9 10.0.0.2 udp/53", "deliver route/link")
	f(func(w *world) { w.s.Links["site"].Down = true }, "site/192.168.0.9 10.0.2.10 tcp/22", "drop route/link-down")

	// The internet.
	f(unchanged, "web 198.18.0.10 tcp/443", "deliver listen/accepted")
	f(unchanged, "web 198.18.0.10 tcp/8443", "refuse listen/refused")
	f(unchanged, "web 198.18.0.10 udp/443", "refuse listen/refused")
	f(unchanged, "web 198.18.0.10 icmp", "deliver listen/accepted")
	f(unchanged, "web 198.18.0.11 tcp/443", "drop route/none")
	f(unchanged, "web 8.8.8.8 udp/53", "deliver route/internet")
	f(unchanged, "db 198.18.0.10 tcp/443", "drop route/none")      // no internet route
	f(unchanged, "builder 198.18.0.10 tcp/443", "drop route/none") // no internet gateway
	f(unchanged, "internet/203.0.113.9 198.18.0.10 tcp/443", "deliver listen/accepted")
	f(unchanged, "internet/203.0.113.9 198.18.0.2 tcp/443", "drop route/none") // NAT
	f(unchanged, "internet/203.0.113.9 10.0.2.20 tcp/443", "drop route/none")
	f(func(w *world) { w.s.Networks["app"].NAT = nil }, "web 198.18.0.10 tcp/443", "drop route/none")
	f(func(w *world) { w.s.Gateways["edge"].PublicAccess = false }, "web 198.18.0.10 tcp/443", "deliver listen/accepted")

	// The resolver is not filtered.
	closed := func(w *world) { w.s.Hosts["web"].Groups = w.group("shut", deny(out("1-65535"))) }
	f(closed, "web 10.0.0.2 udp/53", "deliver listen/accepted")
	f(closed, "web 10.0.0.2 tcp/53", "deliver listen/accepted")
	f(closed, "web 10.0.0.2 tcp/80", "refuse listen/refused")
	f(closed, "web 10.0.2.10 tcp/80", "drop sg/outbound-deny")

	// Groups: out at the interface, out at the Subnet, in at the Subnet, in at
	// the interface; each has to allow.
	f(group("db", in("5432", "10.0.1.0/24")), "web 10.0.2.10 tcp/5432", "deliver listen/accepted")
	f(group("db", in("5432", "10.0.1.0/24")), "web 10.0.2.10 tcp/5433", "drop sg/no-inbound-rule")
	f(group("web", out("443")), "web 10.0.2.10 tcp/5432", "drop sg/no-outbound-rule")
	f(group("db", deny(in("5432")), in("1-65535")), "web 10.0.2.10 tcp/5432", "drop sg/inbound-deny")
	f(func(w *world) { w.s.Hosts["web"].Subnet.Groups = w.group("nsg", out("443")) }, "web 10.0.2.10 tcp/22", "drop sg/no-outbound-rule")
	f(func(w *world) { w.s.Hosts["db"].Subnet.Groups = w.group("nsg", in("443")) }, "web 10.0.2.10 tcp/22", "drop sg/no-inbound-rule")
	f(group("builder", in("22", "10.0.0.0/16")), "web 10.1.1.10 tcp/22", "deliver route/peering")
	f(group("db", in("22", "192.168.0.9/32")), "site/192.168.0.9 10.0.2.10 tcp/22", "deliver route/link")
	f(group("web", out("443", "10.0.0.0/8")), "web 198.18.0.10 tcp/443", "drop sg/no-outbound-rule")

	// Endpoints: groups first, then the port.
	f(unchanged, "web 10.0.2.20 tcp/443", "deliver endpoint/accepted")
	f(unchanged, "web 10.0.2.20 tcp/80", "refuse listen/refused")
	f(unchanged, "web 10.0.2.20 udp/443", "refuse listen/refused")
	f(unchanged, "web 10.0.2.20 icmp", "deliver endpoint/accepted")
	f(unchanged, "builder 10.0.2.20 tcp/443", "deliver route/peering")
	guarded := func(w *world) { w.endpoint().Groups = w.group("vpce", in("443", "10.0.9.0/24")) }
	f(guarded, "web 10.0.2.20 tcp/443", "drop sg/no-inbound-rule")
	f(guarded, "web 10.0.2.20 tcp/80", "drop sg/no-inbound-rule")
	f(guarded, "web 10.0.2.20 icmp", "drop sg/no-inbound-rule")
	pending := func(w *world) { w.s.Endpoints["corp"].Connection = snapshot.Pending }
	f(pending, "web 10.0.2.20 tcp/443", "drop endpoint/pending")
	f(pending, "web 10.0.2.20 tcp/80", "drop endpoint/pending")
	f(func(w *world) { w.s.Endpoints["corp"].Connection = snapshot.Rejected }, "web 10.0.2.20 tcp/443", "drop endpoint/rejected")
}

func TestInjectedGatewayIsJudgedBehindItsPublicAddress(t *testing.T) {
	w := newWorld(t)
	g := w.s.Gateways["edge"]
	app := w.s.Networks["app"]
	nodes := w.subnet(app, "nodes", "10.0.3.0/24")
	node := &snapshot.Interface{Owner: model.Ref{Kind: model.KindGateway, Name: "edge"}, Network: app, Subnet: nodes, Addr: addr("10.0.3.4"), Gateway: g}
	outbound := &snapshot.Interface{Owner: node.Owner, Network: app, Subnet: nodes, Addr: addr("10.0.3.5"), Gateway: g}
	app.Interfaces[node.Addr], app.Interfaces[outbound.Addr] = node, outbound
	g.Nodes = []*snapshot.Interface{node}
	g.PrivatePorts = map[uint16]snapshot.Components{443: {snapshot.ComponentGateway}, 3443: {snapshot.ComponentManagement}}
	g.PublicPorts = map[uint16]snapshot.Components{3443: {snapshot.ComponentManagement}}
	nodes.Groups = w.group("nsg", in("3443", "198.18.0.0/15"))
	node.Managed = w.group("edge-managed", in("443"), in("3443"))

	f := func(ask, want string) {
		t.Helper()
		v := w.ask(ask, false)
		if got := v.Outcome.String() + " " + path(&v); got != want {
			t.Errorf("%s:\n%s, want\n%s", ask, got, want)
		}
	}
	f("internet/198.18.0.99 198.18.0.10 tcp/3443",
		"deliver route=route/internet listen=listen/accepted sg-in=sg/allowed sg-in=sg/allowed? sg-in=sg/allowed")
	f("internet/203.0.113.9 198.18.0.10 tcp/3443",
		"drop route=route/internet listen=listen/accepted sg-in=sg/no-inbound-rule!")
	f("internet/203.0.113.9 198.18.0.10 tcp/443", "refuse route=route/internet listen=listen/refused!")
	// The Network's own hosts come from its NAT address.
	f("web 198.18.0.10 tcp/3443",
		"deliver route=route/internet sg-out=sg/allowed? sg-out=sg/allowed? listen=listen/accepted sg-in=sg/allowed sg-in=sg/allowed? sg-in=sg/allowed")
	f("web 10.0.3.4 tcp/3443", "drop route=route/local sg-out=sg/allowed? sg-out=sg/allowed? sg-in=sg/no-inbound-rule!")

	nodes.Groups = nil
	f("web 10.0.3.4 tcp/443",
		"deliver route=route/local sg-out=sg/allowed? sg-out=sg/allowed? sg-in=sg/allowed? sg-in=sg/allowed? sg-in=sg/allowed listen=listen/accepted")
	// Nothing listens where a Gateway only calls out from.
	f("web 10.0.3.5 tcp/443",
		"refuse route=route/local sg-out=sg/allowed? sg-out=sg/allowed? sg-in=sg/allowed? sg-in=sg/allowed? listen=listen/refused!")
}

func TestEveryListsAllThatIsInTheWay(t *testing.T) {
	w := newWorld(t)
	w.s.Hosts["web"].Groups = w.group("shut", deny(out("1-65535")))
	w.endpoint().Groups = w.group("vpce", in("443", "10.0.9.0/24"))
	w.s.Endpoints["corp"].Connection = snapshot.Pending
	f := func(ask, want string) {
		t.Helper()
		v := w.ask(ask, true)
		if got := path(&v); got != want {
			t.Errorf("%s:\n%s, want\n%s", ask, got, want)
		}
	}
	f("web 10.0.2.20 tcp/80", "route=route/local sg-out=sg/outbound-deny! sg-out=sg/allowed? sg-in=sg/allowed? "+
		"sg-in=sg/no-inbound-rule! endpoint=endpoint/pending! listen=listen/refused!")
	// No route leads there, but one Network has the address.
	w.s.Hosts["remote"].Groups = w.group("remote", in("22", "10.1.0.0/16"))
	f("db 10.2.1.10 tcp/22", "route=route/none! sg-out=sg/allowed? sg-out=sg/allowed? sg-in=sg/allowed? "+
		"sg-in=sg/no-inbound-rule! listen=listen/accepted")
	// Both of what the way to the internet needs.
	f("builder 198.18.0.10 tcp/8443", "route=route/none! route=route/none! sg-out=sg/allowed? sg-out=sg/allowed? listen=listen/refused!")
}

func TestOverlapIsTold(t *testing.T) {
	w := newWorld(t)
	app := w.s.Networks["app"]
	site := w.s.Links["site"]
	// The site claims a part of the Network, which stays local.
	site.Prefixes = append(site.Prefixes, netip.MustParsePrefix("10.0.2.0/24"))
	r, _ := app.Routes.Lookup(addr("10.0.2.10"))
	r.Shadows = model.Ref{Kind: model.KindLink, Name: "site"}

	v := w.ask("web 10.0.2.10 tcp/22", false)
	if s := v.Steps()[0]; v.Outcome != flow.Deliver || s.Overlap.Name != "site" {
		t.Errorf("an address that is local is delivered with a finding, got %s %v", v.Outcome, s.Overlap)
	}
	if v = w.ask("web 10.0.1.10 tcp/22", false); !v.Steps()[0].Overlap.IsZero() {
		t.Error("an address that the site does not claim has no finding")
	}
	if v = w.ask("web 10.0.2.99 tcp/22", false); v.Outcome != flow.Drop || v.Code != flow.RouteOverlap {
		t.Errorf("%s %s, want the overlap to be named", v.Outcome, v.Code)
	}
	// What the site sends from there cannot be answered.
	v = w.ask("site/10.0.2.77 10.0.1.10 tcp/22", false)
	if v.Outcome != flow.Drop || v.Code != flow.RouteOverlap || v.Steps()[v.Decided].Layer != flow.LayerReturn {
		t.Errorf("%s %s, want no way back\n%s", v.Outcome, v.Code, path(&v))
	}
	// Nor can a refusal be: it is lost like everything else.
	v = w.ask("site/10.0.2.77 10.0.2.20 tcp/80", false)
	if v.Outcome != flow.Drop || v.Code != flow.ListenRefused {
		t.Errorf("%s %s, want a refusal that does not arrive", v.Outcome, v.Code)
	}
}

func TestTargets(t *testing.T) {
	w := newWorld(t)
	f := func(ask string, kind flow.TargetKind, network, nat string) {
		t.Helper()
		v := w.ask(ask, false)
		name := ""
		if v.Target.Network != nil {
			name = v.Target.Network.Name
		}
		if v.Target.Kind != kind || name != network || (nat != "") != v.Target.NAT.IsValid() || nat != "" && v.Target.NAT != addr(nat) {
			t.Errorf("%s leads to %+v", ask, v.Target)
		}
	}
	f("web 10.0.2.10 tcp/1", flow.ToInterface, "app", "")
	f("web 10.1.1.10 tcp/1", flow.ToInterface, "tools", "")
	f("web 10.0.0.2 udp/53", flow.ToResolver, "app", "")
	f("web 10.1.0.2 udp/53", flow.ToResolver, "tools", "")
	f("web 192.168.0.4 tcp/1", flow.ToLink, "app", "")
	f("web 198.18.0.10 tcp/443", flow.ToGateway, "", "198.18.0.2")
	f("web 8.8.8.8 tcp/443", flow.ToEgress, "", "198.18.0.2")
	f("internet/1.1.1.1 198.18.0.10 tcp/80", flow.ToGateway, "", "")
	if v := w.ask("web 198.18.0.10 tcp/80", false); !v.Target.Components.Has(snapshot.ComponentGateway) {
		t.Errorf("port 80 leads to %q", v.Target.Components)
	}
}

func TestEgressLeavesForPublicAddressesOnly(t *testing.T) {
	in := &snapshot.Internet{
		Prefixes: prefixes("198.18.0.0/15"),
		Egress:   prefixes("10.9.0.0/16", "::1/128"),
		Own:      []netip.Addr{addr("8.8.4.4")},
	}
	for _, a := range []string{"8.8.8.8", "2606:4700::1", "10.9.1.1", "::1", "::ffff:8.8.8.8", "64:ff9b::808:808"} {
		if !flow.Egress(in, addr(a)) {
			t.Errorf("%s is refused", a)
		}
	}
	for _, a := range []string{
		"127.0.0.1", "10.0.0.1", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3",
		"224.0.0.1", "255.255.255.255", "198.18.0.10", "8.8.4.4", "::", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fd00::1",
		"ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:a00:1::", "2002:7f00:1::1",
		"2001:0:1:2:3:4:f5ff:fffe", "64:ff9b::808:404",
	} {
		if flow.Egress(in, addr(a)) {
			t.Errorf("%s may be dialled", a)
		}
	}
	if flow.Egress(in, netip.Addr{}) {
		t.Error("no address at all may be dialled")
	}
}

func TestJudgingDoesNotAllocate(t *testing.T) {
	w := newWorld(t)
	w.s.Hosts["db"].Groups = w.group("db", in("5432", "10.0.1.0/24"))
	for _, text := range []string{"web 10.0.2.10 tcp/5432", "web 10.0.2.10 tcp/1", "web 198.18.0.10 tcp/443", "builder 10.0.2.20 tcp/443"} {
		v := w.ask(text, false)
		if n := testing.AllocsPerRun(100, func() { sink = flow.Judge(w.s, v.Query, false) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

var sink flow.Verdict

func BenchmarkJudge(b *testing.B) {
	w := newWorld(b)
	w.s.Hosts["web"].Groups = w.group("web", out("5432", "10.0.0.0/8"), out("443"))
	w.s.Hosts["db"].Groups = w.group("db", in("5432", "10.0.1.0/24"))
	for _, text := range []string{"web 10.0.2.10 tcp/5432", "web 10.0.2.10 tcp/443", "web 198.18.0.10 tcp/443"} {
		q := w.ask(text, false).Query
		b.Run(strings.ReplaceAll(text, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink = flow.Judge(w.s, q, false)
			}
		})
	}
}

func TestEstablishedFlowStandsWhileItsWayDoes(t *testing.T) {
	for _, c := range []struct {
		name   string
		ask    string
		change func(*world)
		want   string
	}{
		{"unchanged", "web 10.0.2.20 tcp/443", func(*world) {}, "deliver"},
		{"a group that denies it now", "web 10.0.2.20 tcp/443", func(w *world) {
			w.s.Hosts["web"].Groups = w.group("none", deny(out("443")))
		}, "deliver"},
		{"the Endpoint is rejected", "web 10.0.2.20 tcp/443", func(w *world) {
			w.s.Endpoints["corp"].Connection = snapshot.Rejected
		}, "drop"},
		{"nobody has the address", "web 10.0.2.20 tcp/443", func(w *world) {
			delete(w.endpoint().Network.Interfaces, w.endpoint().Addr)
		}, "drop"},
		{"the site's prefix moved", "site/192.168.0.9 10.0.2.20 tcp/443", func(w *world) {
			w.s.Links["site"].Prefixes = prefixes("192.168.99.0/24")
		}, "drop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.ask(c.ask, false)
			q := before.Query
			c.change(w)
			if v := flow.Stand(w.s, q); v.Outcome.String() != c.want {
				t.Fatalf("%s (%s, before: %s), want %s", v.Outcome, path(&v), path(&before), c.want)
			}
		})
	}
}
