// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
	"postern.dev/postern/store"
)

func tokenKey(id string) store.Key { return store.Key{Kind: registry.KindToken, Name: id} }

func createToken(c *call) (any, error) {
	var in wire.NewToken
	if err := c.read(&in); err != nil {
		return nil, err
	}
	r := token.Request{Role: token.Role(in.Role), Subject: in.Subject, Comment: in.Comment}
	if in.Lifetime != "" {
		d, err := time.ParseDuration(in.Lifetime)
		if err != nil {
			return nil, &model.Error{Kind: model.Invalid, Field: "lifetime", Msg: quote(in.Lifetime) + " is no duration such as 720h"}
		}
		if d <= 0 {
			return nil, &model.Error{Kind: model.Invalid, Field: "lifetime", Msg: quote(in.Lifetime) + " would have ended before it begins; write a duration above zero, such as 720h, or leave it out"}
		}
		r.Lifetime = d
	}
	if r.Role == token.SelfHosted {
		return c.createGatewayToken(r, in.Key, in.Enrol)
	}
	if in.Enrol {
		return nil, &model.Error{Kind: model.Invalid, Field: "enrol", Msg: "only self-hosted gateways are enrolled; leave it out"}
	}
	if in.Key != "" {
		return nil, &model.Error{Kind: model.Invalid, Field: "key", Msg: "only tokens of self-hosted gateways are signed with one; leave it out"}
	}
	t, value, err := token.New(r, c.opts.Now())
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	_, err = c.opts.Registry.Update(c.r.Context(), false, func(*registry.Head) (*registry.Edit, error) {
		return &registry.Edit{Puts: []store.Put{{Key: tokenKey(t.ID), IfRevision: store.Absent, Data: data}}}, nil
	})
	if err != nil {
		return nil, err
	}
	c.status = http.StatusCreated
	return wire.CreatedToken{Token: shown(t), Value: value.Reveal()}, nil
}

func shown(t token.Token) wire.Token {
	return wire.Token{ID: t.ID, Role: string(t.Role), Subject: t.Subject, Comment: t.Comment, Key: t.Key, Once: t.Once, Created: t.Created, Expires: t.Expires}
}

// tokens are the records of all tokens. The error tells of one that cannot be
// read; the others are returned all the same.
func tokens(h *registry.Head) (out []token.Token, err error) {
	for id, data := range h.Documents(registry.KindToken) {
		var t token.Token
		if json.Unmarshal(data, &t) != nil {
			err = &model.Error{Kind: model.Conflict, Msg: "the record of token " + quote(id) + " cannot be read, so that nobody can show it; end it with postern token revoke " + id}
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b token.Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return out, err
}

func listTokens(c *call) (any, error) {
	ts, err := tokens(c.opts.Registry.Head())
	if err != nil {
		return nil, err
	}
	out := wire.Tokens{Items: make([]wire.Token, len(ts))}
	for i, t := range ts {
		out.Items[i] = shown(t)
	}
	return out, nil
}

// revokeToken deletes a token, but never the last that may make others: nobody
// could come in any more.
func revokeToken(c *call) (any, error) {
	id := c.r.PathValue("id")
	_, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		if _, ok := h.Document(registry.KindToken, id); !ok {
			return nil, &model.Error{Kind: model.NotFound, Msg: "there is no token " + quote(id) + "; postern token list shows what there is"}
		}
		ts, _ := tokens(h) // one that cannot be read is none that makes others
		others := slices.ContainsFunc(ts, func(t token.Token) bool {
			return t.ID != id && t.Role.Allows(token.Grant) && t.Expires.IsZero()
		})
		if !others {
			return nil, &model.Error{Kind: model.Conflict, Msg: "no admin token that stays valid would be left; make another first"}
		}
		return &registry.Edit{Deletes: []store.Delete{{Key: tokenKey(id), IfRevision: store.Any}}}, nil
	})
	return nil, err
}
