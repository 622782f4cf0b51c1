// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strings"

	"postern.dev/postern/model"
)

// ConditionGranted says whether a SecurityGroup has every rule that a
// SecurityGroupAuthorization asks for.
const ConditionGranted = "Granted"

// ReasonOrphanedRule is the reason of advice that a granted rule has outlived
// its SecurityGroupAuthorization.
const ReasonOrphanedRule = "OrphanedRule"

// authorizations tells on both sides how the granted rules stand. The rules
// themselves are part of their group.
func (b *build) authorizations() {
	for _, z := range all[*model.SecurityGroupAuthorization](b) {
		b.granted(z)
	}
	for _, g := range all[*model.SecurityGroup](b) {
		for i, r := range g.Status.GrantedRules {
			if !r.Orphan {
				continue
			}
			gone := ""
			if _, ok := get[*model.Gateway](b, r.Gateway); !ok {
				gone = ", which is gone too"
			}
			b.advice(g, ReasonOrphanedRule, fmt.Sprintf(
				"status.grantedRules[%d]: the rule %s still admits %s on %s/%s, but SecurityGroupAuthorization/%s is gone; to remove it: postern revoke %s %s",
				i, r.Name, "Gateway/"+r.Gateway+gone, r.Protocol, r.Ports, r.Authorization, g.Metadata.Name, r.Name))
		}
	}
}

// granted notes which ranges of an authorization are granted.
func (b *build) granted(z *model.SecurityGroupAuthorization) {
	group := "SecurityGroup/" + z.Spec.SecurityGroup
	if b.out.Gateways[z.Spec.Gateway] == nil {
		b.absent(z, "spec.gateway", model.KindGateway, z.Spec.Gateway)
	}
	if _, ok := get[*model.SecurityGroup](b, z.Spec.SecurityGroup); !ok || b.broken[z.Spec.SecurityGroup] {
		b.absent(z, "spec.securityGroup", model.KindSecurityGroup, z.Spec.SecurityGroup)
		return
	}
	c := model.Condition{Type: ConditionGranted, Status: true, Reason: "Granted"}
	var there, revoked, from []string
	rules := model.Granted(b.set, z)
	for _, p := range z.Spec.Ports {
		r, ok := rules[p]
		if !ok {
			revoked = append(revoked, p)
			continue
		}
		there, from = append(there, p), r.From
	}
	if len(there) > 0 {
		c.Message = fmt.Sprintf("%s admits tcp to %s from %s", group, strings.Join(there, ", "), strings.Join(from, ", "))
		if len(from) > 0 && !strings.HasPrefix(from[0], "group:") {
			c.Message += ", the Gateway's Subnets, as a group with enterprise defaults cannot refer to groups"
		}
	}
	if len(revoked) > 0 {
		c.Status, c.Reason = false, "Revoked"
		message := fmt.Sprintf(
			"the rule for %s was revoked in %s and is not restored; to grant it again: postern delete securitygroupauthorization %s, and apply it again",
			strings.Join(revoked, ", "), group, z.Metadata.Name)
		if c.Message != "" {
			message += "; " + c.Message
		}
		c.Message = message
	}
	b.note(model.RefOf(z), c)
}
