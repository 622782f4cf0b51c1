// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"sync/atomic"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/model"
)

// shownKeys remembers whose keys the last requests showed, as recent does the
// requests themselves: not every request has one.
type shownKeys struct {
	slots []shownKey
	next  atomic.Uint64
}

type shownKey struct {
	mu           sync.Mutex
	id           [36]byte
	subscription string
	limit        model.Kind
}

// add remembers the key of a request, and whose limit refused it, if one did.
func (k *shownKeys) add(id string, v *request.Verdict) {
	var limit model.Kind
	if code := v.Code(); code == request.CodeThrottled || code == request.CodeQuota {
		limit = v.Steps()[v.Decided()].Component.Kind
	}
	if v.Subscription == nil && limit == "" {
		return
	}
	sl := &k.slots[k.next.Add(1)%uint64(len(k.slots))]
	if !sl.mu.TryLock() {
		return // it is being read
	}
	defer sl.mu.Unlock()
	copy(sl.id[:], id)
	sl.subscription, sl.limit = "", limit
	if v.Subscription != nil {
		sl.subscription = v.Subscription.Name
	}
}

// Key returns what is remembered of the API key of a request: the Subscription
// that it is of, and the kind of whose limit refused it. Both may be empty.
func (e *Engine) Key(id string) (subscription string, limit model.Kind) {
	for i := range e.shown.slots {
		sl := &e.shown.slots[i]
		sl.mu.Lock()
		found := string(sl.id[:]) == id
		if found {
			subscription, limit = sl.subscription, sl.limit
		}
		sl.mu.Unlock()
		if found {
			break
		}
	}
	return subscription, limit
}
