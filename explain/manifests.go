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
	return Changed(model.NewSet(), model.Change{Puts: objects}, base, now)
}

// Changed is Manifests of a Set that was admitted before and a change of it.
func Changed(current *model.Set, change model.Change, base string, now time.Time) (*World, error) {
	if base == "" {
		base = model.DefaultBase
	}
	m := &manifests{base: base, now: now}
	set, changed, err := model.Admit(current, change, m.options(false))
	if err != nil {
		return nil, err
	}
	if err := m.compiler.Check(set, changed); err != nil {
		return nil, err
	}
	return m.world(set), nil
}

// manifests compiles what there is of resources alone. One Compiler serves all
// that is tried: what a fix does not change is not compiled again.
type manifests struct {
	base     string
	now      time.Time
	compiler compile.Compiler
}

// options says how changes are admitted; server is for those that are tried,
// which may be of what a server owns.
func (m *manifests) options(server bool) model.Options {
	return model.Options{IDs: model.NamedIDs(), Base: m.base, Deployments: true, Server: server}
}

func (m *manifests) world(set *model.Set) *World {
	w := &World{
		Set: set, Evidence: "model", AsWritten: true, Now: m.now,
		Result: m.compiler.Compile(set, compile.Options{
			Base: m.base, Segment: []netip.Prefix{model.DefaultInternet}, AsWritten: true,
		}),
		Assumed: []string{
			"links are up and tunnels are joined", "backends answer", "Endpoints are approved where their Gateway approves by itself",
		},
	}
	w.Try = func(c model.Change) (*World, error) {
		// What does not compile is told by its condition.
		next, _, err := model.Admit(set, c, m.options(true))
		if err != nil {
			return nil, err
		}
		return m.world(next), nil
	}
	return w
}
