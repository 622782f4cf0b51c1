// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

// Edit is a change to make: the resources as they shall be, and documents that
// are no resources.
type Edit struct {
	Set     *model.Set
	Puts    []store.Put
	Deletes []store.Delete
}

// Change is what a change did, or would do, to one resource. Before is nil for
// what is new, After for what is deleted.
type Change struct {
	Ref           model.Ref
	Before, After model.Object
}

// Result is what came of an Update.
type Result struct {
	// Revision is that of the store with the change.
	Revision int64
	Changes  []Change
	// Set is the resources as they are then.
	Set *model.Set
	// Published is what is served, with the change unless it was a dry run.
	Published *Published
}

// attempts bounds how often a change is made again because another process was
// faster.
const attempts = 16

// Update makes one change, atomically: edit turns the newest head into what
// shall be, and is called again if another process changes the store meanwhile.
// It must not change the head or what is in it. Update returns when the change
// is being served. With dry it only tells what would change.
func (r *Registry) Update(ctx context.Context, dry bool, edit func(*Head) (*Edit, error)) (*Result, error) {
	res, err := r.commit(ctx, dry, edit)
	if err != nil {
		return nil, err
	}
	err = r.await(ctx, func() bool { return r.published.Load().Revision >= res.Revision })
	res.Published = r.published.Load()
	if err != nil {
		return nil, &model.Error{
			Kind: model.Unavailable,
			Msg:  fmt.Sprintf("the change is stored as revision %d but is not served yet; look again in a moment", res.Revision), Err: err,
		}
	}
	if f := res.Published.failure; f != nil && !dry {
		return nil, &model.Error{
			Kind: model.Internal,
			Msg:  fmt.Sprintf("the change is stored as revision %d but could not be compiled; the last snapshot is still served", res.Revision), Err: f,
		}
	}
	return res, nil
}

func (r *Registry) commit(ctx context.Context, dry bool, edit func(*Head) (*Edit, error)) (*Result, error) {
	select {
	case r.write <- struct{}{}:
		defer func() { <-r.write }()
	case <-ctx.Done():
		return nil, &model.Error{Kind: model.Unavailable, Msg: "other changes are being made; nothing was changed, try again", Err: ctx.Err()}
	}
	for range attempts {
		h := r.head.Load()
		res, change, err := r.prepare(h, edit)
		if err != nil {
			return nil, err
		}
		if dry || len(change.Puts)+len(change.Deletes) == 0 {
			return res, nil
		}
		res.Revision, err = r.opts.Store.Apply(ctx, change)
		if conflict, ok := errors.AsType[*store.Error](err); ok && errors.Is(err, store.ErrConflict) {
			found := conflict.Found
			if err := r.await(ctx, func() bool { n := r.head.Load(); return n != h && n.Revision >= min(found, h.Revision+1) }); err != nil {
				return nil, storeError(err)
			}
			continue
		}
		if err != nil {
			r.noteTrouble(err)
			return nil, storeError(err)
		}
		// The next change of this process starts from this one.
		if err := r.await(ctx, func() bool { return r.head.Load().Revision >= res.Revision }); err != nil {
			return nil, &model.Error{
				Kind: model.Unavailable,
				Msg:  fmt.Sprintf("the change is stored as revision %d but the store does not show it yet; look again in a moment", res.Revision), Err: err,
			}
		}
		return res, nil
	}
	return nil, &model.Error{Kind: model.Conflict, Msg: fmt.Sprintf("other processes changed the store %d times meanwhile; nothing was changed, try again", attempts)}
}

// prepare turns an edit into the store's change.
func (r *Registry) prepare(h *Head, edit func(*Head) (*Edit, error)) (*Result, store.Change, error) {
	e, err := edit(h)
	if err != nil {
		return nil, store.Change{}, err
	}
	change := store.Change{Puts: e.Puts, Deletes: e.Deletes, IfRevision: h.Revision}
	res := &Result{Revision: h.Revision, Set: h.Set}
	if e.Set == nil {
		return res, change, nil
	}
	next, err := r.opts.Admit(h.Set, e.Set)
	if err != nil {
		return nil, change, err
	}
	// Admit may have returned what it was given; the hubs' keys are added to a
	// set of our own.
	next = next.Clone()
	if err := r.provideHubs(h, next, &change); err != nil {
		return nil, change, err
	}
	res.Set = next
	if err := r.diff(h, next, res, &change); err != nil {
		return nil, change, err
	}
	return res, change, nil
}

// diff adds what has changed between the head and next.
func (r *Registry) diff(h *Head, next *model.Set, res *Result, change *store.Change) error {
	for _, o := range next.Objects() {
		ref := model.RefOf(o)
		before := h.Set.Object(ref)
		if before == o {
			continue
		}
		data, err := encode(o)
		if err != nil {
			return err
		}
		key := keyOf(ref)
		if was, ok := h.docs[key]; ok && before != nil && bytes.Equal(was.Data, data) {
			continue
		}
		res.Changes = append(res.Changes, Change{ref, before, o})
		change.Puts = append(change.Puts, store.Put{Key: key, IfRevision: store.Any, Data: data})
	}
	for _, o := range h.Set.Objects() {
		ref := model.RefOf(o)
		if next.Object(ref) == nil {
			res.Changes = append(res.Changes, Change{ref, o, nil})
			change.Deletes = append(change.Deletes, store.Delete{Key: keyOf(ref), IfRevision: store.Any})
		}
	}
	return nil
}

func keyOf(r model.Ref) store.Key { return store.Key{Kind: string(r.Kind), Name: r.Name} }

// encode is how a resource is stored: without conditions, which follow from the
// snapshot.
func encode(o model.Object) ([]byte, error) {
	if len(o.Base().Status.Conditions) > 0 {
		o = model.Clone(o)
		o.Base().Status.Conditions = nil
	}
	return model.EncodeStored(o)
}

func (r *Registry) noteTrouble(err error) {
	if e, ok := errors.AsType[*store.Error](err); ok && e.Kind == store.Unavailable {
		r.setTrouble(err)
	}
}

// storeError gives a store's error the domain's kind.
func storeError(err error) error {
	e, ok := errors.AsType[*store.Error](err)
	if !ok {
		return &model.Error{Kind: model.Unavailable, Msg: "the store does not answer; what is deployed is still served, try again", Err: err}
	}
	kind := model.ErrorKind(e.Kind)
	msg := e.Reason.Error()
	switch {
	case e.Unknown:
		msg = "the store did not answer, and the change may or may not be stored; look before you try again"
	case kind == model.Unavailable:
		msg = "the store does not answer; nothing was changed and what is deployed is still served, try again"
	case e.Detail != "":
		msg += ": " + e.Detail
	}
	return &model.Error{Kind: kind, Msg: msg, Err: err}
}
