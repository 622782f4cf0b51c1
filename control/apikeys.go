// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/control/registry"
	"postern.dev/postern/decide/limit"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/key"
)

// maxComment bounds the comment of a key.
const maxComment = 256

// createKey issues an API key. It is shown in the answer and kept as a hash.
func createKey(c *call) (any, error) {
	var in wire.NewKey
	if err := c.read(&in); err != nil {
		return nil, err
	}
	if len(in.Comment) > maxComment {
		return nil, &model.Error{Kind: model.Invalid, Field: "comment", Msg: fmt.Sprintf("it has more than %d bytes", maxComment)}
	}
	value := in.Value
	if value == "" {
		var err error
		if value, err = key.New(); err != nil {
			return nil, err
		}
	} else if err := key.Check(value); err != nil {
		return nil, &model.Error{Kind: model.Invalid, Field: "value", Msg: err.Error() + "; leave it out to have one made"}
	}
	ref := model.Ref{Kind: model.KindSubscription, Name: c.name()}
	k := model.IssuedKey{Comment: in.Comment, Created: c.opts.Now().UTC().Truncate(time.Second)}
	var out wire.Key
	_, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		s, ok := model.Get[*model.Subscription](h.Set, ref.Name)
		if !ok {
			return nil, absent(ref)
		}
		puts, err := issue(h.Set, s, &k, value)
		if err != nil {
			return nil, err
		}
		out = shownKey(s, k)
		return &registry.Edit{Server: func(*model.Set) (model.Change, error) { return model.Change{Puts: puts}, nil }}, nil
	})
	if err != nil {
		return nil, err
	}
	c.status = http.StatusCreated
	return wire.CreatedKey{Key: out, Value: value}, nil
}

// issue completes k for a Subscription and returns what to store: the
// Subscription with it, and its Gateway with the secret that it is hashed with
// if that had none.
func issue(set *model.Set, s *model.Subscription, k *model.IssuedKey, value string) ([]model.Object, error) {
	ref := model.RefOf(s)
	if len(s.Status.Keys) >= model.MaxKeys {
		return nil, &model.Error{Kind: model.Conflict, Ref: ref, Msg: fmt.Sprintf("it has %d keys, which is the most; revoke one, or make another Subscription", model.MaxKeys)}
	}
	p, ok := model.Get[*model.Product](set, s.Spec.Product)
	if !ok {
		return nil, absent(model.Ref{Kind: model.KindProduct, Name: s.Spec.Product})
	}
	g, ok := model.GatewayOf(set, p)
	if !ok {
		return nil, &model.Error{Kind: model.Conflict, Ref: model.RefOf(p), Field: "spec.apis", Msg: "none of its APIs is there, so that a key would open nothing"}
	}
	var puts []model.Object
	text := g.Status.KeySecret.Reveal()
	if text == "" {
		_, made, err := key.NewSecret()
		if err != nil {
			return nil, err
		}
		text = made
		g = model.Clone(g)
		g.Status.KeySecret = model.NewSecret(text)
		puts = append(puts, g)
	}
	secret, err := key.ParseSecret(text)
	if err != nil {
		return nil, &model.Error{Kind: model.Internal, Ref: model.RefOf(g), Field: "status.keySecret", Msg: "cannot be read", Err: err}
	}
	sum, ok := secret.Hash(value)
	if !ok {
		return nil, &model.Error{Kind: model.Invalid, Field: "value", Msg: "it is too long"}
	}
	k.Gateway, k.Hash = g.Status.ID, model.NewSecret(sum.String())
	taken := map[string]bool{}
	for _, o := range model.All[*model.Subscription](set) {
		for _, x := range o.Status.Keys {
			taken[x.ID] = true
			have, err := key.ParseSum(x.Hash.Reveal())
			if err == nil && x.Gateway == k.Gateway && have.Equal(sum) {
				return nil, &model.Error{Kind: model.Conflict, Field: "value", Msg: "the same key was issued already, with the id " + x.ID + "; choose another, or revoke that"}
			}
		}
	}
	for k.ID == "" || taken[k.ID] {
		if k.ID, err = keyID(); err != nil {
			return nil, err
		}
	}
	s = model.Clone(s)
	s.Status.Keys = append(s.Status.Keys, *k)
	return append(puts, s), nil
}

// keyID makes an id: ten letters and digits, as AWS has it.
func keyID() (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 10)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	for i := range b {
		b[i] = alphabet[b[i]%byte(len(alphabet))]
	}
	return string(b), nil
}

func shownKey(s *model.Subscription, k model.IssuedKey) wire.Key {
	return wire.Key{
		ID: k.ID, Subscription: s.Metadata.Name, Product: s.Spec.Product, Consumer: s.Spec.Consumer,
		Comment: k.Comment, Created: k.Created,
	}
}

func listKeys(c *call) (any, error) {
	out := wire.Keys{Items: []wire.Key{}}
	var meters map[string]*limit.Meter
	if c.opts.Limits != nil {
		meters = c.opts.Limits()
	}
	set, now := c.opts.Registry.Published().Set(), c.opts.Now()
	for _, s := range model.All[*model.Subscription](c.opts.Registry.Head().Set) {
		p, _ := model.Get[*model.Product](set, s.Spec.Product)
		for _, k := range s.Status.Keys {
			shown := shownKey(s, k)
			if p != nil {
				period := ""
				if p.Spec.Quota != nil {
					period = p.Spec.Quota.Period
				}
				showLimits(&shown, &p.Spec, meters[snapshot.KeyMeter(k.ID, period)], now)
			}
			out.Items = append(out.Items, shown)
		}
	}
	return out, nil
}

// showLimits says what a Product allows a key, and what is used of that if m
// counts it.
func showLimits(k *wire.Key, p *model.ProductSpec, m *limit.Meter, now time.Time) {
	if t := p.Throttle; t != nil {
		k.Throttle = &wire.KeyThrottle{Rate: t.Rate, Burst: t.Burst}
		if m != nil {
			b, _ := m.State()
			left := limit.Tokens(&snapshot.Throttle{Rate: t.Rate, Burst: t.Burst, Interval: t.Interval()}, b, now.UnixNano())
			k.Throttle.Left = &left
		}
	}
	if p.Quota == nil {
		return
	}
	q := &snapshot.Quota{Limit: int64(p.Quota.Limit), Period: p.Quota.Period}
	k.Quota = &wire.KeyQuota{Limit: q.Limit, Period: q.Period, Renews: limit.Ends(q, now)}
	if m != nil {
		_, c := m.State()
		used := limit.Used(q, c, now)
		k.Quota.Used = &used
	}
}

// revokeKey takes a key away: the next request with it is refused.
func revokeKey(c *call) (any, error) {
	id := c.r.PathValue("id")
	_, err := c.opts.Registry.Update(c.r.Context(), false, func(h *registry.Head) (*registry.Edit, error) {
		var found *model.Subscription
		for _, s := range model.All[*model.Subscription](h.Set) {
			if slices.ContainsFunc(s.Status.Keys, func(k model.IssuedKey) bool { return k.ID == id }) {
				found = s
			}
		}
		if found == nil {
			return nil, &model.Error{Kind: model.NotFound, Msg: "there is no key " + quote(id) + "; postern key list shows what there is"}
		}
		found = model.Clone(found)
		found.Status.Keys = slices.DeleteFunc(found.Status.Keys, func(k model.IssuedKey) bool { return k.ID == id })
		return put(found), nil
	})
	return nil, err
}
