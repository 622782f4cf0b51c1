// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
	"postern.dev/postern/snapshot/sg"
)

// Reachability is which callers get through to which URLs.
type Reachability struct {
	j       *judge
	sources []source
	places  []place
	row     map[string]int // of sources, by name
	column  map[string]int // of places
	allowed []bool         // by row, then column
	// elsewhere is what self-hosted gateways serve; nil if it was not asked for.
	elsewhere map[answer.Opening]bool
	// Sampled says that there are more callers or URLs than were asked about.
	Sampled bool
}

// Allowed tells whether from gets through to the URL.
func (r *Reachability) Allowed(from, url string) bool {
	i, ok := r.row[from]
	j, known := r.column[url]
	return ok && known && r.allowed[i*len(r.places)+j] || r.elsewhere[answer.Opening{From: from, To: url}]
}

// Reach asks for every published operation, by each of its URLs, from every
// Host, every Link and the internet, and for the ports that Hosts open to each
// other's groups; and which Stages self-hosted gateways serve to their callers.
func Reach(w *World) *Reachability {
	r := reach(w)
	r.elsewhere = elsewhere(w)
	return r
}

// reach is Reach, with the callers and URLs of some questions besides.
func reach(w *World, questions ...*trail) *Reachability {
	s := w.Snapshot()
	r := &Reachability{j: newJudge(w), row: map[string]int{}, column: map[string]int{}}
	var more, most bool
	r.places, more = places(s)
	names, most := sources(s)
	r.Sampled = more || most
	links, callers := controlPlaces(w)
	r.places = append(r.places, links...)
	for i := range r.places {
		r.column[r.places[i].to] = i
	}
	free := map[string]bool{} // who asks the questions, asks for everything
	for _, t := range questions {
		names, free[t.from.name] = append(names, t.from.name), true
		p := t.place()
		if i, ok := r.column[p.to]; ok {
			r.places[i].control = "" // and what they ask for is asked by everybody
		}
		if r.column[p.to] == 0 && (len(r.places) == 0 || r.places[0].to != p.to) {
			r.column[p.to] = len(r.places)
			r.places = append(r.places, p)
		}
	}
	for _, n := range append(names, callers...) {
		if src, ok := r.j.source(n); ok {
			if _, twice := r.row[src.name]; !twice {
				r.row[src.name] = len(r.sources)
				src := *src
				src.linkOnly = src.selfHosted != nil && !free[src.name]
				r.sources = append(r.sources, src)
			}
		}
	}
	r.allowed = make([]bool, len(r.sources)*len(r.places))
	for i := range r.sources {
		for k := range r.places {
			r.allowed[i*len(r.places)+k] = r.asks(i, k) && r.j.reaches(&r.sources[i], &r.places[k])
		}
	}
	return r
}

// asks tells whether a caller is asked about a place: for the control link of
// self-hosted gateways those are they and the internet, which nobody means to let
// in there.
func (r *Reachability) asks(source, place int) bool {
	from, p := &r.sources[source], &r.places[place]
	switch {
	case p.control == "":
		return !from.linkOnly
	case from.selfHosted != nil:
		return from.selfHosted.Spec.Gateway == p.control
	}
	return from.name == internet || strings.HasPrefix(from.name, internet+"/")
}

// place is what the question asks for: its URL as a plain GET would.
func (t *trail) place() place {
	p := place{to: asked(t), target: t.to}
	p.apiID, _ = header(&t.q, apiIDHeader)
	return p
}

// Difference lists what gets through after but not before, and the reverse,
// sorted. A caller or URL that only one of the two was asked about is asked of
// the other.
func Difference(before, after *Reachability) (gained, lost []answer.Opening) {
	gained = besides(after.beyond(before), only(after.elsewhere, before.elsewhere))
	return gained, besides(before.beyond(after), only(before.elsewhere, after.elsewhere))
}

// beyond lists what gets through in r but not in other, in no order.
func (r *Reachability) beyond(other *Reachability) []answer.Opening {
	var out []answer.Opening
	rows := make([]int, len(r.places))
	for k := range r.places {
		rows[k] = -1
		if c, ok := other.column[r.places[k].to]; ok {
			rows[k] = c
		}
	}
	for i := range r.sources {
		from := &r.sources[i]
		row, known := other.row[from.name]
		for k := range r.places {
			if !r.allowed[i*len(r.places)+k] {
				continue
			}
			p := &r.places[k]
			if known && rows[k] >= 0 && other.asks(row, rows[k]) {
				if other.allowed[row*len(other.places)+rows[k]] {
					continue
				}
			} else if other.j.asked(from.name, p) {
				continue
			}
			out = append(out, answer.Opening{From: from.name, To: p.to})
		}
	}
	return out
}

// sources lists the callers.
func sources(s *snapshot.Snapshot) (names []string, more bool) {
	for _, h := range keys(s.Hosts) {
		names = append(names, "host/"+h)
	}
	for _, l := range keys(s.Links) {
		names = append(names, "link/"+l)
	}
	if len(names) >= maxSources {
		names, more = names[:maxSources-1], true
	}
	return append(names, "internet"), more
}

// judge asks the same questions as trace does and keeps the answer only. What
// several questions have in common is asked once.
type judge struct {
	w       *World
	s       *snapshot.Snapshot
	callers map[string]*source // nil: there is no such caller
	names   map[nameKey][]netip.Addr
	flows   map[flowKey]way
	dials   map[dialKey]bool
	// from is whom flows are of.
	from    string
	verdict request.Verdict
}

type nameKey struct {
	view *snapshot.Network
	six  bool
	name string
}

type flowKey struct {
	addr  netip.Addr
	port  uint16
	proto sg.Protocol
}

// dialKey is a target of a backend, as a Gateway dials it.
type dialKey struct {
	gateway *snapshot.Gateway
	network *snapshot.Network
	host    string
	port    uint16
}

// way is what becomes of a flow.
type way struct {
	delivered bool
	target    flow.Target
}

func newJudge(w *World) *judge {
	return &judge{
		w: w, s: w.Snapshot(), callers: map[string]*source{},
		names: map[nameKey][]netip.Addr{}, flows: map[flowKey]way{},
		dials: map[dialKey]bool{},
	}
}

// source finds a caller.
func (j *judge) source(name string) (*source, bool) {
	src, ok := j.callers[name]
	if !ok {
		if x, err := parseSource(j.w, name); err == nil && x.broken.IsZero() {
			src = &x
		}
		j.callers[name] = src
	}
	return src, src != nil
}

// asked judges a place of another World.
func (j *judge) asked(from string, p *place) bool {
	src, ok := j.source(from)
	if !ok {
		return false
	}
	if p.host != "" {
		here := hostPlace(j.s, p.host, p.target.port)
		return here.target.addr.IsValid() && j.reaches(src, &here)
	}
	return j.reaches(src, p)
}

func (j *judge) addrs(from *source, p *place) []netip.Addr {
	if p.target.name == "" {
		return []netip.Addr{p.target.addr}
	}
	k := nameKey{from.net, from.flow.Addr.Is6(), p.target.name}
	addrs, ok := j.names[k]
	if !ok {
		_, addrs = lookup(j.s, from, p.target.name)
		j.names[k] = addrs
	}
	return addrs
}

func (j *judge) flow(from *source, k flowKey) way {
	if j.from != from.name {
		j.from = from.name
		clear(j.flows)
	}
	w, ok := j.flows[k]
	if !ok {
		v := flow.Judge(j.s, flow.Query{Source: from.flow, Proto: k.proto, Dst: k.addr, Port: k.port, LinkDown: j.w.linkDown}, false)
		w = way{v.Outcome == flow.Deliver, v.Target}
		j.flows[k] = w
	}
	return w
}

// reaches tells whether a caller gets through to a place.
func (j *judge) reaches(from *source, p *place) bool {
	if p.target.scheme == "dns" {
		return len(j.addrs(from, p)) > 0
	}
	for _, a := range j.addrs(from, p) {
		w := j.flow(from, flowKey{a, p.target.port, p.target.proto})
		switch {
		case !w.delivered:
			continue
		case !p.target.web():
			return w.target.Kind != flow.ToEgress
		case misspoken(&p.target):
			return false
		}
		switch c, ok := serves(&w.target, &p.target); {
		case !ok:
			return false
		case c != snapshot.ComponentGateway:
			return true
		}
		return j.served(from, p, &w.target, a)
	}
	return false
}

func (j *judge) served(from *source, p *place, g *flow.Target, dst netip.Addr) bool {
	a := arrive(from, &p.target, g, dst)
	a.Now, a.Verify = j.w.Now, a.TLS
	a.APIID, a.HasAPIID = p.apiID, p.apiID != ""
	v := &j.verdict
	v.Judge(j.s, &a, false)
	if p.key && v.Code() == request.CodeKeyMissing {
		if s := subscribed(v.API); len(s) > 0 {
			a.Subscription = s[0]
			v.Judge(j.s, &a, false)
		}
	}
	if !v.Allowed || v.Redirect || v.Status {
		return v.Allowed
	}
	switch v.Operation().Integration.Kind {
	case operation.Petstore, operation.Mock:
		return true
	}
	to, err := v.Destinations(j.s)
	return err == nil && j.dialled(a.Gateway, to)
}

// dialled tells whether any of the places may be dialled. What only another
// resolver knows is taken to be public.
func (j *judge) dialled(g *snapshot.Gateway, to []request.Destination) bool {
	for i := range to {
		d := &to[i]
		k := dialKey{g, d.Network, d.Host, d.Port}
		open, ok := j.dials[k]
		if !ok {
			open = j.dial(g, d)
			j.dials[k] = open
		}
		if open {
			return true
		}
	}
	return len(to) == 0
}

func (j *judge) dial(g *snapshot.Gateway, d *request.Destination) bool {
	src, ok := flow.Dials(g, d.Network)
	if !ok {
		return false
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(d.Host); err == nil {
		addrs = []netip.Addr{a.Unmap().WithZone("")}
	} else {
		from := source{flow: src, net: d.Network}
		var v name.Verdict
		v, addrs = lookup(j.s, &from, name.Canonical(d.Host))
		switch {
		case len(addrs) > 0:
		case len(v.Forwarders(d.Network)) > 0:
			return true
		case d.Network == nil && v.Zone == nil:
			addrs = []netip.Addr{somewhere}
		}
	}
	for _, a := range addrs {
		v := flow.Judge(j.s, flow.Query{Source: src, Proto: sg.TCP, Dst: a, Port: d.Port, LinkDown: j.w.linkDown}, false)
		if v.Outcome == flow.Deliver {
			return true
		}
	}
	return false
}
