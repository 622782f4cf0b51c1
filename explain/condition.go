// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"

	"postern.dev/postern/model"
)

// maxCauses is how many resources are named on the way to the one that is
// wrong by itself.
const maxCauses = 4

// unready says why a resource did not compile, down to the one that it waits
// for; empty if it did.
func (w *World) unready(ref model.Ref) string {
	var text []string
	for range maxCauses {
		ready, c := w.Result.Ready(ref)
		if ready {
			break
		}
		text = append(text, ref.String()+" is not ready: "+strings.TrimSuffix(c.Message, "."))
		next, ok := w.waitsFor(ref)
		if !ok {
			break
		}
		ref = next
	}
	return strings.Join(text, "; ")
}

// waitsFor finds a resource that did not compile among those that ref names.
func (w *World) waitsFor(ref model.Ref) (model.Ref, bool) {
	o := w.Set.Object(ref)
	if o == nil {
		return model.Ref{}, false
	}
	for _, r := range model.References(o) {
		if ready, _ := w.Result.Ready(r.Ref); !ready && r.Attribute == "" && r.Ref != ref && !w.compiled(r.Ref) {
			return r.Ref, true
		}
	}
	return model.Ref{}, false
}

// compiled tells whether an Endpoint is served although it is not ready, as one
// is whose connection is not approved.
func (w *World) compiled(ref model.Ref) bool {
	return ref.Kind == model.KindEndpoint && w.Snapshot().Endpoints[ref.Name] != nil
}

// named finds the resource that did not compile whose host name this would be.
func (w *World) named(host string) (model.Ref, bool) {
	return w.broken(func(o model.Object) bool {
		st := &o.Base().Status
		if z, ok := o.(*model.Zone); ok {
			d := strings.ToLower(strings.TrimSuffix(z.Spec.Domain, "."))
			return host == d || strings.HasSuffix(host, "."+d)
		}
		return st.Host != "" && strings.EqualFold(st.Host, host)
	}, model.KindEndpoint, model.KindAPI, model.KindGateway, model.KindDomain, model.KindZone)
}

// withID finds the API that did not compile and has this id.
func (w *World) withID(id string) (model.Ref, bool) {
	return w.broken(func(o model.Object) bool { return o.Base().Status.ID == id }, model.KindAPI)
}

func (w *World) broken(match func(model.Object) bool, kinds ...model.Kind) (model.Ref, bool) {
	for ref, conditions := range w.Result.Conditions {
		if len(conditions) == 0 || !has(kinds, ref.Kind) || w.compiled(ref) {
			continue
		}
		o := w.Set.Object(ref)
		if ready, _ := w.Result.Ready(ref); !ready && o != nil && match(o) {
			return ref, true
		}
	}
	return model.Ref{}, false
}
