// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"postern.dev/postern/explain"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/explain/render"
)

// matrix shows which components of a Gateway are reached from where.
func (a *app) matrix(ctx context.Context, f format, gateway string, files []string, all bool) error {
	m, err := a.askMatrix(ctx, gateway, files, all)
	if err != nil {
		return err
	}
	return a.print(f, m, func() error { return render.Matrix(a.out, &m, render.Options{}) })
}

// askMatrix asks manifests if there are any, else the server.
func (a *app) askMatrix(ctx context.Context, gateway string, files []string, all bool) (answer.Matrix, error) {
	if len(files) > 0 {
		os, err := a.load(files)
		if err != nil {
			return answer.Matrix{}, err
		}
		w, err := explain.Manifests(os, "", time.Now())
		if err != nil {
			return answer.Matrix{}, err
		}
		m, err := explain.Matrix(w, gateway, all)
		if err != nil {
			return answer.Matrix{}, err
		}
		return *m, nil
	}
	c, err := a.client()
	if err != nil {
		return answer.Matrix{}, err
	}
	defer c.Close()
	return c.Matrix(ctx, gateway, all)
}
