// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/configuration"
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// defaultSelfHosted is where a self-hosted gateway on the internet calls from
// when nobody says: another address than that of any caller there, so that what
// is opened for the one is not taken to be opened for all.
var defaultSelfHosted = netip.MustParseAddr("198.51.100.10")

// fromSelfHosted is a self-hosted gateway that calls: as what it is attached to.
func fromSelfHosted(w *World, text, rest string) (source, error) {
	name, addr, given := strings.Cut(rest, "/")
	g, ok := model.Get[*model.SelfHostedGateway](w.Set, name)
	if !ok {
		return w.absent(text, model.KindSelfHosted, name, w.Set.Names(model.KindSelfHosted))
	}
	at := g.Spec.Attach
	switch {
	case at == "":
		at = internet + "/" + defaultSelfHosted.String()
		if given {
			at = internet + "/" + addr
		}
	case given && strings.HasPrefix(at, "link/"):
		at += "/" + addr
	case given:
		return source{}, invalid("from", "%q: SelfHostedGateway/%s is attached to %s and calls from its address; leave /%s out", text, name, at, addr)
	}
	src, err := parseSource(w, at)
	if err != nil {
		return source{}, err
	}
	src.name, src.selfHosted, src.origin.SelfHosted = text, g, name
	src.standsFor = g.Spec.Attach == "" && !given
	return src, nil
}

// theCaller says what is taken for granted about a self-hosted gateway.
func (t *trail) theCaller() {
	if g := t.from.selfHosted; g != nil && t.from.standsFor {
		t.assume(fmt.Sprintf("SelfHostedGateway/%s calls from %s, which stands for its own address on the internet; ask with selfhosted/%s/IP for that", g.Metadata.Name, t.from.flow.Addr, g.Metadata.Name))
	}
}

// controlWay is one way of a self-hosted gateway to its management plane.
type controlWay struct {
	host string
	port uint16
	*trail
}

func (c *controlWay) String() string { return c.host + ":" + itoa(int(c.port)) }

// told is the way and what comes of it.
func (c *controlWay) told() string {
	if c.Verdict == answer.Allow {
		return c.String() + " answers"
	}
	what := map[answer.SymptomKind]string{
		answer.Refused: "is refused", answer.Timeout: "stays silent", answer.NXDomain: "does not resolve", answer.TLS: "fails in the handshake",
	}[c.Symptom.Kind]
	switch {
	case what == "":
		what = "does not answer"
	case c.shared():
		what = "is refused, at the address of --public by a handshake that fails with unrecognized name, for another Gateway has that port"
	}
	return c.String() + " " + what + " (" + c.Code + ")"
}

// shared tells whether the way is refused, but at real sockets another Gateway's
// port takes the connection, and the handshake knows that nobody serves the name.
func (c *controlWay) shared() bool {
	if !c.w.Sockets || c.Symptom.Kind != answer.Refused || c.from.net != nil {
		return false
	}
	for _, g := range c.s.Gateways {
		if len(g.PublicPorts[c.port])+len(g.ConfigurationPorts[c.port]) > 0 {
			return true
		}
	}
	return false
}

// controlLink tells, where a self-hosted gateway asks its management plane, what
// each protocol makes of the ways there, and who else gets there.
func (t *trail) controlLink() {
	shg := t.from.selfHosted
	if shg == nil || !t.from.broken.IsZero() {
		return
	}
	g := t.s.Gateways[shg.Spec.Gateway]
	h := t.controlHost()
	switch {
	case h == nil:
		t.itself(shg)
		return
	case g == nil || request.Find(g, t.to.name) == nil:
		t.find(request.CodeHostUnknown, model.RefOf(shg).String(), fmt.Sprintf("%s is not the name of Gateway/%s, whose APIs SelfHostedGateway/%s serves: no token of it is good there.", t.to.name, shg.Spec.Gateway, shg.Metadata.Name))
		return
	}
	var v2 []controlWay
	for _, w := range configuration.Ways(g.Name, t.s.Base) {
		v2 = append(v2, controlWay{host: w.Host, port: w.Port})
	}
	for i := range v2 {
		w, err := trace(t.w, answer.Question{From: t.q.From, URL: "https://" + v2[i].String() + pathServiceStatus})
		if err != nil {
			return // the question itself was traced from there
		}
		v2[i].trail = w
	}
	t.protocols(shg, v2)
	t.narrow(&v2[2])
	t.exposed(g, &v2[2])
}

// controlHost is the management or configuration host name that is asked, if it
// is one.
func (t *trail) controlHost() *snapshot.Host {
	if t.to.scheme != "https" {
		return nil
	}
	for _, n := range keys(t.s.Gateways) {
		h := request.Find(t.s.Gateways[n], t.to.name)
		if h != nil && h.Kind == snapshot.HostComponent && (h.Component == snapshot.ComponentManagement || h.Component == snapshot.ComponentConfiguration) {
			return h
		}
	}
	return nil
}

// itself says that a request for an API is answered by the managed Gateway.
func (t *trail) itself(g *model.SelfHostedGateway) {
	if t.web == nil || t.web.arrival.Gateway == nil || t.web.arrival.Gateway.Name != g.Spec.Gateway {
		return
	}
	t.assume(fmt.Sprintf("this is a call of the managed Gateway/%s; what SelfHostedGateway/%s answers at its own address is not explained here", g.Spec.Gateway, g.Metadata.Name))
}

// protocols tells which way each protocol takes. v2 tries them in turn; v1 has
// the one that is set.
func (t *trail) protocols(g *model.SelfHostedGateway, ways []controlWay) {
	ref := model.RefOf(g).String()
	tell := func(used *controlWay, text string) {
		code := ways[len(ways)-1].Code
		if used != nil {
			code = used.Code
		}
		t.Findings = append(t.Findings, answer.Finding{Code: code, Component: ref, Message: text})
	}
	first := func(ways []controlWay) (used *controlWay, tried []string) {
		for i := range ways {
			tried = append(tried, ways[i].told())
			if ways[i].Verdict == answer.Allow {
				return &ways[i], tried
			}
		}
		return nil, tried
	}
	const none = "It serves what it has, and tries again."
	used, tried := first(ways)
	end := none
	switch {
	case used == &ways[0]:
		end = "It uses that."
	case used != nil:
		end = "It falls back to that."
	}
	tell(used, "Protocol v2 tries in turn: "+strings.Join(tried, ", ")+". "+end)
	used, tried = first(ways[1:])
	end = none
	if used != nil {
		end = "Set config.service.endpoint to https://" + used.String() + "/subscriptions/..."
		if used.port == 443 {
			end = "Set config.service.endpoint to https://" + used.host + "/subscriptions/..."
		}
	}
	tell(used, "Protocol v1 has the one port that is set: "+strings.Join(tried, ", ")+". "+end)
}

// narrow names the rule that lets the management plane itself in where the
// self-hosted gateway is not let in.
func (t *trail) narrow(w *controlWay) {
	i := slices.IndexFunc(w.stops, func(s stop) bool { return s.flow != nil && s.flow.Layer == flow.LayerSGIn })
	if i < 0 {
		return
	}
	stopped := w.stops[i].flow
	for _, from := range t.s.Internet.Management {
		v := flow.Judge(t.s, flow.Query{Source: flow.FromInternet(from), Proto: sg.TCP, Dst: w.flow.Query.Dst, Port: w.port}, true)
		r := admitting(&v, stopped.Set)
		if r == nil {
			continue
		}
		own, only := "from which %s calls", "that address"
		if t.from.standsFor {
			own, only = "which stands for %s's own address", "its own address"
		}
		t.find(w.stops[i].code, r.Resource.String(), fmt.Sprintf("%s admits %s to port %d, and not %s, "+own+". Admit %s alone: a rule for everyone would expose the management plane.",
			ruleName(r), t.peers(r, from), w.port, stopped.Remote, model.RefOf(t.from.selfHosted), only))
		return
	}
}

// admitting is the rule by which a Set let a flow in.
func admitting(v *flow.Verdict, set *sg.Set) *snapshot.Rule {
	if v.Outcome != flow.Deliver {
		return nil
	}
	for i := range v.Steps() {
		s := &v.Steps()[i]
		if s.Layer == flow.LayerSGIn && s.Outcome == flow.Pass && s.Rule != nil && !s.Rule.IsZero() && (set == nil || s.Set == set) {
			return s.Rule
		}
	}
	return nil
}

func ruleName(r *snapshot.Rule) string {
	text := r.Resource.String()
	if r.Path != "" {
		text += " " + r.Path
	}
	if r.Name != "" {
		text += " (" + r.Name + ")"
	}
	return text
}

// peers is whom a rule admits as it is written, or else the caller that it was
// asked about.
func (t *trail) peers(r *snapshot.Rule, asked netip.Addr) string {
	if g, ok := model.Get[*model.SecurityGroup](t.w.Set, r.Resource.Name); ok && r.Resource.Kind == model.KindSecurityGroup {
		for i := range g.Spec.Rules {
			if from := g.Spec.Rules[i].From; r.Path == fmt.Sprintf("spec.rules[%d]", i) && len(from) > 0 {
				return strings.Join(from, ", ") + " alone"
			}
		}
	}
	return asked.String()
}

// strangers have nothing to do with anybody: who admits them all admits everyone.
var strangers = []netip.Addr{
	netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("198.51.100.177"), netip.MustParseAddr("203.0.113.177"), somewhere,
}

// exposed warns of a management plane that a Gateway in a Network offers to
// everyone.
func (t *trail) exposed(g *snapshot.Gateway, w *controlWay) {
	if !g.Injected() || len(g.Public) == 0 {
		return
	}
	var r *snapshot.Rule
	for _, from := range strangers {
		v := flow.Judge(t.s, flow.Query{Source: flow.FromInternet(from), Proto: sg.TCP, Dst: g.Public[0], Port: w.port}, true)
		if v.Outcome != flow.Deliver {
			return
		}
		if r = admitting(&v, nil); r == nil {
			r = &snapshot.Rule{Resource: model.Ref{Kind: model.KindGateway, Name: g.Name}}
		}
	}
	ref := model.RefOf(t.from.selfHosted).String()
	whom := ref + "'s own address"
	if t.from.net == nil && !t.from.standsFor {
		whom = netip.PrefixFrom(t.from.flow.Addr, t.from.flow.Addr.BitLen()).String() + " of " + ref
	}
	t.find("sg/allowed", r.Resource.String(), fmt.Sprintf("%s lets everyone in at port %d of Gateway/%s: that exposes the management plane, which its tokens alone guard. Admit tag:ApiManagement and %s in place of everyone.",
		ruleName(r), w.port, g.Name, whom))
}

// selfHostedOf are the self-hosted gateways of a Gateway, as callers.
func selfHostedOf(w *World, g *snapshot.Gateway) []string {
	var out []string
	for _, name := range w.Set.Names(model.KindSelfHosted) {
		from := "selfhosted/" + name
		if src, err := parseSource(w, from); err == nil && src.selfHosted != nil && src.selfHosted.Spec.Gateway == g.Name {
			out = append(out, from)
		}
	}
	return out
}

// exposing warns of fixes that would let callers on the internet in where a
// self-hosted gateway alone was meant to be.
func (t *trail) exposing() {
	if t.from.selfHosted == nil || t.controlHost() == nil {
		return
	}
	for i := range t.Fixes {
		f := &t.Fixes[i]
		if slices.ContainsFunc(f.AlsoOpens, func(o answer.Opening) bool {
			return strings.HasPrefix(o.From, internet) && o.To == asked(t)
		}) {
			f.Summary += "; this exposes the management plane to others on the internet"
		}
	}
}

// standingIn tells of fixes that name an address which stands for the gateway's own:
// made as they are, they let nobody in.
func (t *trail) standingIn() {
	if t.from.selfHosted == nil || !t.from.standsFor {
		return
	}
	stand := t.from.flow.Addr
	for i := range t.Fixes {
		if f := &t.Fixes[i]; strings.Contains(f.Summary, netip.PrefixFrom(stand, stand.BitLen()).String()) {
			f.Summary += fmt.Sprintf("; write %s's own address in place of %s, which stands for it", model.RefOf(t.from.selfHosted), stand)
		}
	}
}

// The bounds of what is asked of control links.
const (
	// maxLinks is how many self-hosted gateways are asked about.
	maxLinks = 32
	// maxAddresses is how many addresses one of them on the internet may have.
	maxAddresses = 4
)

// controlPlaces are the ways of self-hosted gateways to their management planes,
// and these gateways as callers: of those that stand at the same place one.
func controlPlaces(w *World) (ps []place, callers []string) {
	gateways, seen := map[string]bool{}, map[[2]string]bool{}
	for _, g := range model.All[*model.SelfHostedGateway](w.Set) {
		at := [2]string{g.Spec.Gateway, g.Spec.Attach}
		if w.Snapshot().Gateways[g.Spec.Gateway] == nil || seen[at] || len(seen) == maxLinks {
			continue
		}
		seen[at] = true
		from := "selfhosted/" + g.Metadata.Name
		callers = append(callers, from)
		if g.Spec.Attach == "" {
			for _, a := range admitted(w.Set) {
				callers = append(callers, from+"/"+a.String())
			}
		}
		if gateways[g.Spec.Gateway] {
			continue
		}
		gateways[g.Spec.Gateway] = true
		for _, way := range configuration.Ways(g.Spec.Gateway, w.Snapshot().Base) {
			c := controlWay{host: way.Host, port: way.Port}
			if t, err := parseTarget("https://" + c.String() + pathServiceStatus); err == nil {
				ps = append(ps, place{to: c.url(), target: t, control: g.Spec.Gateway})
			}
		}
	}
	return ps, callers
}

// url is what the way is asked by.
func (c *controlWay) url() string {
	if c.port == 443 {
		return "https://" + c.host + pathServiceStatus
	}
	return "https://" + c.String() + pathServiceStatus
}

// admitted are addresses that a rule admits by themselves: that of a self-hosted
// gateway on the internet is nowhere else.
func admitted(set *model.Set) []netip.Addr {
	var out []netip.Addr
	for _, g := range model.All[*model.SecurityGroup](set) {
		for i := range g.Spec.Rules {
			for _, from := range g.Spec.Rules[i].From {
				p, err := netip.ParsePrefix(from)
				if err == nil && p.IsSingleIP() && !p.Addr().IsPrivate() && !slices.Contains(out, p.Addr()) && len(out) < maxAddresses {
					out = append(out, p.Addr())
				}
			}
		}
	}
	return out
}
