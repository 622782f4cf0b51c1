// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/model"
	"postern.dev/postern/model/near"
)

// revokeRule removes a granted rule of a SecurityGroup, whether its
// authorization is still there or not.
func revokeRule(c *call) (any, error) {
	var in wire.Revocation
	if err := c.read(&in); err != nil {
		return nil, err
	}
	ref := model.Ref{Kind: model.KindSecurityGroup, Name: c.name()}
	res, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		g, ok := model.Get[*model.SecurityGroup](h.Set, ref.Name)
		if !ok {
			return nil, absent(ref)
		}
		if err := c.matches(ref, g.Base().Revision); err != nil {
			return nil, err
		}
		at := slices.IndexFunc(g.Status.GrantedRules, func(r model.GrantedRule) bool { return r.Name == in.Rule })
		if at < 0 {
			return nil, notGranted(g, in.Rule)
		}
		g = model.Clone(g)
		g.Status.GrantedRules = slices.Delete(g.Status.GrantedRules, at, at+1)
		return put(g), nil
	})
	if err != nil {
		return nil, err
	}
	return c.stored(ref, res)
}

// notGranted says which rules there are to revoke.
func notGranted(g *model.SecurityGroup, rule string) error {
	e := &model.Error{Kind: model.NotFound, Ref: model.RefOf(g), Field: "status.grantedRules"}
	if slices.ContainsFunc(g.Spec.Rules, func(r model.Rule) bool { return r.Name == rule && rule != "" }) {
		e.Msg = fmt.Sprintf("the rule %q was not granted but stands in spec.rules; remove it from the manifest and apply that", rule)
		return e
	}
	names := make([]string, len(g.Status.GrantedRules))
	for i, r := range g.Status.GrantedRules {
		names[i] = r.Name
	}
	e.Msg = fmt.Sprintf("no rule %q was granted", rule)
	if len(names) == 0 {
		e.Msg += ", nor any other; there is nothing to revoke"
	} else if hint := near.Hint(rule, names); hint != "" {
		e.Msg += hint
	} else {
		e.Msg += "; there is " + strings.Join(names, ", ")
	}
	return e
}

// revoked lists the granted rules that a change has taken out of groups that stay.
func revoked(changes []registry.Change) []wire.RevokedRule {
	var out []wire.RevokedRule
	for _, ch := range changes {
		before, _ := ch.Before.(*model.SecurityGroup)
		after, _ := ch.After.(*model.SecurityGroup)
		if before == nil || after == nil {
			continue
		}
		for _, r := range before.Status.GrantedRules {
			if !slices.ContainsFunc(after.Status.GrantedRules, func(x model.GrantedRule) bool { return x.Name == r.Name }) {
				out = append(out, wire.RevokedRule{Group: ch.Ref, Rule: r.Name})
			}
		}
	}
	return out
}

// orphaned lists the rules that a change has left without an authorization.
func orphaned(changes []registry.Change) []string {
	var out []string
	for _, ch := range changes {
		before, _ := ch.Before.(*model.SecurityGroup)
		after, _ := ch.After.(*model.SecurityGroup)
		if before == nil || after == nil {
			continue
		}
		was := map[string]bool{}
		for _, r := range before.Status.GrantedRules {
			was[r.Name] = r.Orphan
		}
		for _, r := range after.Status.GrantedRules {
			if r.Orphan && !was[r.Name] {
				out = append(out, fmt.Sprintf("%s keeps the rule %s, which still admits Gateway/%s; to remove it: postern revoke %s %s", ch.Ref, r.Name, r.Gateway, ch.Ref.Name, r.Name))
			}
		}
	}
	return out
}
