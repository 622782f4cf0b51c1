// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mem is a store in memory: the twin that store/etcd is compared with,
// and the store of tests that need no disk.
package mem

import (
	"context"
	"sync"

	"postern.dev/postern/store"
	"postern.dev/postern/store/internal/state"
)

// Store is a store.Store in memory.
type Store struct {
	limits store.Limits
	apply  sync.Mutex // from the check of a change to its revision
	state  *state.State
}

// New returns an empty store.
func New(l store.Limits) *Store {
	return &Store{limits: l.WithDefaults(), state: state.New(l)}
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context) ([]store.Document, int64, error) {
	if err := s.usable(ctx); err != nil {
		return nil, 0, err
	}
	docs, rev := s.state.Documents()
	return docs, rev, nil
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, c store.Change) (int64, error) {
	if err := c.Validate(s.limits); err != nil {
		return 0, err
	}
	s.apply.Lock()
	defer s.apply.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	if err := s.state.Check(c); err != nil {
		return 0, err
	}
	return s.state.Advance(c), nil
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, after int64) (<-chan store.Event, error) {
	return s.state.Watch(ctx, after)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.state.Close()
	return nil
}

func (s *Store) usable(ctx context.Context) error {
	if s.state.Closed() {
		return store.NewError(store.ErrClosed, "", nil)
	}
	if err := ctx.Err(); err != nil {
		return store.NewError(store.ErrUnavailable, "", err)
	}
	return nil
}
