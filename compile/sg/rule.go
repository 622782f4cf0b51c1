// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package sg

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/rule"
	"postern.dev/postern/snapshot/sg"
)

// resolved is a rule with its peers as prefixes.
type resolved struct {
	sg.Rule
	prefixes []netip.Prefix
	order    int // place in its group
}

// resolve reads the rules of a group and adds those of its defaults.
func (s *Scope) resolve(g *model.SecurityGroup) ([]resolved, error) {
	ref := model.RefOf(g)
	var out []resolved
	var errs []error
	for i := range g.Spec.Rules {
		r, err := s.rule(g, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, r)
	}
	for i := range g.Status.GrantedRules {
		granted := &g.Status.GrantedRules[i]
		r, err := s.read(g, granted.Rule(), "status.grantedRules["+strconv.Itoa(i)+"]")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.order = len(out)
		out = append(out, r)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, d := range defaults(g) {
		prefixes, err := s.peers([]string{d.peer})
		if err != nil {
			return nil, fmt.Errorf("spec.defaults: %w", err)
		}
		out = append(out, resolved{
			Rule: sg.Rule{
				Ref:       rule.Ref{Resource: ref, Path: "spec.defaults", Name: d.name},
				Direction: d.dir, Deny: d.deny, Priority: d.priority, Peers: []string{d.peer},
			},
			prefixes: prefixes, order: len(out),
		})
	}
	return out, nil
}

// rule reads one of the group's own rules.
func (s *Scope) rule(g *model.SecurityGroup, i int) (resolved, error) {
	r := g.Spec.Rules[i]
	path := "spec.rules[" + strconv.Itoa(i) + "]"
	out, err := s.read(g, r, path)
	if err != nil {
		return out, err
	}
	out.order = i
	field := ".from"
	if out.Direction == sg.Outbound {
		field = ".to"
	}
	for j, p := range out.Peers {
		if g.Spec.Defaults == "enterprise" && strings.HasPrefix(p, "group:") {
			return out, fmt.Errorf("%s%s[%d]: a group with enterprise defaults cannot refer to %s; write its addresses as CIDRs", path, field, j, p)
		}
	}
	return out, nil
}

// read reads a rule that stands at path.
func (s *Scope) read(g *model.SecurityGroup, r model.Rule, path string) (resolved, error) {
	out := resolved{
		Rule: sg.Rule{
			Ref:      rule.Ref{Resource: model.RefOf(g), Path: path, Name: r.Name},
			Priority: r.Priority, Deny: r.Action == "deny",
		},
	}
	if out.Priority == 0 {
		out.Priority = 1000
	}
	if out.Priority < 1 || out.Priority > model.MaxPriority {
		return out, fmt.Errorf("%s.priority: %d is not between 1 and %d", path, r.Priority, model.MaxPriority)
	}
	if r.Action != "" && r.Action != "allow" && r.Action != "deny" {
		return out, fmt.Errorf("%s.action: %q is neither allow nor deny", path, r.Action)
	}
	var field string
	switch r.Direction {
	case "inbound":
		out.Direction, out.Peers, field = sg.Inbound, r.From, ".from"
	case "outbound":
		out.Direction, out.Peers, field = sg.Outbound, r.To, ".to"
	default:
		return out, fmt.Errorf("%s.direction: %q is neither inbound nor outbound", path, r.Direction)
	}
	var err error
	if out.Protocol, err = protocol(r.Protocol); err != nil {
		return out, fmt.Errorf("%s.protocol: %w", path, err)
	}
	for j, p := range r.Ports {
		ports, err := model.ParsePorts(p)
		if err != nil {
			return out, fmt.Errorf("%s.ports[%d]: %w", path, j, err)
		}
		out.Ports = append(out.Ports, sg.Ports(ports))
	}
	if out.prefixes, err = s.peers(out.Peers); err != nil {
		return out, fmt.Errorf("%s%s: %w", path, field, err)
	}
	return out, nil
}

func protocol(p string) (sg.Protocol, error) {
	switch p {
	case "", "any":
		return sg.Any, nil
	case "tcp":
		return sg.TCP, nil
	case "udp":
		return sg.UDP, nil
	case "icmp":
		return sg.ICMP, nil
	}
	return sg.Any, fmt.Errorf("%q is none of tcp, udp, icmp and any", p)
}

// builtIn is a rule that nobody wrote.
type builtIn struct {
	dir      sg.Direction
	priority int
	name     string
	peer     string
	deny     bool
}

// defaults lists the rules that come with a group's defaults. What happens
// where no rule at all matches is close's.
func defaults(g *model.SecurityGroup) []builtIn {
	switch g.Spec.Defaults {
	case "azure":
		return []builtIn{
			{sg.Inbound, 65000, "AllowVnetInBound", "tag:VirtualNetwork", false},
			{sg.Inbound, 65001, "AllowAzureLoadBalancerInBound", "tag:AzureLoadBalancer", false},
			{sg.Inbound, 65500, "DenyAllInBound", anyPeer, true},
			{sg.Outbound, 65000, "AllowVnetOutBound", "tag:VirtualNetwork", false},
			{sg.Outbound, 65001, "AllowInternetOutBound", "tag:Internet", false},
			{sg.Outbound, 65500, "DenyAllOutBound", anyPeer, true},
		}
	case "basic":
		within := "group:" + g.Metadata.Name
		return []builtIn{
			{sg.Inbound, sg.DefaultPriority, "within-group", within, false},
			{sg.Outbound, sg.DefaultPriority, "within-group", within, false},
		}
	}
	return nil
}

// anyPeer stands for every address in the rules of defaults.
const anyPeer = "any"

// peers resolves peers to prefixes; none at all means anywhere.
func (s *Scope) peers(peers []string) ([]netip.Prefix, error) {
	if len(peers) == 0 {
		return anywhere, nil
	}
	if len(peers) == 1 {
		return s.peer(peers[0])
	}
	var out []netip.Prefix
	for i, p := range peers {
		ps, err := s.peer(p)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out = append(out, ps...)
	}
	return aggregate(out), nil
}

// peer resolves one peer, once a scope.
func (s *Scope) peer(p string) ([]netip.Prefix, error) {
	if ps, ok := s.resolvedPeers[p]; ok {
		return ps, nil
	}
	ps, err := s.lookup(p)
	if err != nil {
		return nil, err
	}
	ps = aggregate(ps)
	s.resolvedPeers[p] = ps
	return ps, nil
}

func (s *Scope) lookup(text string) ([]netip.Prefix, error) {
	if text == anyPeer {
		return anywhere, nil
	}
	p, err := model.ParsePeer(text)
	if err != nil {
		return nil, err
	}
	if p.Group != "" {
		if s.env.Members == nil {
			return nil, nil
		}
		members := s.env.Members(p.Group)
		out := make([]netip.Prefix, len(members))
		for i, a := range members {
			a = a.Unmap()
			out[i] = netip.PrefixFrom(a, a.BitLen())
		}
		return out, nil
	}
	switch p.Tag {
	case model.TagVirtualNetwork:
		return s.env.VirtualNetwork, nil
	case model.TagInternet:
		return complement(aggregate(s.env.VirtualNetwork)), nil
	case model.TagAPIManagement:
		return s.env.ApiManagement, nil
	case model.TagAzureLoadBalancer:
		return s.env.AzureLoadBalancer, nil
	}
	return []netip.Prefix{p.Prefix}, nil
}
