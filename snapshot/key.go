// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import "postern.dev/postern/snapshot/key"

// Product is what keys open, and how often.
type Product struct {
	Name string
	// APIs are what its keys open.
	APIs map[*API]bool
	// Throttle and Quota hold for each key; nil for no limit.
	Throttle *Throttle
	Quota    *Quota
	// Subscriptions are sorted by name.
	Subscriptions []*Subscription
}

// Subscription is a consumer's right to a Product.
type Subscription struct {
	Name     string
	Consumer string
	Product  *Product
}

// Throttle is a token bucket.
type Throttle struct {
	// Rate is how many tokens come back a second, Burst how many there are.
	Rate  float64
	Burst int
	// Interval is in how many nanoseconds a token comes back; 0 if none does.
	Interval int64
}

// Quota bounds the requests of a calendar period in UTC.
type Quota struct {
	Limit int64
	// Period is model.PeriodDay, PeriodWeek or PeriodMonth.
	Period string
}

// NoMeter is the Meter of what is not limited.
const NoMeter = -1

// KeyMeter names what counts the requests of a key: the sort of period of its
// quota, if it has one, is part of that, as counts of two sorts cannot be compared.
func KeyMeter(id, period string) string {
	if period == "" {
		return "Key/" + id
	}
	return "Key/" + id + "/" + period
}

// Key is an API key that was issued.
type Key struct {
	ID           string
	Subscription *Subscription
	// Meter indexes what its Product's limits are counted with, in
	// Snapshot.Meters; NoMeter if there are none.
	Meter int
	sum   key.Sum
}

// half is what a key is looked up by.
type half [key.Size / 2]byte

// Keys finds the keys that were issued for the APIs of a Gateway.
type Keys struct {
	secret *key.Secret
	byHalf map[half]*Key
}

// NewKeys returns an empty table whose keys are hashed with secret.
func NewKeys(secret *key.Secret) *Keys { return &Keys{secret: secret, byHalf: map[half]*Key{}} }

// Add adds a key under its hash. It reports false if there is one already.
func (k *Keys) Add(sum key.Sum, x *Key) bool {
	h := half(sum[:len(half{})])
	if k.byHalf[h] != nil {
		return false
	}
	x.sum = sum
	k.byHalf[h] = x
	return true
}

// Len is how many keys there are.
func (k *Keys) Len() int {
	if k == nil {
		return 0
	}
	return len(k.byHalf)
}

// Find returns the key that value is; nil if it is none. Neither how long it
// takes nor what is looked at depends on anything that a caller can foresee: who
// does not know the secret cannot choose a hash.
func (k *Keys) Find(value string) *Key {
	if k == nil {
		return nil
	}
	sum, ok := k.secret.Hash(value)
	if !ok {
		return nil
	}
	x := k.byHalf[half(sum[:len(half{})])]
	if x == nil || !x.sum.Equal(sum) {
		return nil
	}
	return x
}
