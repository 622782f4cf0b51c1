// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package property

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

const base = model.DefaultBase

// source draws who asks.
func (d *draw) source() string {
	switch n := d.IntN(20); {
	case n < 13 && len(d.hosts) > 0:
		return "host/" + pick(d, d.hosts...).Metadata.Name
	case n < 16 && len(d.links) > 0:
		l := pick(d, d.links...)
		p := netip.MustParsePrefix(l.Spec.CIDRs[0])
		a := p.Addr().Next()
		for range 6 * d.IntN(2) {
			a = a.Next()
		}
		if d.one(10) {
			a = pick(d, netip.MustParseAddr("192.168.77.7"), netip.MustParseAddr("10.1.1.4"))
		}
		return "link/" + l.Metadata.Name + "/" + a.String()
	}
	return "internet/" + pick(d, callers...)
}

// networkOf is the Network of a Subnet.
func (d *draw) networkOf(subnet string) string {
	for _, s := range d.subnets {
		if s.Metadata.Name == subnet {
			return s.Spec.Network
		}
	}
	return ""
}

// sourceFor draws who asks for an API: mostly someone who may get there.
func (d *draw) sourceFor(a *model.API) string {
	if d.one(6) {
		return d.source()
	}
	g := d.gateway(a.Spec.Gateway)
	inside := g.Spec.NetworkMode == model.ModeInternal
	if a.Spec.Type != model.Private && !inside && d.one(2) {
		return "internet/" + pick(d, callers...)
	}
	var near []string
	for _, h := range d.hosts {
		in := d.networkOf(h.Spec.Subnet)
		if a.Spec.Type != model.Private && (!inside || in == d.networkOf(g.Spec.Subnet)) || len(d.endpointsNear("host/"+h.Metadata.Name, a)) > 0 {
			near = append(near, "host/"+h.Metadata.Name)
		}
	}
	if len(near) == 0 {
		return d.source()
	}
	return pick(d, near...)
}

func (d *draw) gateway(name string) *model.Gateway {
	return d.gateways[slices.IndexFunc(d.gateways, func(g *model.Gateway) bool { return g.Metadata.Name == name })]
}

// endpointsNear lists the Endpoints of an API's Gateway in the Network of a
// Host.
func (d *draw) endpointsNear(from string, a *model.API) []*model.Endpoint {
	var out []*model.Endpoint
	for _, h := range d.hosts {
		if from != "host/"+h.Metadata.Name {
			continue
		}
		for _, e := range d.endpoints {
			if e.Spec.Gateway == a.Spec.Gateway && d.networkOf(e.Spec.Subnets[0]) == d.networkOf(h.Spec.Subnet) {
				out = append(out, e)
			}
		}
	}
	return out
}

// region of an API or an Endpoint: its Gateway's.
func (d *draw) region(gateway string) string {
	for _, g := range d.gateways {
		if g.Metadata.Name == gateway {
			return g.Spec.Region
		}
	}
	return "eu-1"
}

// hostName draws a host name, of a kind that means something most of the time.
func (d *draw) hostName() string { return d.hostFor("", d.someAPI()) }

// hostFor draws a host name under which a may be served to a caller.
func (d *draw) hostFor(from string, a *model.API) string {
	private := a.Spec.Type == model.Private && len(d.endpoints) > 0
	var e *model.Endpoint
	if len(d.endpoints) > 0 {
		e = pick(d, d.endpoints...)
	}
	near := d.endpointsNear(from, a)
	if len(near) > 0 && !d.one(4) {
		e = pick(d, near...)
	}
	switch n := d.IntN(20); {
	case n < 8 && private, n < 2 && e != nil:
		return "${Endpoint/" + e.Metadata.Name + ".host}"
	case n < 11 && private:
		if len(a.Spec.Endpoints) > 0 && !d.one(5) {
			name := pick(d, a.Spec.Endpoints...)
			e = d.endpoints[slices.IndexFunc(d.endpoints, func(e *model.Endpoint) bool { return e.Metadata.Name == name })]
		}
		return "${API/" + a.Metadata.Name + ".id}-${Endpoint/" + e.Metadata.Name + ".id}.execute-api." + d.region(e.Spec.Gateway) + "." + base
	case n < 14 && (!private || d.one(3) || slices.ContainsFunc(near, func(e *model.Endpoint) bool { return *e.Spec.PrivateDNS })):
		return "${API/" + a.Metadata.Name + ".host}"
	case n < 16:
		return "${Gateway/" + a.Spec.Gateway + ".host}"
	case n < 18 && len(d.domains) > 0, len(d.domains) > 0 && d.one(6):
		name := pick(d, d.domains...).Metadata.Name
		if name[0] == '*' {
			name = "any" + name[1:]
		}
		return name
	case n == 18 && d.one(3):
		return pick(d, "gw0", "gw1") + pick(d, ".management.", ".portal.", ".configuration.", ".") + base
	case n == 19 && d.one(2):
		return pick(d, "abcdefghij.execute-api.eu-1."+base, "nosuch.example", "shop.execute-api.us-2."+base, "execute-api.eu-1."+base)
	}
	if private {
		return "${Endpoint/" + e.Metadata.Name + ".host}"
	}
	return "${API/" + a.Metadata.Name + ".host}"
}

func (d *draw) someAPI() *model.API { return pick(d, d.apis...) }

// zoneName draws a name that a Zone may hold.
func (d *draw) zoneName() string {
	if len(d.zones) == 0 {
		return "nosuch.corp.example"
	}
	z := pick(d, d.zones...)
	if len(z.Spec.Records) > 0 && !d.one(3) {
		switch n := pick(d, z.Spec.Records...).Name; n {
		case "@":
			return z.Spec.Domain
		case "*", "*.b":
			return "drawn" + n[1:] + "." + z.Spec.Domain
		default:
			return n + "." + z.Spec.Domain
		}
	}
	return pick(d, "api", "x", "b", "x.b", "x.y") + "." + z.Spec.Domain
}

// address draws an address, taken or not.
func (d *draw) address() string {
	switch d.IntN(12) {
	case 0, 1, 8, 9:
		if len(d.endpoints) > 0 {
			return "${Endpoint/" + pick(d, d.endpoints...).Metadata.Name + ".address}"
		}
	case 2, 3, 10:
		if len(d.hosts) > 0 {
			return "${Host/" + pick(d, d.hosts...).Metadata.Name + ".address}"
		}
	case 4, 11:
		return "${Gateway/" + pick(d, d.gateways...).Metadata.Name + ".address}"
	case 5:
		return pick(d, "10.1.1.4", "10.1.1.200", "10.2.1.5", "10.1.0.2", "10.2.0.2", "10.3.0.2")
	case 6:
		return pick(d, "198.18.77.77", "198.18.0.1", "198.18.0.2", "192.0.2.1", "10.77.0.1", "127.0.0.2", "169.254.169.254")
	}
	return pick(d, "192.168.9.9", "192.168.10.10", "10.2.1.4", "10.3.1.4", "172.16.0.9", "fd00:1:0:1::5", "fd00:99::9")
}

func bracket(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]"
	}
	return host
}

// isHostOf6 tells whether the address of a reference may be an IPv6 one: then it
// stands in brackets, which a reference cannot be put into.
func (d *draw) refersTo6(host string) bool {
	six := map[string]bool{}
	for _, s := range d.subnets {
		if p := netip.MustParsePrefix(s.Spec.CIDR); p.Addr().Is6() {
			six[s.Metadata.Name] = true
		}
	}
	for _, g := range d.gateways {
		if host == "${Gateway/"+g.Metadata.Name+".address}" {
			return six[g.Spec.Subnet] || g.Spec.Subnet == "" && strings.Contains(g.Spec.PublicAddress, ":")
		}
	}
	for _, h := range d.hosts {
		if host == "${Host/"+h.Metadata.Name+".address}" {
			return six[h.Spec.Subnet]
		}
	}
	for _, e := range d.endpoints {
		if host == "${Endpoint/"+e.Metadata.Name+".address}" {
			return six[e.Spec.Subnets[0]]
		}
	}
	return false
}

// question draws a request.
func (d *draw) question() answer.Question {
	switch n := d.IntN(20); {
	case n < 4:
		return d.aboutComponent()
	case n == 4:
		return d.aboutGateway()
	case n < 10:
		return d.aboutBackend()
	case n < 12 && len(d.domains) > 0:
		return d.aboutDomain()
	}
	a := d.someAPI()
	q := answer.Question{From: d.sourceFor(a), Insecure: !d.one(3)}
	host := d.hostFor(q.From, a)
	switch {
	case len(d.zones) > 0 && d.one(10), d.one(40):
		host = d.zoneName()
	case d.one(16):
		host = d.address()
	}
	scheme := pick(d, "https", "https", "https", "https", "https", "https", "https", "https", "https", "https", "https", "https", "http", "tcp", "tcp", "udp", "dns")
	if scheme == "tcp" || scheme == "udp" {
		if d.one(2) {
			host = d.address()
			q.From = d.source()
		}
	}
	if scheme == "udp" && strings.HasPrefix(q.From, "internet") {
		scheme = "tcp" // the segment's callers send no datagrams
	}
	authority := bracket(host)
	if d.refersTo6(host) {
		authority = "[" + host + "]"
	}
	switch scheme {
	case "dns":
		q.URL = "dns://" + authority
		return q
	case "tcp":
		q.URL = "tcp://" + authority + ":" + pick(d, "443", "443", "80", "8080", "22", "53", "3443", "8443")
		return q
	case "udp":
		q.URL = "udp://" + authority + ":" + pick(d, "53", "53", "443", "8080")
		return q
	}
	q.Method = pick(d, "", "", "", "", "", "GET", "POST", "POST", "DELETE", "OPTIONS", "HEAD", "PUT")
	port := ""
	switch {
	case d.one(20):
		port = pick(d, ":80", ":443", ":8443", ":3443", ":444")
	case d.one(10) && scheme == "https":
		port = ":443"
	}
	q.URL = scheme + "://" + authority + port + d.path(a, host)
	q.Headers = d.headers(a, host)
	q.ClientCertSubject = d.certificateFor(host)
	return q
}

// certificateFor draws whether the caller shows a certificate, and whose.
func (d *draw) certificateFor(host string) string {
	asked := slices.ContainsFunc(d.domains, func(x *model.Domain) bool {
		return x.Spec.ClientCA != nil && strings.HasSuffix(host, strings.TrimPrefix(x.Metadata.Name, "*"))
	})
	if asked && !d.one(3) || d.one(40) {
		return pick(d, subjects...)
	}
	return ""
}

// path draws a path: below a Stage, or a base path where the host name has
// these.
func (d *draw) path(a *model.API, host string) string {
	rest := pick(d, "/pets", "/pets", "/pets", "/pets", "/pets", "/pets", "/pets", "/pets/1", "/pets/1", "", "/", "/dogs", "/any/thing/at/all", "/pets?type=cat", "/pets/1%2F2", "//pets", "/./pets", "/x/../pets", "/pets/", "/p%65ts")
	if d.one(15) {
		return pick(d, "/nosuch", "/Prod", "/prod%2Fpets", "/%70rod", "/moveda0", "") + rest
	}
	if strings.HasPrefix(host, "${Gateway/") && !d.one(8) {
		if a.Spec.Path == "" && !d.one(4) {
			a = d.someAPI()
		}
		return "/" + a.Spec.Path + rest
	}
	for _, x := range d.domains {
		if m := x.Spec.Mappings; strings.HasSuffix(host, strings.TrimPrefix(x.Metadata.Name, "*")) && !d.one(8) {
			if p := pick(d, m...).Path; p != "" {
				rest = "/" + p + rest
			}
			return rest
		}
	}
	if d.one(6) {
		return "/test" + rest
	}
	return "/prod" + rest
}

func (d *draw) headers(a *model.API, host string) []answer.Header {
	var out []answer.Header
	add := func(name, value string) {
		if !slices.ContainsFunc(out, func(h answer.Header) bool { return strings.EqualFold(h.Name, name) }) {
			out = append(out, answer.Header{Name: name, Value: value})
		}
	}
	endpoint := strings.HasPrefix(host, "${Endpoint/")
	if d.one(8) {
		a = d.someAPI()
	}
	switch {
	case endpoint && !d.one(8), d.one(20):
		if d.one(4) {
			add("Host", "${API/"+a.Metadata.Name+".host}")
		} else {
			add(pick(d, "x-apigw-api-id", "X-APIGW-API-ID"), "${API/"+a.Metadata.Name+".id}")
		}
	case d.one(25):
		add("Host", d.hostName())
	}
	if d.one(20) {
		add("x-apigw-api-id", pick(d, "abcdefghij", "", "ABC"))
	}
	if d.one(6) {
		add("User-Agent", pick(d, "curl/8.5.0", "test"))
	}
	if d.one(10) {
		add("Referer", pick(d, "https://a.example/", "https://b.example/"))
	}
	if d.one(20) {
		add("X-HTTP-Method-Override", pick(d, "GET", "POST", "bad value"))
	}
	if d.one(20) {
		add("x-api-key", fmt.Sprint(d.IntN(9)))
	}
	return out
}
