// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strconv"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/model/near"
	"postern.dev/postern/snapshot"
)

// maxColumns bounds the callers of a Matrix.
const maxColumns = 64

var connections = map[snapshot.Connection]string{
	snapshot.Pending: model.Pending, snapshot.Approved: model.Approved, snapshot.Rejected: model.Rejected,
}

// Matrix asks for every component of a Gateway from everywhere that may matter:
// the internet, the management plane, the Links, a Host of every Subnet, or with
// all every Host, and its self-hosted gateways. Each cell is what Explain answers to the same question:
// by name, and where that is in vain, at the Gateway's private addresses.
func Matrix(w *World, gateway string, all bool) (*answer.Matrix, error) {
	s := w.Snapshot()
	g := s.Gateways[gateway]
	if g == nil {
		ref := model.Ref{Kind: model.KindGateway, Name: gateway}
		msg := fmt.Sprintf("there is no Gateway %q", gateway)
		if w.Set.Has(ref) {
			msg = w.unready(ref)
		} else {
			msg += near.Hint(gateway, keys(s.Gateways))
		}
		return nil, &model.Error{Kind: model.NotFound, Op: "matrix", Field: "gateway", Msg: msg}
	}
	m := &answer.Matrix{Gateway: g.Name, Mode: g.Mode, Revision: s.Revision, Rows: rowsOf(g, s.Base)}
	if g.Outbound != nil {
		m.Outbound = g.Outbound.Subnet.Name
	}
	for _, e := range g.Endpoints {
		if m.Endpoints == nil {
			m.Endpoints = map[string]string{}
		}
		m.Endpoints[e.Name] = connections[e.Connection]
	}
	m.Sources = append(callersOf(s, g, all), selfHostedOf(w, g)...)
	if more := len(m.Sources) - maxColumns; more > 0 {
		m.Sources, m.Omitted = m.Sources[:maxColumns], more
	}
	for i := range m.Rows {
		r := &m.Rows[i]
		for _, from := range m.Sources {
			q := answer.Question{From: from, URL: r.URL}
			t, err := trace(w, q)
			if err != nil {
				return nil, err
			}
			for _, a := range privately(g, snapshot.Component(r.Component)) {
				if t.Verdict == answer.Allow {
					break
				}
				// A private address may answer where the name does not lead.
				private := q
				private.ConnectTo = a
				told, err := trace(w, private)
				if err != nil {
					return nil, err
				}
				if told.Verdict == answer.Allow {
					t, q = told, private
				}
			}
			h := &t.Hops[t.DecidedBy]
			r.Cells = append(r.Cells, answer.MatrixCell{
				ConnectTo: q.ConnectTo, Verdict: t.Verdict, Code: t.Code, By: h.Component, Symptom: t.Symptom, Reason: h.Reason,
			})
			for _, a := range t.Assumptions {
				if !has(m.Assumptions, a) {
					m.Assumptions = append(m.Assumptions, a)
				}
			}
		}
	}
	return m, nil
}

// maxPrivate bounds the Endpoints whose addresses are tried for one cell.
const maxPrivate = 8

// privately are the addresses at which a component may be reached by whoever is
// told of them: that of an injected Gateway's node, and, for the gateway itself,
// those of its Endpoints.
func privately(g *snapshot.Gateway, c snapshot.Component) []string {
	var out []string
	if g.Injected() {
		out = append(out, g.Nodes[0].Addr.String())
	}
	if c == snapshot.ComponentGateway {
		for _, e := range g.Endpoints[:min(len(g.Endpoints), maxPrivate)] {
			if e.Connection == snapshot.Approved {
				out = append(out, e.Interfaces[0].Addr.String())
			}
		}
	}
	return out
}

// rowsOf are the components of a Gateway at the ports that clouds publish them
// on, each with a URL that it answers by itself.
func rowsOf(g *snapshot.Gateway, base string) []answer.MatrixRow {
	row := func(c snapshot.Component, port int, path string) answer.MatrixRow {
		host, scheme, at := g.Host, "https", ""
		if c != snapshot.ComponentGateway {
			host = g.Name + "." + string(c) + "." + base
		}
		switch port {
		case portClear:
			scheme = "http"
		case 443:
		default:
			at = ":" + strconv.Itoa(port)
		}
		return answer.MatrixRow{Component: string(c), Port: port, URL: scheme + "://" + host + at + path}
	}
	rows := []answer.MatrixRow{row(snapshot.ComponentGateway, 443, request.StatusPath)}
	if g.HTTP == model.HTTPRedirect || g.HTTP == model.HTTPServe {
		rows = append(rows, row(snapshot.ComponentGateway, portClear, request.StatusPath))
	}
	return append(rows,
		row(snapshot.ComponentManagement, 443, pathServiceStatus),
		row(snapshot.ComponentManagement, 3443, pathServiceStatus),
		row(snapshot.ComponentConfiguration, 443, pathServiceStatus),
		row(snapshot.ComponentConfiguration, 3443, pathServiceStatus),
		row(snapshot.ComponentPortal, 443, "/"),
		row(snapshot.ComponentSCM, 443, "/"),
	)
}

// callersOf are the columns: those in the Gateway's own Networks first, then
// those of its Endpoints, then their peers, then everybody else.
func callersOf(s *snapshot.Snapshot, g *snapshot.Gateway, all bool) []string {
	out := []string{internet}
	for _, a := range s.Internet.Management {
		if a.Is4() {
			out = append(out, internet+"/"+a.String())
			break
		}
	}
	for _, n := range nearTo(s, g) {
		subnets := map[*snapshot.Subnet]bool{}
		for _, name := range keys(s.Hosts) {
			if i := s.Hosts[name]; i.Network == n && (all || !subnets[i.Subnet]) {
				subnets[i.Subnet] = true
				out = append(out, "host/"+name)
			}
		}
		for _, name := range keys(s.Links) {
			if s.Links[name].Network == n {
				out = append(out, "link/"+name)
			}
		}
	}
	return out
}

// nearTo lists the Networks by how much a Gateway has to do with them.
func nearTo(s *snapshot.Snapshot, g *snapshot.Gateway) []*snapshot.Network {
	var out []*snapshot.Network
	add := func(n *snapshot.Network) {
		if n != nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	for _, i := range g.Interfaces() {
		add(i.Network)
	}
	for _, e := range g.Endpoints {
		add(e.Network)
	}
	for _, n := range slices.Clone(out) {
		for _, p := range n.Peers {
			add(p)
		}
	}
	for _, name := range keys(s.Networks) {
		add(s.Networks[name])
	}
	return out
}
