// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"slices"

	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
)

// elsewhere are the Stages that self-hosted gateways serve. Who calls them there is
// not known, and may be anybody: their callers are one caller.
func elsewhere(w *World) map[answer.Opening]bool {
	out := map[answer.Opening]bool{}
	for _, g := range model.All[*model.SelfHostedGateway](w.Set) {
		for _, name := range g.Spec.APIs {
			api := w.Snapshot().APIs[name]
			if api == nil || api.Gateway.Name != g.Spec.Gateway || api.Type == model.Private {
				continue // Endpoints alone serve what is private
			}
			for _, s := range api.Stages {
				if s.Deployment != nil {
					out[answer.Opening{From: "callers of " + model.RefOf(g).String(), To: "API/" + name + " stage " + s.Name}] = true
				}
			}
		}
	}
	return out
}

// only lists what is in a but not in b.
func only(a, b map[answer.Opening]bool) []answer.Opening {
	var out []answer.Opening
	for o := range a {
		if !b[o] {
			out = append(out, o)
		}
	}
	return out
}

// besides adds what is served elsewhere, and sorts.
func besides(list, more []answer.Opening) []answer.Opening {
	list = append(list, more...)
	slices.SortFunc(list, func(a, b answer.Opening) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return list
}
