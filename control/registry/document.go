// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"

	"postern.dev/postern/store"
)

// Find returns a document that is no resource, with the revision of its last
// change.
func (h *Head) Find(kind, name string) (store.Document, bool) {
	d, ok := h.docs[store.Key{Kind: kind, Name: name}]
	return d, ok
}

// Keep changes documents that are no resources, on the conditions that the
// change names. It returns the revision when Head shows it. Errors are the
// store's.
func (r *Registry) Keep(ctx context.Context, c store.Change) (int64, error) {
	for _, p := range c.Puts {
		if isResource(p.Kind) {
			return 0, fmt.Errorf("%s is a resource, which is admitted by Update", p.Key)
		}
	}
	for _, d := range c.Deletes {
		if isResource(d.Kind) {
			return 0, fmt.Errorf("%s is a resource, which is admitted by Update", d.Key)
		}
	}
	revision, err := r.opts.Store.Apply(ctx, c)
	if err != nil {
		r.noteTrouble(err)
		return 0, err
	}
	return revision, r.await(ctx, func() bool { return r.head.Load().Revision >= revision })
}
