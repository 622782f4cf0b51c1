// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/http"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/explain/answer"
)

func explain(c *call) (any, error) {
	if c.opts.Explain == nil {
		return nil, unavailable("explain")
	}
	var q answer.Question
	if err := c.read(&q); err != nil {
		return nil, err
	}
	w, _ := c.world()
	return c.opts.Explain(c.r.Context(), w, q)
}

func matrix(c *call) (any, error) {
	if c.opts.Matrix == nil {
		return nil, unavailable("explain")
	}
	all, err := c.flag("all")
	if err != nil {
		return nil, err
	}
	w, _ := c.world()
	return c.opts.Matrix(c.r.Context(), w, c.r.PathValue("name"), all)
}

func verify(c *call) (any, error) {
	if c.opts.Verify == nil {
		return nil, unavailable("know ReachabilityTests; ask postern explain")
	}
	w, p := c.world()
	results, err := c.opts.Verify(c.r.Context(), w)
	if err != nil {
		return nil, err
	}
	out := wire.Verification{Revision: p.Snapshot.Revision, Holds: true, Results: []wire.TestResult{}}
	for _, r := range results {
		out.Holds = out.Holds && r.Holds
		out.Results = append(out.Results, r)
	}
	return out, nil
}

func getRequest(c *call) (any, error) {
	if c.opts.Request == nil {
		return nil, unavailable("keep requests")
	}
	return c.opts.Request(c.r.Context(), c.r.PathValue("id"))
}

func healthz(*call) (any, error) { return wire.Health{Status: "ok"}, nil }

// readyz tells whether changes can be made. What is deployed is served even
// when it says no.
func readyz(c *call) (any, error) {
	h := wire.Health{Status: "ready", Revision: c.opts.Registry.Published().Revision}
	if c.opts.Registry.Trouble() != nil {
		h.Status, h.Reason = "not ready", "the store does not answer; what is deployed is still served"
		c.status = http.StatusServiceUnavailable
	}
	return h, nil
}

func openAPI(c *call) (any, error) { return c.openapi, nil }
