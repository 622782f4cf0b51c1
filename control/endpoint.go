// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"postern.dev/postern/control/registry"
	"postern.dev/postern/model"
)

func approveEndpoint(c *call) (any, error) { return c.connect(model.Approved) }

func rejectEndpoint(c *call) (any, error) { return c.connect(model.Rejected) }

// connect sets the state of an Endpoint's connection.
func (c *call) connect(state string) (any, error) {
	ref := model.Ref{Kind: model.KindEndpoint, Name: c.name()}
	res, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		e, ok := model.Get[*model.Endpoint](h.Set, ref.Name)
		if !ok {
			return nil, absent(ref)
		}
		if err := c.matches(ref, e.Base().Revision); err != nil {
			return nil, err
		}
		e = model.Clone(e)
		e.Status.Connection = state
		return put(e), nil
	})
	if err != nil {
		return nil, err
	}
	return c.stored(ref, res)
}

// put is the server's own change of one resource.
func put(o model.Object) *registry.Edit {
	return &registry.Edit{Server: func(*model.Set) (model.Change, error) {
		return model.Change{Puts: []model.Object{o}}, nil
	}}
}
