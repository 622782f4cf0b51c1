// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

// maxAdvice bounds what one resource is warned of; describe shows the rest.
const maxAdvice = 5

// foresee tells what there would be to say of the resources of a set that is
// not served.
func (c *call) foresee(s *model.Set) func(model.Ref) []model.Condition {
	if c.opts.Conditions == nil {
		return func(model.Ref) []model.Condition { return nil }
	}
	all := c.opts.Conditions(s)
	return func(r model.Ref) []model.Condition { return all[r] }
}

// warn lists what works but probably not as meant, each authorization of which
// something was revoked, and each API whose changes wait for a Deployment. A
// Stage or a Deployment speaks of its API.
func warn(refs []model.Ref, conditions func(model.Ref) []model.Condition) []string {
	var out []string
	seen := map[model.Ref]bool{}
	for _, r := range refs {
		if r.Kind == model.KindStage || r.Kind == model.KindDeployment {
			r = model.Ref{Kind: model.KindAPI, Name: model.APIName(r.Name)}
		}
		if seen[r] {
			continue
		}
		seen[r] = true
		advice, blocked := 0, false
		for _, x := range conditions(r) {
			switch {
			case x.Type == compile.ConditionGranted && !x.Status:
				out = append(out, r.String()+": "+x.Message)
			case !x.Status:
			case x.Type == compile.ConditionStale && blocked: // deploying would be refused
			case x.Type == compile.ConditionStale:
				out = append(out, r.String()+" "+x.Message)
			case x.Type == compile.ConditionAdvice:
				blocked = blocked || x.Reason == compile.ReasonNoPolicy
				if advice++; advice <= maxAdvice {
					out = append(out, fmt.Sprintf("%s: %s (%s)", r, x.Message, x.Reason))
				}
			}
		}
		if more := advice - maxAdvice; more > 0 {
			out = append(out, fmt.Sprintf("%s: there is more advice, %d in all; run: postern describe %s", r, advice, r))
		}
	}
	return out
}
