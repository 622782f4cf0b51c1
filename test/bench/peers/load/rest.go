// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package load

import (
	"context"
	"errors"
)

// Rest opens the connections of a Plan, sends one request over each, and calls
// look while they all are open and idle, with how many they are. A gateway that
// takes no more has look called with those that it took, and its refusal.
func Rest(ctx context.Context, p *Plan, look func(n int, refusal error) error) error {
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
		w, err := r.once(p.Requests[i%len(p.Requests)])
		if err != nil && i == 0 {
			return err
		}
		if err != nil {
			return look(i, err)
		}
		wires = append(wires, w)
	}
	return look(p.Conns, nil)
}

// once opens a connection and uses it once.
func (r *run) once(request []byte) (wire, error) {
	w, err := dial(r.Plan)
	if err != nil {
		return nil, err
	}
	err = w.send(request)
	if err == nil {
		err = r.check(newReader(w).answer())
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}
