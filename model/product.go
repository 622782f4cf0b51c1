// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"math"
	"time"
)

// Product is what consumers subscribe to: APIs that a key opens, and how often.
type Product struct {
	Head
	Spec ProductSpec `json:"spec"`
}

// ProductSpec is what is declared of a Product.
type ProductSpec struct {
	APIs     []string  `json:"apis"`
	Throttle *Throttle `json:"throttle,omitempty"` // of each key
	Quota    *Quota    `json:"quota,omitempty"`    // of each key
}

// Quota bounds the requests of a calendar period in UTC.
type Quota struct {
	Limit  int    `json:"limit"`
	Period string `json:"period"` // day, week, month
}

// Periods of a Quota. A week begins on Monday.
const (
	PeriodDay   = "day"
	PeriodWeek  = "week"
	PeriodMonth = "month"
)

// Subscription is a consumer's right to a Product. Its keys are issued by the
// server and stand in its status.
type Subscription struct {
	Head
	Spec SubscriptionSpec `json:"spec"`
}

// SubscriptionSpec is what is declared of a Subscription.
type SubscriptionSpec struct {
	Product  string `json:"product"`
	Consumer string `json:"consumer"`
}

// MaxKeys bounds the keys of one Subscription.
const MaxKeys = 100

// IssuedKey is what is kept of an API key.
type IssuedKey struct {
	// ID names the key; it is not part of it.
	ID      string    `json:"id"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created,omitzero"`
	// Gateway is the id of the Gateway with whose secret the hash was made: the
	// key opens nothing elsewhere.
	Gateway string `json:"gateway"`
	// Hash is the key's HMAC-SHA-256, hexadecimal.
	Hash Secret `json:"hash,omitzero"`
}

// Kind returns KindProduct.
func (*Product) Kind() Kind { return KindProduct }

// Kind returns KindSubscription.
func (*Subscription) Kind() Kind { return KindSubscription }

// Interval is in how many nanoseconds a token comes back; 0 if none does.
func (t *Throttle) Interval() int64 {
	if t.Rate <= 0 {
		return 0
	}
	return int64(math.Round(1e9 / t.Rate))
}

// GatewayOf returns the Gateway that serves the APIs of a Product; false if none
// of them is there.
func GatewayOf(s *Set, p *Product) (*Gateway, bool) {
	for _, name := range p.Spec.APIs {
		if a, ok := Get[*API](s, name); ok {
			return Get[*Gateway](s, a.Spec.Gateway)
		}
	}
	return nil, false
}

// The bounds of a Throttle and of a Quota, so that no sum of theirs overflows.
const (
	minRate  = 0.001
	maxRate  = 1_000_000
	maxBurst = 1_000_000
	maxQuota = 1_000_000_000_000
)

// burst fills in how many may come at once: what comes in a second.
func burst(t *Throttle) {
	if t != nil && t.Burst == 0 && t.Rate > 0 && t.Rate <= maxRate {
		t.Burst = int(math.Ceil(t.Rate))
	}
}

func (c *check) throttle(at string, t *Throttle) {
	if t == nil {
		return
	}
	switch {
	case t.Rate < 0:
		c.fail(at+".rate", "is negative; write requests a second")
	case t.Rate > maxRate || math.IsNaN(t.Rate):
		c.fail(at+".rate", "is more than %d; leave the throttle out for no limit", maxRate)
	case t.Rate > 0 && t.Rate < minRate:
		c.fail(at+".rate", "is below %v; write at least that, or a quota", minRate)
	}
	switch {
	case t.Burst < 0:
		c.fail(at+".burst", "is negative; write a number of requests")
	case t.Burst > maxBurst:
		c.fail(at+".burst", "is more than %d; write how many may come at once", maxBurst)
	case t.Rate == 0 && t.Burst > 0:
		c.fail(at+".rate", "is 0, so that %d requests would pass and then none; write requests a second, or burst: 0 too to refuse them all", t.Burst)
	}
}

func (c *check) product(p *Product) {
	s := &p.Spec
	if len(s.APIs) == 0 {
		c.fail("spec.apis", "is missing; name the APIs that a key opens")
	}
	c.unique("spec.apis", s.APIs)
	gateway, first := "", ""
	for i, n := range s.APIs {
		a, ok := Get[*API](c.s, n)
		switch {
		case !ok:
		case first == "":
			gateway, first = a.Spec.Gateway, n
		case a.Spec.Gateway != gateway:
			c.fail(fmt.Sprintf("spec.apis[%d]", i), "API %q is on Gateway %q, but %q is on %q; make a Product for each Gateway", n, a.Spec.Gateway, first, gateway)
		}
	}
	c.throttle("spec.throttle", s.Throttle)
	if q := s.Quota; q != nil {
		if q.Limit < 1 || q.Limit > maxQuota {
			c.fail("spec.quota.limit", "%d is out of range; write a number of requests, 1 to %d", q.Limit, maxQuota)
		}
		c.oneOf("spec.quota.period", q.Period, PeriodDay, PeriodWeek, PeriodMonth)
	}
}

// maxConsumer bounds the name of a consumer.
const maxConsumer = 256

func (c *check) subscription(s *Subscription) {
	c.required("spec.product", s.Spec.Product, "name the Product that its keys open")
	if c.required("spec.consumer", s.Spec.Consumer, "write who uses the keys, such as a team or an address") && len(s.Spec.Consumer) > maxConsumer {
		c.fail("spec.consumer", "is longer than %d characters", maxConsumer)
	}
}
