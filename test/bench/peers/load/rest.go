// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"fmt"
)

// Rest opens the connections of a Plan, sends one request over each, and calls
// look while they all are open and idle.
func Rest(ctx context.Context, p *Plan, look func() error) error {
	r := &run{Plan: p}
	var wires []wire
	defer func() {
		for _, w := range wires {
			_ = w.close() // nothing is expected of it any more
		}
	}()
	for i := range p.Conns {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w, err := dial(p)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		wires = append(wires, w)
		rd := newReader(w)
		if err := w.send(p.Requests[i%len(p.Requests)]); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		if err := r.check(rd.answer()); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	return look()
}
