// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/operation"
	"postern.dev/postern/snapshot/sg"
)

// The bounds of a reachability: beyond them it is a sample, and says so.
const (
	maxSources = 256
	maxTargets = 512
	// maxOperations is how many operations of an API are asked for.
	maxOperations = 4
	// maxPorts is how many ports of one Host are asked for.
	maxPorts = 8
)

// place is one URL to ask for, with the header that it needs.
type place struct {
	// to is the place for people, and what tells it from others.
	to     string
	target target
	apiID  string
	// key says that the caller has an API key that opens what is asked for.
	key bool
	// host is the Host that is called by its address, if one is.
	host string
	// control is the Gateway to whose management plane this leads, where only the
	// control link of its self-hosted gateways is asked about.
	control string
}

// named is a URL with the header that it needs, as places are listed.
func named(url, apiID string) string {
	if apiID == "" {
		return url
	}
	return url + " (" + apiIDHeader + ": " + apiID + ")"
}

// asked is the place that a question asks for.
func asked(t *trail) string {
	id, _ := header(&t.q, apiIDHeader)
	return named(t.q.URL, id)
}

// list collects places up to a limit.
type list struct {
	places []place
	known  map[string]bool
	more   bool
}

func (l *list) add(p place) {
	switch {
	case l.known[p.to]:
	case len(l.places) >= maxTargets:
		l.more = true
	default:
		l.known[p.to] = true
		l.places = append(l.places, p)
	}
}

// serve adds the operations of a Stage under a host name and base path.
func (l *list) serve(host, base string, st *snapshot.Stage, header bool) {
	if st == nil || st.Deployment == nil {
		return
	}
	for _, op := range samples(st.Deployment) {
		p := place{}
		if header {
			p.apiID = st.API.ID
		}
		url := "https://" + host + base + fill(op.Path, "")
		t, err := parseTarget(url)
		if err != nil {
			continue // a template segment that makes no URL
		}
		p.to, p.target = named(url, p.apiID), t
		l.add(p)
		if op.KeyRequired {
			p.key = true
			p.to += withKey
			l.add(p)
		}
	}
}

// withKey stands behind a place that is asked for with an API key.
const withKey = " (" + apiKeyHeader + ")"

// places lists the URLs of every Stage that serves something, and a port for
// each rule that a Host's groups have.
func places(s *snapshot.Snapshot) ([]place, bool) {
	l := &list{known: map[string]bool{}}
	for _, n := range keys(s.APIs) {
		a := s.APIs[n]
		for _, stage := range keys(a.Stages) {
			st := a.Stages[stage]
			l.serve(a.Host, "/"+stage, st, false)
			if a.Type == model.Private {
				for _, e := range a.Gateway.Endpoints {
					l.serve(e.Host, "/"+stage, st, true)
				}
			}
		}
	}
	for _, n := range keys(s.Gateways) {
		g := s.Gateways[n]
		for _, m := range g.Paths {
			l.serve(g.Host, "/"+m.Path, m.Stage, false)
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
				l.serve(host, base, m.Stage, false)
			}
		}
	}
	ports := &list{known: map[string]bool{}}
	for _, n := range keys(s.Hosts) {
		for _, port := range rulePorts(s.Hosts[n].Groups) {
			ports.add(hostPlace(s, n, port))
		}
	}
	return append(l.places, ports.places...), l.more || ports.more
}

// hostPlace is a port of a Host.
func hostPlace(s *snapshot.Snapshot, host string, port uint16) place {
	p := place{
		to:     "tcp://${Host/" + host + ".address}:" + strconv.Itoa(int(port)),
		target: target{scheme: "tcp", port: port, proto: sg.TCP}, host: host,
	}
	if i := s.Hosts[host]; i != nil {
		p.target.addr = i.Addr
	}
	return p
}

// rulePorts are the first ports of the ranges that a Set's inbound rules name.
func rulePorts(set *sg.Set) []uint16 {
	if set == nil {
		return nil
	}
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

// samples are a few operations.
func samples(d *snapshot.Deployment) []*operation.Operation {
	var out []*operation.Operation
	for i := range d.Operations.Operations {
		op := &d.Operations.Operations[i]
		if op.Method != "GET" && op.Method != "ANY" {
			continue
		}
		out = append(out, op)
		if len(out) == maxOperations {
			break
		}
	}
	return out
}
