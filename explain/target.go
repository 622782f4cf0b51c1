// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/snapshot/sg"
)

// target is what is asked for.
type target struct {
	scheme string // http, https, tcp, udp, dns
	name   string // host name in lower case; empty when addr was given
	addr   netip.Addr
	// told is where the caller connects whatever the name resolves to.
	told netip.Addr
	port uint16
	// host is the authority as a client sends it.
	host        string
	path, query string
	proto       sg.Protocol
}

// web tells whether the target speaks HTTP.
func (t *target) web() bool { return t.scheme == "http" || t.scheme == "https" }

// parseTarget reads the URL of a question.
func parseTarget(text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return target{}, invalid("url", "%q is no URL: %v", text, err)
	}
	t := target{scheme: u.Scheme, proto: sg.TCP}
	switch u.Scheme {
	case "http":
		t.port = 80
	case "https":
		t.port = 443
	case "udp":
		t.proto = sg.UDP
	case "tcp", "dns":
	default:
		return target{}, invalid("url", "%q: the scheme is none of http, https, tcp, udp, dns", text)
	}
	host := u.Hostname()
	if host == "" {
		return target{}, invalid("url", "%q names no host", text)
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return target{}, invalid("url", "%q: the port is not between 1 and 65535", text)
		}
		t.port = uint16(n)
	}
	if t.port == 0 && u.Scheme != "dns" {
		return target{}, invalid("url", "%q names no port; write %s://host:port", text, u.Scheme)
	}
	if u.User != nil {
		return target{}, invalid("url", "%q: user and password in a URL are not sent; use a header", text)
	}
	if t.addr, err = netip.ParseAddr(host); err != nil {
		t.addr = netip.Addr{}
		t.name = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	t.host = u.Host
	t.path, t.query = u.EscapedPath(), u.RawQuery
	if t.path == "" {
		t.path = "/"
	}
	return t, nil
}

// tell sets the address that the caller was told.
func (t *target) tell(address string) error {
	if address == "" {
		return nil
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return invalid("connectTo", "%q is no address; write one such as 10.0.1.4", address)
	}
	if t.scheme == "dns" {
		return invalid("connectTo", "a look-up connects to nothing; leave it out")
	}
	t.told = a.Unmap()
	return nil
}

// maxCertificates is how many certificates a caller shows at most.
const maxCertificates = 16

// certificates reads what a caller shows.
func certificates(text string) ([]*x509.Certificate, error) {
	if text == "" {
		return nil, nil
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, invalid("clientCert", "holds a %s beside certificates; leave it out", strings.ToLower(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid("clientCert", "certificate %d does not parse: %v", len(out)+1, err)
		}
		if out = append(out, c); len(out) > maxCertificates {
			return nil, invalid("clientCert", "has more than %d certificates", maxCertificates)
		}
	}
	if len(out) == 0 {
		return nil, invalid("clientCert", "holds no certificate in PEM form")
	}
	return out, nil
}

// header finds a header field of the question by its lower-case name.
// Of one that is given twice the last counts, as at the gateway.
func header(q *answer.Question, lower string) (value string, ok bool) {
	for _, h := range q.Headers {
		if strings.ToLower(h.Name) == lower {
			value, ok = h.Value, true
		}
	}
	return value, ok
}

// method is the question's method, GET if it names none.
func method(q *answer.Question) string {
	if q.Method == "" {
		return "GET"
	}
	return q.Method
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
