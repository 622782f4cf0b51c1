// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/model"
)

// Manifests makes a World of resources alone, without a server: ids are
// derived from names, and what only a running Postern can know is assumed, in
// words. base is the base domain; model.DefaultBase if empty.
func Manifests(objects []model.Object, base string, now time.Time) (*World, error) {
	if base == "" {
		base = model.DefaultBase
	}
	m := &manifests{
		base: base, now: now,
		admission: model.Options{IDs: model.NamedIDs(), Base: base, Deployments: true, Server: true},
	}
	set, _, err := model.Admit(model.NewSet(), model.Change{Puts: objects}, model.Options{IDs: model.NamedIDs(), Base: base, Deployments: true})
	if err != nil {
		return nil, err
	}
	if err := m.compiler.Check(set, refs(set)); err != nil {
		return nil, err
	}
	return m.world(set), nil
}

// manifests compiles what there is of resources alone.
type manifests struct {
	base      string
	now       time.Time
	admission model.Options
	compiler  compile.Compiler
}

func (m *manifests) world(set *model.Set) *World {
	w := &World{
		Set: set, Evidence: "model", Now: m.now,
		Result: m.compiler.Compile(set, compile.Options{
			Base: m.base, Segment: []netip.Prefix{model.DefaultInternet}, AsWritten: true,
		}),
		Assumed: []string{"links are up and tunnels are joined", "Endpoints are approved where their Gateway approves by itself"},
	}
	w.Try = func(c model.Change) (*World, error) {
		next, _, err := model.Admit(set, c, m.admission)
		if err != nil {
			return nil, err
		}
		return m.world(next), nil
	}
	return w
}

func refs(set *model.Set) []model.Ref {
	objects := set.Objects()
	out := make([]model.Ref, len(objects))
	for i, o := range objects {
		out[i] = model.RefOf(o)
	}
	return out
}
