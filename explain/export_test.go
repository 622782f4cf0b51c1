// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/name"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// Engines decides a question as the engines do: each step stops at the first
// stop. asked is false where the engines would not be asked at all.
func Engines(w *World, q answer.Question) (code string, allowed, asked bool) {
	if q, err := expand(w, q); err == nil {
		t, err := trace(w, q)
		if err != nil || !t.from.broken.IsZero() || !t.to.web() {
			return "", false, false
		}
		addrs := t.resolve()
		if len(addrs) == 0 {
			return "dns/nxdomain", false, t.Verdict == answer.Deny
		}
		for i, a := range addrs {
			v := flow.Judge(t.s, flow.Query{Source: t.from.flow, Proto: t.to.proto, Dst: a, Port: t.to.port, LinkDown: w.linkDown}, false)
			if v.Outcome != flow.Deliver {
				if i == 0 {
					code = v.Code
				}
				continue
			}
			t.flow = v
			if misspoken(&t.to) {
				return "", false, false
			}
			switch c, ok := serves(&v.Target, &t.to); {
			case !ok && gatewayOf(&v.Target) != nil:
				return "tls/unknown-name", false, true
			case !ok:
				return "", false, false
			case c != snapshot.ComponentGateway:
				return "listen/accepted", true, true
			}
			arrival := t.arrival()
			r := request.Judge(t.s, &arrival, false)
			if !r.Allowed || r.Operation() == nil {
				return r.Code(), r.Allowed, true
			}
			to, err := r.Destinations(t.s)
			switch {
			case err != nil:
				return request.CodeBackendNone, false, true
			case len(to) == 0:
				return request.CodeBackendOK, true, true
			}
			return dials(w, arrival.Gateway, to)
		}
		return code, false, true
	}
	return "", false, false
}

// dials decides as the engines do where a request is sent on to. asked is false
// where that hangs on what is picked or on somebody else's names.
func dials(w *World, g *snapshot.Gateway, to []request.Destination) (code string, allowed, asked bool) {
	for i := range to {
		c, open, known := dialOne(w, g, &to[i])
		switch {
		case !known, i > 0 && open != allowed:
			return "", false, false
		case i == 0:
			code, allowed = c, open
		}
	}
	return code, allowed, true
}

func dialOne(w *World, g *snapshot.Gateway, d *request.Destination) (code string, allowed, known bool) {
	s := w.Snapshot()
	src, ok := flow.Dials(g, d.Network)
	if !ok {
		return request.CodeNoWay, false, true
	}
	addrs := []netip.Addr{{}}
	if a, err := netip.ParseAddr(d.Host); err == nil {
		addrs[0] = a
	} else {
		var v name.Verdict
		v, addrs = lookup(s, &source{flow: src, net: d.Network}, d.Host)
		switch {
		case len(addrs) > 0:
		case v.Forward:
			return "", false, false
		default:
			return request.CodeNoName, false, true
		}
	}
	for i, a := range addrs {
		v := flow.Judge(s, flow.Query{Source: src, Proto: sg.TCP, Dst: a, Port: d.Port, LinkDown: w.linkDown}, false)
		if v.Outcome == flow.Deliver {
			return request.CodeBackendOK, true, true
		}
		if i == 0 {
			code = request.UndeliveredCode(&v)
		}
	}
	return code, false, true
}

// Places lists the callers and URLs that Reach asks about.
func (r *Reachability) Places() (from []string, urls []string, ids map[string]string) {
	ids = map[string]string{}
	for i := range r.sources {
		from = append(from, r.sources[i].name)
	}
	for i := range r.places {
		p := &r.places[i]
		urls = append(urls, p.to)
		ids[p.to] = p.apiID
	}
	return from, urls, ids
}

// Size is how many callers and URLs there are.
func (r *Reachability) Size() (sources, places int) { return len(r.sources), len(r.places) }
