// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"
	"strings"
)

// maxRanges bounds the ranges of one authorization.
const maxRanges = 100

func (c *check) authorization(z *SecurityGroupAuthorization) {
	s := &z.Spec
	c.required("spec.gateway", s.Gateway, "name the Gateway that is to reach the backends")
	c.required("spec.securityGroup", s.SecurityGroup, "name the SecurityGroup of the backends")
	if len(s.Ports) == 0 {
		c.fail("spec.ports", `is missing; write the backends' ports as start/end, such as ["8080/8080"]`)
	}
	if len(s.Ports) > maxRanges {
		c.fail("spec.ports", "%d ranges are too many; at most %d are allowed", len(s.Ports), maxRanges)
	}
	for i, p := range s.Ports {
		_, err := ParseRange(p)
		c.try(fmt.Sprintf("spec.ports[%d]", i), err)
	}
	c.unique("spec.ports", s.Ports)
	gw, ok := Get[*Gateway](c.s, s.Gateway)
	if !ok {
		return
	}
	subnets := subnetsOf(c.s, gw)
	if gw.Spec.Subnet == "" && gw.Spec.Outbound == nil {
		c.fail("spec.gateway", "Gateway %q has no interface in a Network that a SecurityGroup could let in; set networkMode and subnet, or outbound.subnet, on it", s.Gateway)
		return
	}
	g, ok := Get[*SecurityGroup](c.s, s.SecurityGroup)
	if !ok || len(subnets) == 0 {
		return
	}
	var in []string
	for _, sub := range subnets {
		if adjoin(c.s, sub.Spec.Network, g.Spec.Network) {
			return
		}
		in = append(in, fmt.Sprintf("%q", sub.Spec.Network))
	}
	slices.Sort(in)
	c.fail("spec.securityGroup", "SecurityGroup %q is of Network %q, which is neither that of Gateway %q (%s) nor a peer of it; add a Peering, or name a group of a Network that the Gateway reaches", s.SecurityGroup, g.Spec.Network, s.Gateway, strings.Join(slices.Compact(in), ", "))
}

// grantedRules judges what a backup tells of the rules that were granted.
func (c *check) grantedRules(g *SecurityGroup) {
	for i, r := range g.Status.GrantedRules {
		at := fmt.Sprintf("status.grantedRules[%d]", i)
		_, err := ParseRange(r.Ports)
		c.try(at+".ports", err)
		if err := checkLabel(r.Authorization); err != nil {
			c.fail(at+".authorization", "the name %s", err)
		}
		if err := checkLabel(r.Gateway); err != nil {
			c.fail(at+".gateway", "the name %s", err)
		}
		for j, p := range r.From {
			_, err := ParsePeer(p)
			c.try(fmt.Sprintf("%s.from[%d]", at, j), err)
		}
	}
}
