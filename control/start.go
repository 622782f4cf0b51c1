// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"postern.dev/postern/control/pki"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

// Authority returns the private CA of a store, and makes it on the first start.
// It is kept in the store, which encrypts it, so that every process of one
// management plane has the same and a backup holds it.
func Authority(ctx context.Context, s store.Store, now time.Time) (*pki.Authority, error) {
	key := store.Key{Kind: registry.KindAuthority, Name: "root"}
	for {
		docs, _, err := s.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("load the private CA: %w", err)
		}
		for _, d := range docs {
			if d.Key == key {
				return pki.ParseAuthority(model.NewSecret(string(d.Data)))
			}
		}
		a, err := pki.NewAuthority(now)
		if err != nil {
			return nil, err
		}
		text, err := a.Encode()
		if err != nil {
			return nil, err
		}
		_, err = s.Apply(ctx, store.Change{
			IfRevision: store.Any,
			Puts:       []store.Put{{Key: key, IfRevision: store.Absent, Data: []byte(text.Reveal())}},
		})
		if errors.Is(err, store.ErrConflict) {
			continue // another process was first
		}
		if err != nil {
			return nil, fmt.Errorf("keep the private CA: %w", err)
		}
		return a, nil
	}
}

// AdminToken returns have if it is a valid admin token, else a new one: how the
// first start, and one after client.yaml was lost, lets its owner in.
func (s *Server) AdminToken(ctx context.Context, have model.Secret) (model.Secret, error) {
	if t, err := s.Authenticate(have.Reveal()); err == nil && t.Role == token.Admin {
		return have, nil
	}
	t, value, err := token.New(token.Request{Role: token.Admin, Comment: "made at the start of the server"}, s.opts.Now())
	if err != nil {
		return model.Secret{}, err
	}
	data, err := json.Marshal(t)
	if err != nil {
		return model.Secret{}, err
	}
	_, err = s.opts.Registry.Update(ctx, false, func(*registry.Head) (*registry.Edit, error) {
		return &registry.Edit{Puts: []store.Put{{Key: tokenKey(t.ID), IfRevision: store.Absent, Data: data}}}, nil
	})
	return value, err
}
