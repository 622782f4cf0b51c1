// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"postern.dev/postern/test/bench/peers/gateway"
	"postern.dev/postern/test/bench/peers/load"
)

// rest measures how much memory connections take that have been used once.
func (o *options) rest(ctx context.Context, res *results, running []*gateway.Running) error {
	n := min(res.idle, o.limit)
	if o.conns < 64 {
		n = o.conns * 10 // a quick look
	}
	for _, r := range running {
		before, err := r.Use()
		if err != nil {
			return err
		}
		p := res.plan(r, o)
		p.Conns = n
		var after gateway.Use
		took := n
		err = load.Rest(ctx, p, func(opened int, refusal error) error {
			if took = opened; refusal != nil {
				res.notes[r.Name] = fmt.Sprintf("with %d connections: it takes no more (%v)", took, refusal)
			}
			// What was needed for the requests alone is given back, if ever.
			select {
			case <-time.After(o.duration):
			case <-ctx.Done():
				return ctx.Err()
			}
			var err error
			after, err = r.Use()
			return err
		})
		if err != nil {
			return fmt.Errorf("scenario %s, %s: %w", res.name, r.Name, err)
		}
		res.of[r.Name] = []figures{{memory: float64(after.Memory-before.Memory) / float64(took)}}
	}
	return nil
}
