// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"net/netip"
	"slices"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// backendPorts are the ports that machines in Networks serve on; nothing serves
// on closedPort, at Hosts or at sites.
var backendPorts = []int{8080, 8080, 8081, 80, 9000}

const closedPort = 9

// The Zone that holds names of backends.
const backendZone = "backends.test"

// maxServers bounds how many Hosts join to serve.
const maxServers = 3

// drawServers lets some Hosts serve.
func (d *draw) drawServers() {
	hosts := slices.Clone(d.hosts)
	d.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	for _, h := range hosts[:min(len(hosts), 1+d.IntN(maxServers))] {
		if names := d.groupsOf(d.networkOf(h.Spec.Subnet)); len(names) > 0 && d.one(2) {
			h.Spec.SecurityGroups = []string{pick(d, names...)}
		}
		for range 1 + d.IntN(2) {
			st := step{serve: h.Metadata.Name, port: pick(d, backendPorts...)}
			if !slices.ContainsFunc(d.servers, func(o step) bool { return o.serve == st.serve && o.port == st.port }) {
				d.servers = append(d.servers, st)
			}
		}
	}
}

// drawBackends draws Backends: at the server itself one that answers, one that
// refuses, and others that may not be dialled; and in Networks.
func (d *draw) drawBackends() {
	d.drawServers()
	for i := range 1 + d.IntN(4) {
		b := &model.Backend{Head: head(fmt.Sprintf("b%d", i)), Spec: model.BackendSpec{Timeout: pick(d, "", "5s")}}
		if d.one(3) {
			b.Spec.Targets = []model.Target{pick(d,
				target(openBackend), target(openBackend), target(closedBackend), model.Target{Host: "10.99.0.1", Port: 8080}, model.Target{Host: "::1", Port: 80},
			)}
			if d.one(6) {
				b.Spec.Network = pick(d, d.networks...).Metadata.Name
			}
		} else {
			d.drawInside(b)
		}
		d.backends = append(d.backends, b)
		d.put(b)
	}
	for _, g := range d.gateways {
		for _, n := range d.presence(g) {
			d.drawAcross(n)
		}
	}
	d.drawBackendZone()
}

// drawAcross draws Backends that are dialled in a Network and stand beside it:
// behind its Link, and in a peer.
func (d *draw) drawAcross(network string) {
	beside := func(t model.Target) {
		b := &model.Backend{Head: head(fmt.Sprintf("b%d", len(d.backends)))}
		b.Spec.Network, b.Spec.Targets = network, []model.Target{t}
		d.backends = append(d.backends, b)
		d.put(b)
	}
	for _, l := range d.links {
		if l.Spec.Network == network && d.one(2) {
			d.servers = append(d.servers, step{join: model.RefOf(l)})
			beside(model.Target{Host: netip.MustParsePrefix(l.Spec.CIDRs[0]).Addr().Next().Next().String(), Port: 8080})
		}
	}
	for _, st := range d.servers {
		if st.serve == "" {
			continue
		}
		if far := d.networkOf(d.host(st.serve).Spec.Subnet); far != network && d.peered(far, network) && d.one(2) {
			beside(model.Target{Host: "${Host/" + st.serve + ".address}", Port: st.port})
			return
		}
	}
}

// peered tells whether a Peering joins two Networks.
func (d *draw) peered(a, b string) bool {
	return slices.ContainsFunc(d.objects, func(o model.Object) bool {
		p, ok := o.(*model.Peering)
		return ok && slices.Contains(p.Spec.Networks, a) && slices.Contains(p.Spec.Networks, b)
	})
}

func target(at string) model.Target {
	a := netip.MustParseAddrPort(at)
	return model.Target{Host: a.Addr().String(), Port: int(a.Port())}
}

// drawInside draws a Backend in a Network, most often one that a Gateway has an
// address in.
func (d *draw) drawInside(b *model.Backend) {
	g := pick(d, d.gateways...)
	b.Spec.Network = pick(d, d.networks...).Metadata.Name
	if at := d.presence(g); len(at) > 0 && !d.one(8) {
		b.Spec.Network = pick(d, at...)
	}
	b.Spec.Targets = []model.Target{d.inside(b)}
	if d.one(8) {
		b.Spec.Targets = append(b.Spec.Targets, d.inside(b))
	}
	if d.one(8) {
		b.Spec.Protocol = "https" // nobody has a certificate for it
	}
	if d.one(6) {
		b.Spec.Health = &model.BackendHealth{Interval: "1s", Timeout: "400ms", UnhealthyAfter: 1, HealthyAfter: 1}
	}
}

// inside draws one target in a Network.
func (d *draw) inside(b *model.Backend) model.Target {
	port := pick(d, backendPorts...)
	switch d.IntN(12) {
	case 0, 1, 2, 3: // a Host that serves, most often in this Network
		st := d.server()
		for range 2 {
			if d.networkOf(d.host(st.serve).Spec.Subnet) == b.Spec.Network {
				break
			}
			st = d.server()
		}
		return model.Target{Host: "${Host/" + st.serve + ".address}", Port: st.port}
	case 4, 11: // the same by name
		st := d.server()
		return model.Target{Host: st.serve + "." + backendZone, Port: st.port}
	case 5, 6: // a machine behind a Link
		for _, l := range d.links {
			if l.Spec.Network != b.Spec.Network && !d.one(4) {
				continue
			}
			if !d.one(4) {
				d.servers = append(d.servers, step{join: model.RefOf(l)})
			}
			p := netip.MustParsePrefix(l.Spec.CIDRs[0])
			return model.Target{Host: p.Addr().Next().Next().String(), Port: pick(d, port, port, port, closedPort)}
		}
	case 7: // the Gateway itself
		b.Spec.Protocol = "https"
		return model.Target{Host: "${Gateway/" + pick(d, d.gateways...).Metadata.Name + ".host}", Port: 443}
	case 8:
		if len(d.endpoints) > 0 {
			b.Spec.Protocol = "https"
			return model.Target{Host: "${Endpoint/" + pick(d, d.endpoints...).Metadata.Name + pick(d, ".address}", ".host}"), Port: 443}
		}
	case 9: // a name that is nowhere, or not here
		return model.Target{Host: pick(d, "nosuch."+backendZone, "nosuch.example", "api.corp.example", "x.internal.test"), Port: port}
	case 10: // a port that is closed
		return model.Target{Host: "${Host/" + d.server().serve + ".address}", Port: closedPort}
	}
	if d.quiet != "" && d.one(2) {
		// Nothing comes back from there.
		b.Spec.Timeout = "400ms"
		return model.Target{Host: "${Host/" + d.quiet + ".address}", Port: port}
	}
	h := pick(d, d.hosts...)
	if !slices.ContainsFunc(d.servers, func(st step) bool { return st.serve == h.Metadata.Name }) {
		b.Spec.Timeout = "400ms" // it may never join
	}
	return model.Target{Host: "${Host/" + h.Metadata.Name + ".address}", Port: port}
}

// server draws a port that is served.
func (d *draw) server() step {
	for {
		if st := pick(d, d.servers...); st.serve != "" {
			return st
		}
	}
}

func (d *draw) host(name string) *model.Host {
	return d.hosts[slices.IndexFunc(d.hosts, func(h *model.Host) bool { return h.Metadata.Name == name })]
}

// drawBackendZone gives Hosts that serve a name.
func (d *draw) drawBackendZone() {
	z := &model.Zone{Head: head("backends"), Spec: model.ZoneSpec{Domain: backendZone}}
	for _, n := range d.networks {
		if !d.one(4) {
			z.Spec.Networks = append(z.Spec.Networks, n.Metadata.Name)
		}
	}
	if len(z.Spec.Networks) == 0 {
		return
	}
	seen := map[string]bool{}
	for _, st := range d.servers {
		if st.serve == "" || seen[st.serve] {
			continue
		}
		seen[st.serve] = true
		r := model.Record{Name: st.serve, Type: "A", Values: []string{"${Host/" + st.serve + ".address}"}}
		if d.six(d.host(st.serve).Spec.Subnet) {
			r.Type = "AAAA"
		}
		z.Spec.Records = append(z.Spec.Records, r)
	}
	d.zones = append(d.zones, z)
	d.put(z)
}

// six tells whether a Subnet has IPv6 addresses.
func (d *draw) six(subnet string) bool {
	return slices.ContainsFunc(d.subnets, func(s *model.Subnet) bool {
		return s.Metadata.Name == subnet && netip.MustParsePrefix(s.Spec.CIDR).Addr().Is6()
	})
}

// aboutBackend draws a request that most often gets as far as a Backend.
func (d *draw) aboutBackend() answer.Question {
	a := pick(d, d.open...)
	q := answer.Question{From: d.sourceFor(a), Insecure: true}
	if d.closed(a.Spec.Gateway) {
		// The way in is through an Endpoint.
		for _, h := range d.hosts {
			if len(d.endpointsNear("host/"+h.Metadata.Name, a)) > 0 && !d.one(4) {
				q.From = "host/" + h.Metadata.Name
			}
		}
	}
	host := "${Gateway/" + a.Spec.Gateway + ".host}"
	if near := d.endpointsNear(q.From, a); len(near) > 0 && d.one(2) {
		e := pick(d, near...)
		q.Headers = append(q.Headers, answer.Header{Name: "Host", Value: host})
		host = "${Endpoint/" + e.Metadata.Name + ".host}"
	}
	path := "/all/"
	if len(q.Headers) == 0 && d.one(6) {
		host, path = "${API/"+a.Metadata.Name+".host}", "/prod/"
	}
	scheme := "https://"
	if h := d.gateway(a.Spec.Gateway).Spec.HTTP; (h == model.HTTPServe || h == model.HTTPRedirect) && len(q.Headers) == 0 && d.one(4) {
		scheme = "http://"
	}
	b := pick(d, d.backends...)
	for range 3 {
		// Most Gateways reach few Networks.
		if b.Spec.Network != "" && slices.Contains(d.presence(d.gateway(a.Spec.Gateway)), b.Spec.Network) {
			break
		}
		b = pick(d, d.backends...)
	}
	q.URL = scheme + host + path + b.Metadata.Name
	return q
}
