// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"strings"

	"postern.dev/postern/decide/flow"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/sg"
)

// The conditions of Gateways beside those of all kinds.
const (
	// ConditionManagementReachable tells whether the management plane's own
	// address reaches a Gateway's management endpoint on port 3443.
	ConditionManagementReachable = "ManagementReachable"
	// ReasonNotPortable is the reason of advice that another platform cannot do
	// what is declared.
	ReasonNotPortable = "NotPortable"
)

// placed notes what there is to say of where each Gateway stands. It asks the
// packet filter, so that all interfaces, groups and routes have to be known.
func (b *build) placed() {
	for _, g := range all[*model.Gateway](b) {
		if x := b.out.Gateways[g.Metadata.Name]; x != nil {
			b.management(g, x)
			b.portability(g, x)
		}
	}
}

// management notes whether the management endpoint is reachable where the
// management plane calls it.
func (b *build) management(g *model.Gateway, x *snapshot.Gateway) {
	c := model.Condition{
		Type: ConditionManagementReachable, Status: true, Reason: "Reachable",
		Message: fmt.Sprintf("%s answers on port %d", componentHost(x, snapshot.ComponentManagement, b.opts.Base), portManagement),
	}
	unasked := x.Public
	for _, from := range b.opts.Management {
		for _, to := range x.Public {
			if from.Is4() != to.Is4() {
				continue
			}
			unasked = nil
			v := flow.Judge(b.out, flow.Query{Source: flow.FromInternet(from), Proto: sg.TCP, Dst: to, Port: portManagement}, false)
			if !v.Allowed() {
				c.Status, c.Reason = false, "ManagementApiRequestFailed"
				c.Message = fmt.Sprintf("Failed to connect to management endpoint %s:%d for a service deployed in a Virtual Network. %s Admit TCP %d from tag:ApiManagement in the SecurityGroup of Subnet/%s.",
					componentHost(x, snapshot.ComponentManagement, b.opts.Base), portManagement, v.Reason(v.Decided), portManagement, g.Spec.Subnet)
			}
		}
	}
	if len(unasked) > 0 {
		c.Status, c.Reason = false, "NoManagementAddress"
		c.Message = fmt.Sprintf("the management plane has no address of the family of %s, so it does not reach %s:%d; give the Gateway a publicAddress of the internet segment's family",
			unasked[0], componentHost(x, snapshot.ComponentManagement, b.opts.Base), portManagement)
	}
	b.note(model.RefOf(g), c)
}

// portability notes which models are combined here and cannot be on Azure, so
// that nobody plans to move there what does not fit.
func (b *build) portability(g *model.Gateway, x *snapshot.Gateway) {
	if !x.Injected() {
		return
	}
	var names []string
	for _, e := range all[*model.Endpoint](b) {
		if e.Spec.Gateway == x.Name {
			names = append(names, "Endpoint/"+e.Metadata.Name)
		}
	}
	if len(names) > 0 {
		b.advice(g, ReasonNotPortable, fmt.Sprintf("networkMode %s is combined with %s; Azure API Management takes no private endpoints on an injected instance", x.Mode, strings.Join(names, ", ")))
	}
	if x.Outbound != nil {
		b.advice(g, ReasonNotPortable, fmt.Sprintf("networkMode %s is combined with outbound integration; Azure API Management has the two on different tiers", x.Mode))
	}
}
