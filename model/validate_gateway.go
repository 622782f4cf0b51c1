// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/model/accesslog"
)

func (c *check) gateway(g *Gateway) {
	s := &g.Spec
	if c.required("spec.region", s.Region, "write one, such as eu-central-1; it stands in host names") {
		c.try("spec.region", checkLabel(s.Region))
	}
	c.oneOf("spec.networkMode", s.NetworkMode, ModeNone, ModeExternal, ModeInternal)
	c.oneOf("spec.http", s.HTTP, HTTPOff, HTTPRedirect, HTTPServe)
	c.oneOf("spec.endpointApproval", s.EndpointApproval, ApprovalAuto, ApprovalManual)
	network := ""
	if sub, ok := Get[*Subnet](c.s, s.Subnet); ok {
		network = sub.Spec.Network
		c.notDelegated("spec.subnet", sub, "")
		c.room("spec.subnet", sub, maxInjectedBits, "injection")
		c.inSubnet("spec.privateAddress", s.PrivateAddress, sub)
	}
	switch injected := s.NetworkMode == ModeExternal || s.NetworkMode == ModeInternal; {
	case injected && s.Subnet == "":
		c.fail("spec.subnet", "is missing; a Gateway with networkMode %s needs the Subnet it is injected into", s.NetworkMode)
	case !injected && s.Subnet != "":
		c.fail("spec.subnet", "a Gateway is injected only with networkMode external or internal; set one or remove the Subnet")
	case !injected && s.PrivateAddress != "":
		c.fail("spec.privateAddress", "a Gateway has one only with networkMode external or internal; set one or remove it")
	}
	if s.Outbound != nil {
		if c.required("spec.outbound.subnet", s.Outbound.Subnet, "name the Subnet that the Gateway dials from") {
			if sub, ok := Get[*Subnet](c.s, s.Outbound.Subnet); ok {
				c.delegated("spec.outbound.subnet", sub, g.Metadata.Name)
				c.room("spec.outbound.subnet", sub, maxOutboundBits, "outbound integration")
				set(&network, sub.Spec.Network)
			}
		}
	}
	if a := s.PublicAddress; a != "" && !open(a) {
		x, err := parseAddress(a)
		if c.try("spec.publicAddress", err) && (x.IsUnspecified() || x.IsMulticast() || x.IsLoopback()) {
			c.fail("spec.publicAddress", "%s can be nobody's public address; choose another or leave it out", x)
		}
	}
	if len(s.SecurityGroups) > 0 && s.Subnet == "" && s.Outbound == nil {
		c.fail("spec.securityGroups", "the Gateway has no interface in a Network to guard; set networkMode and subnet, or remove the groups")
	}
	c.groupList(network, s.SecurityGroups)
	c.accessLog(s.AccessLog)
	c.trusted("spec.trustedProxies", s.TrustedProxies)
	if !on(s.PublicAccess) && !c.approved(g.Metadata.Name) {
		c.fail("spec.publicAccess", "needs an approved Endpoint, or nobody reaches the Gateway; add one or approve it (postern endpoint approve NAME) before, or set publicAccess: true")
	}
}

// maxTrusted bounds the prefixes of trusted proxies: each request is held against
// them.
const maxTrusted = 64

// trusted checks where trusted proxies stand.
func (c *check) trusted(field string, prefixes []string) {
	if len(prefixes) > maxTrusted {
		c.fail(field, "%d are too many; join prefixes until there are at most %d", len(prefixes), maxTrusted)
		return
	}
	var seen []netip.Prefix
	for i, s := range prefixes {
		at := fmt.Sprintf("%s[%d]", field, i)
		if open(s) {
			continue
		}
		p, err := ParsePrefix(s)
		if !c.try(at, err) {
			continue
		}
		if p.Bits() == 0 {
			c.fail(at, "%s is everybody, who could then say to be anybody; write the prefixes of your proxies", p)
			continue
		}
		for j, q := range seen {
			if p.Overlaps(q) {
				c.fail(at, "%s overlaps %s at [%d]; keep the larger one", p, q, j)
			}
		}
		seen = append(seen, p)
	}
}

// The smallest IPv4 Subnets that take a Gateway, as Azure has them for injection
// and for outbound integration (virtual-network-concepts).
const (
	maxInjectedBits = 29
	maxOutboundBits = 27
)

// room fails for an IPv4 Subnet with more than bits.
func (c *check) room(field string, sub *Subnet, bits int, what string) {
	cidr, err := ExpandString(sub.Spec.CIDR, c.s)
	if err != nil {
		return // an error of its own
	}
	if p, err := ParsePrefix(cidr); err == nil && p.Addr().Is4() && p.Bits() > bits {
		c.fail(field, "Subnet %q (%s) is too small for %s, which needs a /%d or larger; use another Subnet", sub.Metadata.Name, p, what, bits)
	}
}

// delegated fails for a Subnet that is not delegated to a Gateway.
func (c *check) delegated(field string, sub *Subnet, gateway string) {
	switch sub.Spec.DelegatedTo {
	case gateway:
	case "":
		c.fail(field, "Subnet %q is not delegated; set delegatedTo: %s on it, and put nothing else there", sub.Metadata.Name, gateway)
	default:
		c.notDelegated(field, sub, gateway)
	}
}

// approved reports whether an approved Endpoint leads to a Gateway.
func (c *check) approved(gateway string) bool {
	for e := range each[*Endpoint](c.s) {
		if e.Spec.Gateway == gateway && e.Status.Connection == Approved {
			return true
		}
	}
	return false
}

func (c *check) endpoint(e *Endpoint) {
	c.required("spec.gateway", e.Spec.Gateway, "name the Gateway that the Endpoint leads to")
	if len(e.Spec.Subnets) == 0 {
		c.fail("spec.subnets", "is missing; name the Subnets in which the Endpoint has an address")
	}
	c.unique("spec.subnets", e.Spec.Subnets)
	network, first := "", ""
	for i, n := range e.Spec.Subnets {
		sub, ok := Get[*Subnet](c.s, n)
		if !ok {
			continue
		}
		at := fmt.Sprintf("spec.subnets[%d]", i)
		c.notDelegated(at, sub, "")
		switch {
		case network == "":
			network, first = sub.Spec.Network, n
		case network != sub.Spec.Network:
			c.fail(at, "Subnet %q is of Network %q, but %q is of %q; an Endpoint is in one Network, make a second Endpoint", n, sub.Spec.Network, first, network)
		}
	}
	c.groupList(network, e.Spec.SecurityGroups)
	c.policy("spec.policy", e.Spec.Policy)
	if s := e.Status.Connection; s != "" {
		c.oneOf("status.connection", s, Pending, Approved, Rejected)
	}
}

// networkOf returns the Network that an Endpoint is in, by its first Subnet.
func networkOf(e *Endpoint, s *Set) string {
	for _, n := range e.Spec.Subnets {
		if sub, ok := Get[*Subnet](s, n); ok {
			return sub.Spec.Network
		}
	}
	return ""
}

// policy judges the outer form of an IAM policy: an object, or text that is
// one.
func (c *check) policy(field string, raw json.RawMessage) {
	switch text, isText, ok := document(raw); {
	case len(raw) == 0:
	case !ok:
		c.fail(field, "want an IAM policy, an object or its JSON as text")
	case isText && !jsonObject(text):
		c.fail(field, "the text is no JSON object; write an IAM policy")
	}
}

func jsonObject(text string) bool {
	b := bytes.TrimSpace([]byte(text))
	return len(b) > 0 && b[0] == '{' && json.Valid(b)
}

// document returns what raw holds if that is text; ok if it is text or an
// object.
func document(raw json.RawMessage) (text string, isText, ok bool) {
	b := bytes.TrimSpace(raw)
	switch {
	case len(b) == 0:
		return "", false, false
	case b[0] == '"':
		err := json.Unmarshal(b, &text)
		return text, true, err == nil
	}
	return "", false, b[0] == '{' && json.Valid(b)
}

// object judges raw JSON that has to be an object.
func (c *check) object(field string, raw json.RawMessage) {
	if _, isText, ok := document(raw); len(raw) > 0 && (!ok || isText) {
		c.fail(field, "want an object")
	}
}

// maxPath bounds the length of base paths.
const maxPath = 300

var (
	basePath  = regexp.MustCompile(`^[A-Za-z0-9$_.+!*'()/-]*$`)
	exampleOf = []string{"petstore"}
)

// path judges a base path, which may begin and end with a slash.
func (c *check) path(field, p string) {
	if open(p) {
		return
	}
	if len(p) > maxPath {
		c.fail(field, "is longer than %d characters", maxPath)
		return
	}
	if !basePath.MatchString(p) {
		c.fail(field, "%q has characters beyond letters, digits and $-_.+!*'()/", p)
		return
	}
	for _, seg := range strings.Split(strings.Trim(p, "/"), "/") {
		if seg == "." || seg == ".." || seg == "" && strings.Trim(p, "/") != "" {
			c.fail(field, "%q has an empty segment, . or ..; write it like orders/v1", p)
			return
		}
	}
}

// api judges the spec of an API that stands at field at.
func (c *check) api(a *APISpec, at string) {
	c.required(at+".gateway", a.Gateway, "name the Gateway that serves the API")
	c.oneOf(at+".type", a.Type, Edge, Regional, Private)
	text, isText, ok := document(a.OpenAPI)
	switch {
	case len(a.OpenAPI) == 0:
		c.fail(at+".openapi", "is missing; write an OpenAPI document, {$file: PATH} or example:petstore")
	case !ok:
		c.fail(at+".openapi", "want an OpenAPI document, an object or text")
	case isText && strings.TrimSpace(text) == "":
		c.fail(at+".openapi", "is empty; write an OpenAPI document, {$file: PATH} or example:petstore")
	case isText:
		if name, example := strings.CutPrefix(text, "example:"); example && !strings.Contains(name, "\n") && !slices.Contains(exampleOf, name) {
			c.fail(at+".openapi", "unknown example %q%s", name, hint(name, exampleOf))
		}
	}
	c.path(at+".path", a.Path)
	if a.Stage != "" && !stageName.MatchString(a.Stage) {
		c.fail(at+".stage", "%q is no short name of a Stage, 1 to 128 of A-Z, a-z, 0-9, _ and -", a.Stage)
	}
	c.policy(at+".policy", a.Policy)
	c.unique(at+".endpoints", a.Endpoints)
	if len(a.Endpoints) > 0 && a.Type != Private {
		c.fail(at+".endpoints", "only a private API lists Endpoints; set type: private or remove them")
	}
	for i, n := range a.Endpoints {
		if e, ok := Get[*Endpoint](c.s, n); ok && e.Spec.Gateway != a.Gateway {
			c.fail(fmt.Sprintf("%s.endpoints[%d]", at, i), "Endpoint %q leads to Gateway %q, but the API is on %q", n, e.Spec.Gateway, a.Gateway)
		}
	}
	if p := bytes.TrimSpace(a.Plugins); len(p) > 0 && p[0] != '{' && p[0] != '[' {
		c.fail(at+".plugins", "want an object or a list")
	}
}

func (c *check) deployment(d *Deployment) {
	if d.Spec.API == "" || d.Spec.Number < 1 || d.Metadata.Name != fmt.Sprintf("%s.%d", d.Spec.API, d.Spec.Number) {
		c.fail("metadata.name", "does not agree with spec.api %q and spec.number %d; it is <api>.<n>", d.Spec.API, d.Spec.Number)
	}
}

const (
	maxVariables     = 100
	maxVariableName  = 64
	maxVariableValue = 512
)

var (
	variableName  = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	variableValue = regexp.MustCompile(`^[A-Za-z0-9._~:/?#&=,-]*$`)
)

func (c *check) stage(s *Stage) {
	if d := s.Spec.Deployment; d != "" && d != Latest {
		if n, ok := d.Number(); !ok || n < 1 {
			c.fail("spec.deployment", "%q is neither the number of a Deployment nor latest", string(d))
		}
	}
	if len(s.Spec.Variables) > maxVariables {
		c.fail("spec.variables", "%d are too many; at most %d are allowed", len(s.Spec.Variables), maxVariables)
	}
	for k, v := range s.Spec.Variables {
		if len(k) > maxVariableName || !variableName.MatchString(k) {
			c.fail("spec.variables", "the name %q must be 1 to %d letters, digits and _", k, maxVariableName)
		}
		if len(v) > maxVariableValue || !open(v) && !variableValue.MatchString(v) {
			c.fail("spec.variables."+k, "must be at most %d letters, digits and -._~:/?#&=,", maxVariableValue)
		}
	}
	c.throttle("spec.throttle", s.Spec.Throttle)
	c.object("spec.canary", s.Spec.Canary)
	c.accessLog(s.Spec.AccessLog)
}

func (c *check) accessLog(l *AccessLog) {
	if l == nil || l.Format == "" || open(l.Format) {
		return
	}
	if _, err := accesslog.Parse(l.Format); err != nil {
		c.fail("spec.accessLog.format", "%v", err)
	}
}

const maxTargets = 1000

func (c *check) backend(b *Backend) {
	s := &b.Spec
	if len(s.Targets) == 0 {
		c.fail("spec.targets", "is missing; write at least one: [{host: app.internal, port: 8080}]")
	}
	if len(s.Targets) > maxTargets {
		c.fail("spec.targets", "%d are too many; at most %d are allowed", len(s.Targets), maxTargets)
	}
	for i, t := range s.Targets {
		at := fmt.Sprintf("spec.targets[%d]", i)
		if c.required(at+".host", t.Host, "write an address or a host name") && !open(t.Host) {
			if _, err := netip.ParseAddr(t.Host); err != nil {
				c.try(at+".host", checkHostName(strings.ToLower(t.Host), false, true))
			}
		}
		if t.Port < 1 || t.Port > 65535 {
			c.fail(at+".port", "%d is no port; choose 1 to 65535", t.Port)
		}
		if t.TLS && s.Protocol != "grpc" {
			c.fail(at+".tls", "is for protocol: grpc alone; write protocol: https for a backend with TLS")
		}
		if t.Weight < 0 || t.Weight > 65535 {
			c.fail(at+".weight", "%d is out of range; choose 1 to 65535", t.Weight)
		}
	}
	c.oneOf("spec.protocol", s.Protocol, "http", "https", "h2c", "grpc")
	if s.Timeout != "" {
		if d, err := time.ParseDuration(s.Timeout); err != nil || d <= 0 {
			c.fail("spec.timeout", "%q is no length of time; write one like 10s", s.Timeout)
		}
	}
	c.health(s.Health)
	c.object("spec.retries", s.Retries)
	c.object("spec.circuitBreaker", s.CircuitBreaker)
}
