// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"postern.dev/postern/decide/flow"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/snapshot"
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
			return r.Code(), r.Allowed, true
		}
		return code, false, true
	}
	return "", false, false
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
