// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sg compiles security groups into the tables that decide/sg judges by.
package sg

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/rule"
	"postern.dev/postern/snapshot/sg"
)

// Env is what a Network's rules can refer to.
type Env struct {
	// VirtualNetwork is the Network, its peers and links; tag:Internet is
	// everything else.
	VirtualNetwork []netip.Prefix
	// ApiManagement is the management plane's source, AzureLoadBalancer that of
	// health probes.
	ApiManagement     []netip.Prefix
	AzureLoadBalancer []netip.Prefix
	// Members lists the addresses of the interfaces in the Network and its
	// peers that carry a group; nil for none.
	Members func(group string) []netip.Addr
}

// Builder builds Sets and shares those with equal content, from one
// compilation to the next too. It must not be used from several goroutines.
type Builder struct {
	sets map[string]*sg.Set
	used map[string]bool
}

// New returns a Builder that has built nothing yet.
func New() *Builder {
	return &Builder{sets: map[string]*sg.Set{}, used: map[string]bool{}}
}

// Trim forgets the Sets that were not asked for since the last Trim. To be
// called after each compilation.
func (b *Builder) Trim() {
	for k := range b.sets {
		if !b.used[k] {
			delete(b.sets, k)
		}
	}
	clear(b.used)
}

// Scope builds the Sets of one Network in one compilation.
type Scope struct {
	b             *Builder
	env           Env
	resolvedPeers map[string][]netip.Prefix
	groups        map[*model.SecurityGroup]*group
	sets          map[string]*sg.Set // by group names
}

// group is one group with its rules resolved.
type group struct {
	ref   model.Ref
	spec  *model.SecurityGroupSpec
	rules []resolved
	key   string
}

// In returns a Scope in which rules mean what env says.
func (b *Builder) In(env Env) *Scope {
	return &Scope{
		b: b, env: env,
		resolvedPeers: map[string][]netip.Prefix{},
		groups:        map[*model.SecurityGroup]*group{},
		sets:          map[string]*sg.Set{},
	}
}

// Check tells what is wrong with a group's rules, all of it.
func (s *Scope) Check(g *model.SecurityGroup) error {
	_, err := s.group(g)
	return err
}

// Set builds the merge of groups, whose names differ. Without groups it
// returns nil, which allows everything.
func (s *Scope) Set(groups ...*model.SecurityGroup) (*sg.Set, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	groups = slices.Clone(groups)
	slices.SortFunc(groups, func(a, b *model.SecurityGroup) int {
		return strings.Compare(a.Metadata.Name, b.Metadata.Name)
	})
	groups = slices.CompactFunc(groups, func(a, b *model.SecurityGroup) bool {
		return a.Metadata.Name == b.Metadata.Name
	})
	var names strings.Builder
	for _, g := range groups {
		names.WriteString(g.Metadata.Name)
		names.WriteByte(' ')
	}
	if set, ok := s.sets[names.String()]; ok {
		return set, nil
	}
	merged := make([]*group, len(groups))
	for i, g := range groups {
		r, err := s.group(g)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", model.RefOf(g), err)
		}
		merged[i] = r
	}
	set := s.b.set(merged)
	s.sets[names.String()] = set
	return set, nil
}

func (s *Scope) group(g *model.SecurityGroup) (*group, error) {
	if r, ok := s.groups[g]; ok {
		return r, nil
	}
	switch g.Spec.Defaults {
	case "", "strict", "azure", "basic", "enterprise":
	default:
		return nil, fmt.Errorf("spec.defaults: %q is none of strict, azure, basic and enterprise", g.Spec.Defaults)
	}
	rules, err := s.resolve(g)
	if err != nil {
		return nil, err
	}
	r := &group{ref: model.RefOf(g), spec: &g.Spec, rules: rules}
	r.key = contentKey(r)
	s.groups[g] = r
	return r, nil
}

// contentKey is equal for groups that decide and explain alike.
func contentKey(g *group) string {
	h := sha256.New()
	var buf []byte
	text := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	number := func(n int) { buf = binary.AppendUvarint(buf, uint64(n)) }
	text(g.ref.Name)
	text(g.spec.Defaults)
	for i := range g.rules {
		r := &g.rules[i]
		text(r.Path)
		text(r.Name)
		number(int(r.Direction))
		number(r.Priority)
		number(int(r.Protocol))
		if r.Deny {
			number(1)
		} else {
			number(0)
		}
		number(len(r.Ports))
		for _, p := range r.Ports {
			number(int(p.First))
			number(int(p.Last))
		}
		number(len(r.Peers))
		for _, p := range r.Peers {
			text(p)
		}
		number(len(r.prefixes))
		for _, p := range r.prefixes {
			text(string(p.Addr().AsSlice()))
			number(p.Bits())
		}
		h.Write(buf)
		buf = buf[:0]
	}
	h.Write(buf)
	return string(h.Sum(nil))
}

// set finds or builds the merge of groups sorted by name.
func (b *Builder) set(groups []*group) *sg.Set {
	var key strings.Builder
	for _, g := range groups {
		key.WriteString(g.key)
	}
	b.used[key.String()] = true
	known := b.sets[key.String()]
	if known != nil && len(groups) == 1 {
		return known
	}
	// The single groups are asked for even if the merge is known: they are in
	// use as long as it is.
	var each []*sg.Set
	if len(groups) > 1 {
		for _, g := range groups {
			each = append(each, b.set([]*group{g}))
		}
	}
	if known != nil {
		return known
	}
	set := &sg.Set{Key: key.String(), Each: each}
	for _, g := range groups {
		set.Groups = append(set.Groups, g.ref)
	}
	for dir := range set.Ways {
		way(&set.Ways[dir], sg.Direction(dir), groups)
	}
	b.sets[set.Key] = set
	return set
}

// way fills one direction of a Set.
func way(w *sg.Way, dir sg.Direction, groups []*group) {
	var rules []*resolved
	for _, g := range groups {
		for i := range g.rules {
			if g.rules[i].Direction == dir {
				rules = append(rules, &g.rules[i])
			}
		}
	}
	// Stable: at a tie the order of groups and of rules in them decides.
	slices.SortStableFunc(rules, func(a, b *resolved) int {
		if c := cmp.Compare(a.Priority, b.Priority); c != 0 || a.Deny == b.Deny {
			return c
		}
		if a.Deny {
			return -1
		}
		return 1
	})
	w.Rules = make([]sg.Rule, len(rules))
	w.Effects = make([]sg.Effect, len(rules))
	for i, r := range rules {
		w.Rules[i] = r.Rule
		w.Effects[i] = r.Effect()
	}
	w.Closed, w.Default = closed(dir, groups)
	fill(&w.Remote, rules)
}

// closed tells what becomes of a flow that no rule speaks of, and which group
// made it so.
func closed(dir sg.Direction, groups []*group) (bool, rule.Ref) {
	first := rule.Ref{Resource: groups[0].ref}
	if dir == sg.Inbound {
		return true, first
	}
	for _, g := range groups {
		declares := slices.ContainsFunc(g.spec.Rules, func(r model.Rule) bool { return r.Direction == "outbound" })
		if declares || g.spec.Defaults == "enterprise" {
			return true, rule.Ref{Resource: g.ref}
		}
	}
	return false, first
}
