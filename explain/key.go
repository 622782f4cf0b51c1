// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"math"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/decide/limit"
	"postern.dev/postern/decide/request"
	"postern.dev/postern/explain/answer"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// apiKeyHeader is where a key is shown.
const apiKeyHeader = "x-api-key"

// anyKey stands in a fix for a key that only its user knows.
const anyKey = "KEY"

// Limited is what refused a request that has happened: limit/throttled or
// limit/quota, and whose, a Product's or a Stage's.
type Limited struct {
	Code string
	Kind model.Kind
}

// keys fills in what is known of the caller's key and of what is left for it.
func (t *trail) keys(a *request.Arrival) {
	showKeys(&t.q, a)
	if t.q.KeyOf != "" {
		a.HasKey, a.Subscription = true, t.s.Subscriptions[t.q.KeyOf]
		t.assume("the caller has a key of Subscription/" + t.q.KeyOf)
	}
	if a.Origin.ServedBy != "" {
		return // it counts by itself
	}
	switch {
	case t.w.Limited != nil:
		t.w.Limited.drain(t.s, a)
	case t.w.Meters != nil:
		a.Meters = t.w.Meters(t.s)
	}
}

// showKeys notes the keys that the question has.
func showKeys(q *answer.Question, a *request.Arrival) {
	for _, h := range q.Headers {
		if strings.EqualFold(h.Name, apiKeyHeader) {
			a.ShowKey(h.Value)
		}
	}
}

// knowsKey fails if the Subscription whose key the question takes for granted is
// not there.
func (t *trail) knowsKey() error {
	if k := t.q.KeyOf; k != "" && t.s.Subscriptions[k] == nil {
		_, err := t.w.absent(k, model.KindSubscription, k, keys(t.s.Subscriptions))
		return err
	}
	return nil
}

// drain makes meters that are as they were for a request that was refused.
func (l *Limited) drain(s *snapshot.Snapshot, a *request.Arrival) {
	const empty = limit.Bucket(math.MaxInt64)
	switch {
	case l.Kind == model.KindStage:
		a.Meters = make([]*limit.Meter, len(s.Meters))
		for _, api := range s.APIs {
			for _, st := range api.Stages {
				if st.Throttle != nil {
					a.Meters[st.Meter] = limit.NewMeter(empty, 0)
				}
			}
		}
	case l.Kind == model.KindProduct && l.Code == limit.CodeThrottled:
		a.KeyMeter = limit.NewMeter(empty, 0)
	case l.Kind == model.KindProduct && a.Subscription != nil && a.Subscription.Product.Quota != nil:
		a.KeyMeter = limit.NewMeter(0, limit.Full(a.Subscription.Product.Quota, a.Now))
	}
}

// supposeKey judges again as if the key that was sent were one of a Subscription
// that opens the API. Manifests alone hold no keys.
func (t *trail) supposeKey(w *web) {
	v := &w.verdict
	if !t.w.AsWritten || !w.arrival.HasKey || w.arrival.KeyRepeated || w.arrival.Subscription != nil || v.API == nil || !stopsWith(v, request.CodeKeyUnknown) {
		return
	}
	s := subscribed(v.API)
	if len(s) == 0 {
		return // no key would do
	}
	t.assume("the key in " + apiKeyHeader + " is one of Subscription/" + s[0].Name)
	w.arrival.Subscription = s[0]
	w.verdict = request.Judge(t.s, &w.arrival, true)
}

func stopsWith(v *request.Verdict, code string) bool {
	for i := range v.Steps() {
		if v.Steps()[i].Code == code {
			return true
		}
	}
	return false
}

// subscribed lists the Subscriptions whose keys open an API.
func subscribed(a *snapshot.API) []*snapshot.Subscription {
	var out []*snapshot.Subscription
	for _, p := range a.Products {
		out = append(out, p.Subscriptions...)
	}
	return out
}

// counted returns what counts for a step about a limit; nil if it is not known.
func (t *trail) counted(s *request.Step) *limit.Meter {
	a, v := &t.web.arrival, &t.web.verdict
	i := snapshot.NoMeter
	switch {
	case s.Component.Kind == model.KindStage:
		i = v.Stage.Meter
	case v.Key == nil:
		return a.KeyMeter
	default:
		i = v.Key.Meter
	}
	if i < 0 || i >= len(a.Meters) {
		return nil
	}
	return a.Meters[i]
}

// limitEvidence says where it is known from what is left.
func (t *trail) limitEvidence(s *request.Step) string {
	switch {
	case t.w.Limited != nil:
		return "log"
	case t.counted(s) != nil:
		return t.w.Evidence
	}
	t.assume(s.Component.String() + ": " + s.Field + " is not used up")
	return "model"
}

// limitReason is one sentence about a throttle or a quota, and what is left.
func (t *trail) limitReason(s *request.Step) string {
	v, now := &t.web.verdict, t.web.arrival.Now
	m := t.counted(s)
	if t.w.Limited != nil {
		m = nil // what was left then was not written down
	}
	each := " lets each key through "
	var th *snapshot.Throttle
	if s.Component.Kind == model.KindStage {
		each, th = " lets all callers together through ", v.Stage.Throttle
	} else if s.Field == "spec.quota" {
		return t.quotaReason(s, m, now)
	} else {
		th = v.Subscription.Product.Throttle
	}
	text := s.Component.String() + each + strconv.FormatFloat(th.Rate, 'f', -1, 64) + " times a second, " + itoa(th.Burst) + " at once"
	switch {
	case th.Burst == 0:
		return s.Component.String() + " lets nobody through: its rate is 0."
	case s.Outcome == request.Stop:
		return text + ", and that was used up."
	case m == nil:
		return text + "."
	}
	b, _ := m.State()
	return text + "; after this request, " + itoa(limit.Tokens(th, b, now.UnixNano())) + " at once are left."
}

func (t *trail) quotaReason(s *request.Step, m *limit.Meter, now time.Time) string {
	q := t.web.verdict.Subscription.Product.Quota
	text := s.Component.String() + " lets each key through " + strconv.FormatInt(q.Limit, 10) + " times a " + q.Period
	switch {
	case s.Outcome == request.Stop:
		return text + ", and that is used up until " + limit.Ends(q, now).Format(time.RFC3339) + "."
	case m == nil:
		return text + "."
	}
	_, c := m.State()
	return text + "; after this request, " + strconv.FormatInt(q.Limit-limit.Used(q, c, now), 10) + " are left until " + limit.Ends(q, now).Format(time.RFC3339) + "."
}

// keyReason is one sentence about a key.
func (t *trail) keyReason(s *request.Step) string {
	v := &t.web.verdict
	switch s.Code {
	case request.CodeKeyMissing:
		return "The operation needs an API key, and the request has no " + apiKeyHeader + "."
	case request.CodeKeyUnknown:
		if s.Note == request.NoteRepeatedKey {
			return "The operation needs an API key, and the request has more than one " + apiKeyHeader + ", which is none."
		}
		note := " was not issued here"
		switch {
		case s.Note == request.NoteOtherProduct:
			note = " is of a Product that does not have " + s.Component.String()
		case len(v.API.Products) == 0:
			note += "; no Product has " + s.Component.String() + ", so that no key opens it"
			if t.w.Limited != nil {
				note = " does not open it: no Product has " + s.Component.String()
			}
		case t.w.Limited != nil:
			note = " does not open " + s.Component.String() + "; which key it was is not remembered"
		}
		return "The operation needs an API key, and the one in " + apiKeyHeader + note + "."
	}
	text := "The key in " + apiKeyHeader + " is "
	if v.Key != nil {
		text += v.Key.ID + " "
	}
	text += "of " + s.Component.String()
	if c := v.Subscription.Consumer; c != "" {
		text += " (" + c + ")"
	}
	return text + ", and Product/" + v.Subscription.Product.Name + " has API/" + v.API.Name + "."
}

// proposeKey proposes a key of a Subscription that opens the API, or to make
// one.
func proposeKey(t *trail) []change {
	a := t.web.verdict.API
	if a == nil {
		return nil
	}
	var out []change
	for _, s := range first(subscribed(a), maxNearest) {
		out = append(out, t.withKey("send a key of Subscription/"+s.Name+" in "+apiKeyHeader, s.Name))
	}
	if len(out) > 0 {
		return out
	}
	name := free(t.w.Set, model.KindSubscription, a.Name)
	s := &model.Subscription{
		Head: model.Head{Metadata: model.Metadata{Name: name}},
		Spec: model.SubscriptionSpec{Consumer: t.from.name},
	}
	var puts []model.Object
	summary := "subscribe to Product/"
	if len(a.Products) > 0 {
		s.Spec.Product = a.Products[0].Name
		summary += s.Spec.Product
	} else {
		s.Spec.Product = free(t.w.Set, model.KindProduct, a.Name)
		puts = append(puts, &model.Product{Head: model.Head{Metadata: model.Metadata{Name: s.Spec.Product}}, Spec: model.ProductSpec{APIs: []string{a.Name}}})
		summary = "make a Product of API/" + a.Name + ", subscribe to it"
	}
	c := t.withKey(summary+", and send a key of the Subscription in "+apiKeyHeader, name)
	commands := c.commands
	c.commands = nil
	for _, o := range append(puts, s) {
		made := create("", o)
		c.puts, c.patch, c.commands = append(c.puts, made.puts...), append(c.patch, made.patch...), append(c.commands, made.commands...)
	}
	c.commands = append(c.commands, commands...)
	return []change{c}
}

// withKey asks again with a key of a Subscription.
func (t *trail) withKey(summary, subscription string) change {
	c := ask(t, summary, t.q.URL, map[string]string{apiKeyHeader: anyKey})
	c.ask.KeyOf, c.request.KeyOf = subscription, subscription
	c.commands = []string{"postern key create " + subscription + "   # unless there is one"}
	return c
}

// free is a name that no resource of a kind has.
func free(s *model.Set, k model.Kind, name string) string {
	for n := 2; ; n++ {
		if !s.Has(model.Ref{Kind: k, Name: name}) {
			return name
		}
		name += "-" + itoa(n)
	}
}

// raise is by how much a limit is raised for a caller.
const raise = 2

// proposeLimit proposes twice as much, or no limit where that is nothing.
func proposeLimit(t *trail, s stop) []change {
	if s.web < 0 {
		return nil
	}
	step := &t.web.verdict.Steps()[s.web]
	more := func(th **model.Throttle) answer.PatchOperation {
		if (*th).Burst == 0 || (*th).Rate == 0 {
			*th = nil
			return answer.PatchOperation{Op: "remove", Path: "/spec/throttle"}
		}
		*th = &model.Throttle{Rate: raise * (*th).Rate, Burst: raise * (*th).Burst}
		return answer.PatchOperation{Op: "replace", Path: "/spec/throttle", Value: **th}
	}
	switch step.Component.Kind {
	case model.KindStage:
		if o, ok := object[*model.Stage](t, step.Component.Name); ok && o.Spec.Throttle != nil {
			op := more(&o.Spec.Throttle)
			return []change{put("raise the throttle of "+step.Component.String(), o, op)}
		}
	case model.KindProduct:
		o, ok := object[*model.Product](t, step.Component.Name)
		switch {
		case !ok:
		case step.Code == request.CodeQuota && o.Spec.Quota != nil:
			o.Spec.Quota.Limit *= raise
			return []change{put("raise the quota of "+step.Component.String(), o, answer.PatchOperation{Op: "replace", Path: "/spec/quota/limit", Value: o.Spec.Quota.Limit})}
		case step.Code == request.CodeThrottled && o.Spec.Throttle != nil:
			op := more(&o.Spec.Throttle)
			return []change{put("raise the throttle of "+step.Component.String(), o, op)}
		}
	}
	return nil
}
