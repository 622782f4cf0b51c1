// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"maps"

	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

// Kinds of documents that are no resources. Resources' kinds are capitalised.
const (
	KindToken     = "token"
	KindHub       = "hub"
	KindAuthority = "authority"
	KindACME      = "acme"
	KindLock      = "lock"
	// KindGatewayKey holds the two keys of a SelfHostedGateway, by its name.
	KindGatewayKey = "gatewaykey"
)

// Head is everything that is stored, at one revision. It is immutable.
type Head struct {
	Revision int64
	Set      *model.Set
	docs     map[store.Key]store.Document
	// broken are resources that this build cannot read.
	broken map[store.Key]error
	// compiled is the revision of the last change that matters to a snapshot.
	compiled int64
	// epoch grows with each relist: revisions may then begin again.
	epoch int
}

// Document returns a document that is no resource.
func (h *Head) Document(kind, name string) ([]byte, bool) {
	d, ok := h.docs[store.Key{Kind: kind, Name: name}]
	return d.Data, ok
}

// Documents returns all documents of one kind by name.
func (h *Head) Documents(kind string) map[string][]byte {
	out := map[string][]byte{}
	for k, d := range h.docs {
		if k.Kind == kind {
			out[k.Name] = d.Data
		}
	}
	return out
}

func isResource(kind string) bool { return kind != "" && kind[0] >= 'A' && kind[0] <= 'Z' }

func newHead(docs []store.Document, revision int64) *Head {
	h := &Head{Revision: revision, Set: model.NewSet(), docs: make(map[store.Key]store.Document, len(docs)), broken: map[store.Key]error{}}
	for _, d := range docs {
		h.put(d)
	}
	h.compiled = revision
	return h
}

// after returns the head after an event, and whether a resource or a hub has
// changed.
func (h *Head) after(e store.Event) (*Head, bool) {
	if e.Reset {
		n := newHead(e.Puts, e.Revision)
		n.epoch = h.epoch + 1
		return n, true
	}
	n := &Head{Revision: e.Revision, Set: h.Set.Clone(), docs: maps.Clone(h.docs), broken: maps.Clone(h.broken)}
	matters := false
	for _, d := range e.Puts {
		n.put(d)
		matters = matters || isResource(d.Kind) || d.Kind == KindHub
	}
	for _, k := range e.Deletes {
		delete(n.docs, k)
		delete(n.broken, k)
		if isResource(k.Kind) {
			n.Set.Delete(model.Ref{Kind: model.Kind(k.Kind), Name: k.Name})
		}
		matters = matters || isResource(k.Kind) || k.Kind == KindHub
	}
	n.compiled, n.epoch = h.compiled, h.epoch
	if matters {
		n.compiled = e.Revision
	}
	return n, matters
}

func (h *Head) put(d store.Document) {
	h.docs[d.Key] = d
	if !isResource(d.Kind) {
		return
	}
	delete(h.broken, d.Key)
	o, err := model.Decode(d.Data)
	if want := (model.Ref{Kind: model.Kind(d.Kind), Name: d.Name}); err == nil && model.RefOf(o) != want {
		err = fmt.Errorf("the document of %s holds %s", want, model.RefOf(o))
	}
	if err != nil {
		h.broken[d.Key] = err
		return
	}
	o.Base().Revision = d.Revision
	h.Set.Put(o)
}

// compilesAs reports whether everything that a snapshot is made of is the same
// in h and o.
func (h *Head) compilesAs(o *Head) bool { return h.compiled == o.compiled && h.epoch == o.epoch }
