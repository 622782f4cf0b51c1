// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// SecurityGroupAuthorization lets a Gateway's nodes into a SecurityGroup. It is
// the Gateway's record; the group has a GrantedRule for each range of ports.
type SecurityGroupAuthorization struct {
	Head
	Spec SecurityGroupAuthorizationSpec `json:"spec"`
}

// SecurityGroupAuthorizationSpec is what is declared of a
// SecurityGroupAuthorization.
type SecurityGroupAuthorizationSpec struct {
	Gateway       string `json:"gateway"`
	SecurityGroup string `json:"securityGroup"`
	// Ports are ranges as ParseRange reads them.
	Ports []string `json:"ports"`
}

// Kind returns KindAuthorization.
func (*SecurityGroupAuthorization) Kind() Kind { return KindAuthorization }

// GrantedRule is an inbound rule that a SecurityGroupAuthorization put into a
// SecurityGroup. It belongs to the server, and a revoked one does not come back.
type GrantedRule struct {
	// Name is unique among the granted rules of its group.
	Name          string `json:"name"`
	Authorization string `json:"authorization"`
	Gateway       string `json:"gateway"`
	Protocol      string `json:"protocol"`
	Ports         string `json:"ports"`
	// From is the managed group of the Gateway, or the CIDRs of its Subnets where
	// the group cannot refer to groups.
	From []string `json:"from"`
	// Orphan says that the authorization was deleted and left the rule.
	Orphan bool `json:"orphan,omitempty"`
}

// Rule is the granted rule as a group would have it among its own.
func (r GrantedRule) Rule() Rule {
	return Rule{
		Name: r.Name, Direction: Inbound, Action: Allow, Priority: DefaultPriority,
		Protocol: r.Protocol, Ports: []string{r.Ports}, From: r.From,
	}
}

// grantedProtocol is the protocol of every granted rule.
const grantedProtocol = "tcp"

// grantedName names the rule for a range of an authorization.
func grantedName(authorization, ports string) string {
	return authorization + "-" + strings.ReplaceAll(ports, "/", "-")
}

// Authorized is a SecurityGroupAuthorization as its Gateway shows it.
type Authorized struct {
	Name          string   `json:"name"`
	SecurityGroup string   `json:"securityGroup"`
	Ports         []string `json:"ports"`
	// Revoked are the Ports whose rule was revoked on the group's side.
	Revoked []string `json:"revoked,omitempty"`
}

// Authorizations lists those of a Gateway by name.
func Authorizations(s *Set, gateway string) []Authorized {
	var out []Authorized
	for _, z := range All[*SecurityGroupAuthorization](s) {
		if z.Spec.Gateway == gateway {
			out = append(out, Authorized{z.Metadata.Name, z.Spec.SecurityGroup, z.Spec.Ports, Revoked(s, z)})
		}
	}
	return out
}

// Granted returns the rules that an authorization has in its group, by ports.
func Granted(s *Set, z *SecurityGroupAuthorization) map[string]GrantedRule {
	out := map[string]GrantedRule{}
	if g, ok := Get[*SecurityGroup](s, z.Spec.SecurityGroup); ok {
		for _, r := range g.Status.GrantedRules {
			if r.Authorization == z.Metadata.Name && !r.Orphan {
				out[r.Ports] = r
			}
		}
	}
	return out
}

// Revoked lists the ranges of an authorization whose rule was revoked.
func Revoked(s *Set, z *SecurityGroupAuthorization) []string {
	var out []string
	granted := Granted(s, z)
	for _, p := range z.Spec.Ports {
		if _, ok := granted[p]; !ok {
			out = append(out, p)
		}
	}
	return out
}

// grants keeps the granted rules of groups in step with the authorizations. A
// range gets its rule once: one that is gone was revoked.
func (a *admission) grants() {
	if !a.mayGrant() {
		return
	}
	by := map[string][]*SecurityGroupAuthorization{}
	for _, z := range All[*SecurityGroupAuthorization](a.next) {
		a.anew(z)
		by[z.Spec.SecurityGroup] = append(by[z.Spec.SecurityGroup], z)
	}
	for _, g := range All[*SecurityGroup](a.next) {
		list := by[g.Metadata.Name]
		if len(list)+len(g.Status.GrantedRules) == 0 {
			continue
		}
		rules := a.granted(g, list)
		if !slices.EqualFunc(rules, g.Status.GrantedRules, GrantedRule.equal) {
			a.grantee(g).Base().Status.GrantedRules = rules
		}
	}
	for z := range each[*SecurityGroupAuthorization](a.next) {
		if a.next.Has(Ref{KindSecurityGroup, z.Spec.SecurityGroup}) && !slices.Equal(z.Status.GrantedPorts, z.Spec.Ports) {
			a.grantee(z).Base().Status.GrantedPorts = slices.Clone(z.Spec.Ports)
		}
	}
}

// mayGrant reports whether anything changes that granted rules depend on.
func (a *admission) mayGrant() bool {
	for _, refs := range []map[Ref]bool{a.touched, a.deleted} {
		for r := range refs {
			if r.Kind == KindAuthorization || r.Kind == KindSecurityGroup || r.Kind == KindGateway {
				return true
			}
		}
	}
	return false
}

// grantee returns the copy of o in next that may be written to.
func (a *admission) grantee(o Object) Object {
	a.touched[RefOf(o)] = true
	return a.own(o)
}

// anew forgets what was granted if that was for another Gateway or group. What
// a backup tells counts where the group is of the same backup: a group that is
// there already may have lost its rules in many ways.
func (a *admission) anew(z *SecurityGroupAuthorization) {
	if len(z.Status.GrantedPorts) == 0 {
		return
	}
	was, ok := Get[*SecurityGroupAuthorization](a.current, z.Metadata.Name)
	switch {
	case ok && was.Spec.Gateway == z.Spec.Gateway && was.Spec.SecurityGroup == z.Spec.SecurityGroup:
	case !ok && !a.current.Has(Ref{KindSecurityGroup, z.Spec.SecurityGroup}):
	default:
		a.grantee(z).Base().Status.GrantedPorts = nil
	}
}

// granted works out the granted rules of g; authorizations are those for it.
func (a *admission) granted(g *SecurityGroup, authorizations []*SecurityGroupAuthorization) []GrantedRule {
	var out []GrantedRule
	names := map[string]int{}
	for _, r := range g.Status.GrantedRules {
		keep := a.keepsGranted(g, &r)
		r.Name, r.Protocol = grantedName(r.Authorization, r.Ports), grantedProtocol
		if _, twice := names[r.Name]; !keep || twice {
			continue
		}
		names[r.Name] = len(out)
		out = append(out, r)
	}
	for _, z := range authorizations {
		z, _ := Get[*SecurityGroupAuthorization](a.next, z.Metadata.Name) // as it is by now
		for i, p := range z.Spec.Ports {
			r := GrantedRule{
				Name: grantedName(z.Metadata.Name, p), Authorization: z.Metadata.Name, Gateway: z.Spec.Gateway,
				Protocol: grantedProtocol, Ports: p,
			}
			at, there := names[r.Name]
			if there && out[at].Gateway != r.Gateway {
				a.fail(Conflict, z, fmt.Sprintf("spec.ports[%d]", i), "SecurityGroup %q still has the rule %q, of an earlier authorization of that name for Gateway %q; run postern revoke %s %s first, or choose another name", g.Metadata.Name, r.Name, out[at].Gateway, g.Metadata.Name, r.Name)
				continue
			}
			if _, err := ParseRange(p); err != nil || there || slices.Contains(z.Status.GrantedPorts, p) {
				continue
			}
			names[r.Name] = len(out)
			out = append(out, r)
		}
	}
	for i := range out {
		out[i].From = a.grantSource(g, out[i])
	}
	slices.SortFunc(out, compareGranted)
	return out
}

// keepsGranted reports whether g keeps a rule that it has, and says in r whose
// it is from now on.
func (a *admission) keepsGranted(g *SecurityGroup, r *GrantedRule) bool {
	z, ok := Get[*SecurityGroupAuthorization](a.next, r.Authorization)
	if !ok {
		if a.cascade && a.deleted[Ref{KindAuthorization, r.Authorization}] && !r.Orphan {
			return false
		}
		r.Orphan = true
		return true
	}
	wanted := z.Spec.SecurityGroup == g.Metadata.Name && z.Spec.Gateway == r.Gateway && slices.Contains(z.Spec.Ports, r.Ports)
	if wanted {
		r.Orphan = false // taken up again
	}
	return wanted || r.Orphan
}

// grantSource says from whom a granted rule admits. That of a Gateway which is
// gone stays what it was.
func (a *admission) grantSource(g *SecurityGroup, r GrantedRule) []string {
	managed := []string{"group:" + r.Gateway + ManagedSuffix}
	gw, ok := Get[*Gateway](a.next, r.Gateway)
	switch {
	case !ok && len(r.From) > 0:
		return r.From
	case !ok || g.Spec.Defaults != DefaultsEnterprise:
		return managed
	}
	var out []string
	for _, sub := range subnetsOf(a.next, gw) {
		if !adjoin(a.next, g.Spec.Network, sub.Spec.Network) {
			continue
		}
		if cidr, err := ExpandString(sub.Spec.CIDR, a.next); err == nil && !slices.Contains(out, cidr) {
			out = append(out, cidr)
		}
	}
	if len(out) == 0 {
		return managed // whose nodes are elsewhere, so it admits nobody
	}
	return out
}

// subnetsOf lists the Subnets in which a Gateway has an interface.
func subnetsOf(s *Set, g *Gateway) []*Subnet {
	var out []*Subnet
	add := func(name string) {
		if sub, ok := Get[*Subnet](s, name); ok {
			out = append(out, sub)
		}
	}
	add(g.Spec.Subnet)
	if g.Spec.Outbound != nil {
		add(g.Spec.Outbound.Subnet)
	}
	return out
}

// adjoin reports whether Networks a and b are one or peers.
func adjoin(s *Set, a, b string) bool { return a == b || peered(s, a, b) }

func (r GrantedRule) equal(o GrantedRule) bool {
	return slices.Equal(r.From, o.From) && compareGranted(r, o) == 0 && r.Gateway == o.Gateway &&
		r.Name == o.Name && r.Protocol == o.Protocol && r.Orphan == o.Orphan
}

// compareGranted orders by authorization, then by ports.
func compareGranted(a, b GrantedRule) int {
	p, _ := ParseRange(a.Ports)
	q, _ := ParseRange(b.Ports)
	return cmp.Or(
		strings.Compare(a.Authorization, b.Authorization), cmp.Compare(p.First, q.First),
		cmp.Compare(p.Last, q.Last), strings.Compare(a.Ports, b.Ports),
	)
}
