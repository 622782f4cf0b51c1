// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// The addresses of the management plane and of Postern's probes on the internet
// segment.
const (
	managementAt = "198.18.0.1"
	probesAt     = "198.18.0.2"
)

// aboutComponent draws a request to what else a Gateway serves beside APIs.
func (d *draw) aboutComponent() answer.Question {
	at := pick(d, d.gateways...)
	g := at.Metadata.Name
	q := answer.Question{From: d.source(), Insecure: !d.one(3)}
	if at.Spec.NetworkMode == model.ModeInternal && d.one(3) {
		// All that an internal Gateway has outside.
		q.From = "internet/" + pick(d, append(callers, managementAt)...)
		q.URL = "https://" + g + ".management." + base + pick(d, ":3443", ":3443", "") + "/ServiceStatus"
		return q
	}
	if d.one(5) {
		q.From = "internet/" + pick(d, managementAt, managementAt, probesAt)
	}
	c := pick(d, "management.", "management.", "management.", "configuration.", "portal.", "scm.", "")
	name := g + "." + c + base
	host := name
	if d.one(5) {
		// By address: no name is in the handshake.
		host, q.Insecure = "${Gateway/"+g+".address}", true
		q.Headers = append(q.Headers, answer.Header{Name: "Host", Value: name})
	}
	if d.one(8) && len(d.endpoints) > 0 {
		e := pick(d, d.endpoints...)
		host, q.Insecure = "${Endpoint/"+e.Metadata.Name+".address}", true
		q.Headers = []answer.Header{{Name: "Host", Value: name}}
	}
	if d.refersTo6(host) {
		host = "[" + host + "]"
	}
	port := pick(d, "", "", "", ":3443")
	if c == "management." {
		port = pick(d, "", ":3443")
	}
	path := pick(d, "/", "/", "/ServiceStatus", "/ServiceStatus", "/status-0123456789abcdef", "/status-0123456789abcdef", "/v1/networks", "/prod/pets")
	q.Method = pick(d, "", "", "", "", "GET", "HEAD", "POST")
	q.URL = "https://" + host + port + path
	if d.one(12) {
		q.URL = "http://" + host + path
	}
	if d.one(6) {
		q.Method, q.Headers = "", nil
		q.URL = "tcp://" + host + pick(d, ":443", ":3443", ":80")
	}
	return q
}

// aboutGateway draws what a Gateway itself asks for.
func (d *draw) aboutGateway() answer.Question {
	q := answer.Question{From: "gateway/" + pick(d, d.gateways...).Metadata.Name, Insecure: true}
	st := d.server()
	host, port := "${Host/"+st.serve+".address}", fmt.Sprint(st.port)
	switch d.IntN(6) {
	case 0:
		host = d.address()
	case 1:
		host = st.serve + "." + backendZone
	case 2:
		host, port = "${Gateway/"+pick(d, d.gateways...).Metadata.Name+".host}", pick(d, "443", "3443")
	}
	if d.one(8) {
		port = pick(d, "443", "80", "9")
	}
	if d.refersTo6(host) {
		host = "[" + host + "]"
	}
	q.URL = "tcp://" + bracket(host) + ":" + port
	switch n := d.IntN(12); {
	case n == 0:
		q.URL = "dns://" + bracket(host)
	case n < 5:
		// As a caller of APIs, its own ones too.
		a := pick(d, d.open...)
		q.URL = "https://${Gateway/" + a.Spec.Gateway + ".host}" + pick(d, "/all/"+pick(d, d.backends...).Metadata.Name, "/status-0123456789abcdef")
	}
	return q
}

// subjects are the callers that have a certificate.
var subjects = []string{"CN=alice", "CN=bob,O=partner"}

// drawAuthorizations lets Gateways into groups: those of backends, and others.
func (d *draw) drawAuthorizations() {
	for range 1 + d.IntN(2) {
		if z := d.authorization(fmt.Sprintf("z%d", len(d.authorizations))); z != nil {
			d.authorizations = append(d.authorizations, z)
			d.put(z)
		}
	}
}

// authorization draws one; nil if there is nothing to authorise.
func (d *draw) authorization(name string) *model.SecurityGroupAuthorization {
	var gateways []*model.Gateway
	for _, g := range d.gateways {
		if len(d.presence(g)) > 0 {
			gateways = append(gateways, g)
		}
	}
	if len(gateways) == 0 {
		return nil
	}
	g := pick(d, gateways...)
	var groups []string
	for _, n := range d.presence(g) {
		groups = append(groups, d.groupsOf(n)...)
	}
	for range 2 {
		if h := d.host(d.server().serve); len(h.Spec.SecurityGroups) > 0 && strings.Contains(strings.Join(groups, " "), h.Spec.SecurityGroups[0]) && d.one(2) {
			groups = h.Spec.SecurityGroups
		}
	}
	if len(groups) == 0 {
		return nil
	}
	z := &model.SecurityGroupAuthorization{Head: head(name)}
	z.Spec.Gateway, z.Spec.SecurityGroup = g.Metadata.Name, pick(d, groups...)
	for i, r := range []string{"8080/8080", "80/8079", "8081/9000", "1/65535"} {
		if d.one(2) || i == 3 && len(z.Spec.Ports) == 0 {
			z.Spec.Ports = append(z.Spec.Ports, r)
		}
	}
	return z
}

// granted draws the name of a rule that an authorization has put into a group.
func granted(d *draw, z *model.SecurityGroupAuthorization) string {
	return z.Metadata.Name + "-" + strings.ReplaceAll(pick(d, z.Spec.Ports...), "/", "-")
}
