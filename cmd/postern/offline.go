// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"time"

	"postern.dev/postern/compile"
	"postern.dev/postern/explain"
	"postern.dev/postern/model"
)

// offline is the world that manifests alone describe: ids follow from names,
// and what no server has deployed is served as it is written.
func offline(current *model.Set, change model.Change) (*explain.World, error) {
	// One Compiler for all that is tried: what a fix does not change is not
	// compiled again.
	return offlineWith(new(compile.Compiler), current, change)
}

func offlineWith(c *compile.Compiler, current *model.Set, change model.Change) (*explain.World, error) {
	set, _, err := model.Admit(current, change, model.Options{})
	if err != nil {
		return nil, err
	}
	result := c.Compile(set, compile.Options{
		Base: model.DefaultBase, Segment: []netip.Prefix{model.DefaultInternet}, AsWritten: true,
	})
	return &explain.World{
		Set: set, Result: result, Evidence: "model", Now: time.Now(),
		Try:     func(next model.Change) (*explain.World, error) { return offlineWith(c, set, next) },
		Assumed: []string{"links are up and tunnels joined", "backends answer"},
	}, nil
}
