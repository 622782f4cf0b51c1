// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"context"
	"io/fs"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"postern.dev/postern/control/registry"
	"postern.dev/postern/store"
)

// Documents is where certificates, accounts, challenges and locks are kept; a
// registry.Registry is one. The store below it encrypts.
type Documents interface {
	Head() *registry.Head
	Keep(context.Context, store.Change) (int64, error)
}

// storage is certmagic's view of the documents: a tree of files.
type storage struct {
	docs Documents
	*locks
}

var _ certmagic.Storage = (*storage)(nil)

func fileKey(name string) store.Key { return store.Key{Kind: registry.KindACME, Name: name} }

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	_, err := s.docs.Keep(ctx, store.Change{
		IfRevision: store.Any,
		Puts:       []store.Put{{Key: fileKey(key), IfRevision: store.Any, Data: value}},
	})
	return err
}

// Load implements certmagic.Storage.
func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	d, ok := s.docs.Head().Find(registry.KindACME, key)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(d.Data), nil
}

// Delete implements certmagic.Storage.
func (s *storage) Delete(ctx context.Context, key string) error {
	c := store.Change{IfRevision: store.Any}
	for name := range s.docs.Head().Documents(registry.KindACME) {
		if name == key || strings.HasPrefix(name, key+"/") {
			c.Deletes = append(c.Deletes, store.Delete{Key: fileKey(name), IfRevision: store.Any})
		}
	}
	if len(c.Deletes) == 0 {
		return nil
	}
	_, err := s.docs.Keep(ctx, c)
	return err
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements certmagic.Storage.
func (s *storage) List(_ context.Context, path string, recursive bool) ([]string, error) {
	seen := map[string]bool{}
	prefix := path + "/"
	if path == "" {
		prefix = ""
	}
	for name := range s.docs.Head().Documents(registry.KindACME) {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		if !recursive {
			parts = parts[:1]
		}
		for i := range parts { // the folders on the way too
			seen[prefix+strings.Join(parts[:i+1], "/")] = true
		}
	}
	if len(seen) == 0 {
		return nil, fs.ErrNotExist
	}
	out := make([]string, 0, len(seen))
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	h := s.docs.Head()
	if d, ok := h.Find(registry.KindACME, key); ok {
		return certmagic.KeyInfo{Key: key, Size: int64(len(d.Data)), IsTerminal: true}, nil
	}
	for name := range h.Documents(registry.KindACME) {
		if strings.HasPrefix(name, key+"/") {
			return certmagic.KeyInfo{Key: key}, nil
		}
	}
	return certmagic.KeyInfo{}, fs.ErrNotExist
}
