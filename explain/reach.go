// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// The bounds of a reachability: beyond them it is a sample, and says so.
const (
	maxSources = 256
	maxTargets = 512
	// maxOperations is how many operations of an API are asked for.
	maxOperations = 4
)

// Reachability is which callers get through to which URLs.
type Reachability struct {
	pairs map[answer.Opening]bool
	// Sampled says that there are more callers or URLs than were asked about.
	Sampled bool
}

// Allowed tells whether from gets through to the URL.
func (r *Reachability) Allowed(from, url string) bool {
	return r.pairs[answer.Opening{From: from, To: url}]
}

// place is one URL to ask for, with the header that it needs.
type place struct {
	url    string
	target target
	apiID  string
}

// Reach asks for every published operation, by each of its URLs, from every
// Host, every Link and the internet, and for the ports that Hosts open to each
// other's groups.
func Reach(w *World) *Reachability {
	r := &Reachability{pairs: map[answer.Opening]bool{}}
	s := w.Snapshot()
	places, more := places(s)
	sources, most := sources(s)
	r.Sampled = more || most
	for _, from := range sources {
		for i := range places {
			p := &places[i]
			if reaches(w, s, from, p) {
				to := p.url
				if p.apiID != "" {
					to += " (" + apiIDHeader + ": " + p.apiID + ")"
				}
				r.pairs[answer.Opening{From: from.name, To: to}] = true
			}
		}
	}
	return r
}

// Difference lists what gets through after but not before, and the reverse,
// sorted.
func Difference(before, after *Reachability) (gained, lost []answer.Opening) {
	for o := range after.pairs {
		if !before.pairs[o] {
			gained = append(gained, o)
		}
	}
	for o := range before.pairs {
		if !after.pairs[o] {
			lost = append(lost, o)
		}
	}
	for _, l := range [][]answer.Opening{gained, lost} {
		sort.Slice(l, func(i, j int) bool {
			if l[i].From != l[j].From {
				return l[i].From < l[j].From
			}
			return l[i].To < l[j].To
		})
	}
	return gained, lost
}

// sources lists the callers.
func sources(s *snapshot.Snapshot) (out []source, more bool) {
	var names []string
	for _, h := range keys(s.Hosts) {
		names = append(names, "host/"+h)
	}
	for _, l := range keys(s.Links) {
		names = append(names, "link/"+l)
	}
	names = append(names, "internet")
	if len(names) > maxSources {
		names, more = append(names[:maxSources-1], "internet"), true
	}
	for _, n := range names {
		if src, err := parseSource(s, n); err == nil {
			out = append(out, src)
		}
	}
	return out, more
}

// places lists the URLs of every Stage that serves something, and a port for
// each rule that a Host's groups have.
func places(s *snapshot.Snapshot) (out []place, more bool) {
	add := func(host, base string, st *snapshot.Stage, header bool) {
		if st == nil || st.Deployment == nil {
			return
		}
		for _, path := range samplePaths(st.Deployment) {
			if len(out) >= maxTargets {
				more = true
				return
			}
			p := place{url: "https://" + host + base + path}
			if header {
				p.apiID = st.API.ID
			}
			t, err := parseTarget(p.url)
			if err != nil {
				continue // a template segment that makes no URL
			}
			p.target = t
			out = append(out, p)
		}
	}
	for _, n := range keys(s.APIs) {
		a := s.APIs[n]
		for _, stage := range keys(a.Stages) {
			st := a.Stages[stage]
			add(a.Host, "/"+stage, st, false)
			if a.Type == model.Private {
				for _, e := range a.Gateway.Endpoints {
					add(e.Host, "/"+stage, st, true)
				}
			}
		}
	}
	for _, n := range keys(s.Gateways) {
		g := s.Gateways[n]
		for _, m := range g.Paths {
			add(g.Host, "/"+m.Path, m.Stage, false)
		}
		for _, host := range keys(g.Hosts) {
			h := g.Hosts[host]
			if h.Kind != snapshot.HostDomain || strings.HasPrefix(host, "*.") {
				continue
			}
			for _, m := range h.Domain.Mappings {
				base := ""
				if m.Path != "" {
					base = "/" + m.Path
				}
				add(host, base, m.Stage, false)
			}
		}
	}
	return append(out, hostPlaces(s)...), more
}

// hostPlaces lists a port of each Host for every inbound rule of its groups.
func hostPlaces(s *snapshot.Snapshot) []place {
	var out []place
	for _, n := range keys(s.Hosts) {
		i := s.Hosts[n]
		if i.Groups == nil {
			continue
		}
		for _, port := range rulePorts(i.Groups) {
			if len(out) >= maxTargets {
				return out
			}
			out = append(out, place{
				url:    "tcp://host/" + n + ":" + strconv.Itoa(int(port)),
				target: target{scheme: "tcp", addr: i.Addr, port: port, proto: sg.TCP},
			})
		}
	}
	return out
}

// maxPorts is how many ports of one Host are asked for.
const maxPorts = 8

// rulePorts are the first ports of the ranges that a Set's inbound rules name.
func rulePorts(set *sg.Set) []uint16 {
	var out []uint16
	for _, r := range set.Ways[sg.Inbound].Rules {
		for _, p := range r.Ports {
			if len(out) < maxPorts && !r.Deny && !slices.Contains(out, p.First) {
				out = append(out, p.First)
			}
		}
	}
	return out
}

// samplePaths are a few operations' paths, parameters filled in.
func samplePaths(d *snapshot.Deployment) []string {
	var out []string
	for _, op := range d.Operations.Operations {
		if op.Method != "GET" && op.Method != "ANY" {
			continue
		}
		out = append(out, fill(op.Path, ""))
		if len(out) == maxOperations {
			break
		}
	}
	return out
}

// reaches asks the same questions as trace does and keeps the answer only.
func reaches(w *World, s *snapshot.Snapshot, from source, p *place) bool {
	addrs := []netip.Addr{p.target.addr}
	if p.target.name != "" {
		view := name.View(s, from.net)
		v := name.Resolve(s, view, p.target.name, snapshot.TypeA)
		if len(v.Addrs) == 0 {
			v = name.Resolve(s, view, p.target.name, snapshot.TypeAAAA)
		}
		addrs = v.Addrs
	}
	for _, a := range addrs {
		v := flow.Judge(s, flow.Query{Source: from.flow, Proto: p.target.proto, Dst: a, Port: p.target.port, LinkDown: w.linkDown}, false)
		if v.Outcome != flow.Deliver {
			continue
		}
		if !p.target.web() {
			return true
		}
		t := &trail{w: w, s: s, from: from, to: p.target, flow: v}
		if p.apiID != "" {
			t.q.Headers = []answer.Header{{Name: apiIDHeader, Value: p.apiID}}
		}
		if !t.reachesGateway() {
			return false
		}
		arrival := t.arrival()
		r := request.Judge(s, &arrival, false)
		return r.Allowed
	}
	return false
}
