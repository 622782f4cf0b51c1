// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

// Edit is a change to make. Change is a caller's: what the server owns is not
// believed in it. Then comes what the server does of its own accord, and
// documents that are no resources.
type Edit struct {
	Change model.Change
	// Restore allows Deployments in Change: a backup is read back.
	Restore bool
	// Server makes the server's own change of what the caller's has led to; it
	// must not change next. It may be nil.
	Server  func(next *model.Set) (model.Change, error)
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
	a := admission{opts: r.opts.Admission, set: h.Set, changed: map[model.Ref]bool{}}
	if err := a.admit(e.Change, false, e.Restore); err != nil {
		return nil, change, err
	}
	if r.opts.Check != nil && len(a.changed) > 0 {
		if err := r.opts.Check(a.set, slices.Collect(maps.Keys(a.changed))); err != nil {
			return nil, change, err
		}
	}
	if e.Server != nil {
		own, err := e.Server(a.set)
		if err != nil {
			return nil, change, err
		}
		if err := a.admit(own, true, true); err != nil {
			return nil, change, err
		}
	}
	own, err := r.provideHubs(h, a.set, &change)
	if err != nil {
		return nil, change, err
	}
	if err := a.admit(own, true, false); err != nil {
		return nil, change, err
	}
	res := &Result{Revision: h.Revision, Set: a.set}
	return res, change, r.diff(h, a, res, &change)
}

// admission is a set that changes are admitted to one after another.
type admission struct {
	opts    model.Options
	set     *model.Set
	changed map[model.Ref]bool
}

func (a *admission) admit(c model.Change, server, deployments bool) error {
	if len(c.Puts)+len(c.Deletes) == 0 {
		return nil
	}
	o := a.opts
	o.Server, o.Deployments = server, deployments
	next, changed, err := model.Admit(a.set, c, o)
	if err != nil {
		return err
	}
	a.set = next
	for _, ref := range changed {
		a.changed[ref] = true
	}
	return nil
}

// diff adds what was admitted and differs from what is stored.
func (r *Registry) diff(h *Head, a admission, res *Result, change *store.Change) error {
	for ref := range a.changed {
		before, after := h.Set.Object(ref), a.set.Object(ref)
		if before == nil && after == nil {
			continue
		}
		if after == nil {
			change.Deletes = append(change.Deletes, store.Delete{Key: keyOf(ref), IfRevision: store.Any})
		} else {
			data, err := encode(after)
			if err != nil {
				return err
			}
			if was, ok := h.docs[keyOf(ref)]; ok && before != nil && bytes.Equal(was.Data, data) {
				continue
			}
			change.Puts = append(change.Puts, store.Put{Key: keyOf(ref), IfRevision: store.Any, Data: data})
		}
		res.Changes = append(res.Changes, Change{ref, before, after})
	}
	slices.SortFunc(res.Changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(slices.Index(model.Kinds, x.Ref.Kind), slices.Index(model.Kinds, y.Ref.Kind)), cmp.Compare(x.Ref.Name, y.Ref.Name))
	})
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
