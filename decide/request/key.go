// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"postern.dev/postern/decide/limit"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// keyed reports whether the operation asks for an API key.
func (j *judge) keyed() bool {
	op := j.v.Route.Operation
	return op != nil && j.v.Deployment.Operations.Keyed && op.KeyRequired
}

// key judges the API key.
func (j *judge) key() bool {
	if !j.keyed() {
		return true
	}
	v := j.v
	note := ""
	if v.Subscription = j.a.Subscription; v.Subscription == nil && j.a.HasKey && !j.a.KeyRepeated {
		if v.Key = j.g.Keys.Find(j.a.Key); v.Key != nil {
			v.Subscription = v.Key.Subscription
		}
	}
	if s := v.Subscription; s != nil {
		if s.Product.APIs[v.API] {
			v.pass(CodeKeyOK, model.KindSubscription, s.Name).Field = "spec.product"
			return true
		}
		note = NoteOtherProduct
	}
	if v.Subscription == nil && j.a.KeyRepeated {
		note = NoteRepeatedKey
	}
	code := CodeKeyMissing
	if j.a.HasKey || v.Subscription != nil {
		code = CodeKeyUnknown
	}
	field := "spec.openapi"
	if v.Deployment.KeyRequired {
		field = "spec.keyRequired"
	}
	// It is nobody's key here: what is behind counts it for nobody.
	v.Key, v.Subscription = nil, nil
	v.stop(code, model.KindAPI, v.API.Name, note).Field = field
	return j.refuse(invalidKey)
}

// limits judges what is left for the key, then for the Stage, as AWS does. What
// was taken before one refuses is given back, so that a request counts only
// where it was let through.
func (j *judge) limits() bool {
	v := j.v
	if v.Route.Operation == nil || v.Stage == nil {
		return true
	}
	var product *snapshot.Product
	var mine *limit.Meter
	if v.Subscription != nil {
		product = v.Subscription.Product
		if mine = j.a.KeyMeter; v.Key != nil {
			mine = j.meter(v.Key.Meter)
		}
	}
	took, used := false, false
	if product != nil && product.Throttle != nil {
		if took = mine != nil && mine.Take(product.Throttle, j.a.Now); took || mine == nil {
			v.pass(CodeLimitOK, model.KindProduct, product.Name).Field = "spec.throttle"
		} else if !j.exceeded(CodeThrottled, model.KindProduct, product.Name, "spec.throttle", throttled) {
			return false
		}
	}
	if product != nil && product.Quota != nil {
		if used = mine != nil && mine.Use(product.Quota, j.a.Now); used || mine == nil {
			v.pass(CodeLimitOK, model.KindProduct, product.Name).Field = "spec.quota"
		} else {
			if took {
				mine.Return(product.Throttle)
			}
			if !j.exceeded(CodeQuota, model.KindProduct, product.Name, "spec.quota", quotaExceeded) {
				return false
			}
		}
	}
	t := v.Stage.Throttle
	if t == nil {
		return true
	}
	if all := j.meter(v.Stage.Meter); all != nil && !all.Take(t, j.a.Now) {
		if took {
			mine.Return(product.Throttle)
		}
		if used {
			mine.Forget(product.Quota, j.a.Now)
		}
		return j.exceeded(CodeThrottled, model.KindStage, v.Stage.Qualified, "spec.throttle", throttled)
	}
	v.pass(CodeLimitOK, model.KindStage, v.Stage.Qualified).Field = "spec.throttle"
	return true
}

// exceeded stops a request that a limit does not let through.
func (j *judge) exceeded(code string, kind model.Kind, name, field string, r Response) bool {
	j.v.stop(code, kind, name, "").Field = field
	return j.refuse(r)
}

// meter returns what counts in a place; nil if nothing does.
func (j *judge) meter(i int) *limit.Meter {
	if i < 0 || i >= len(j.a.Meters) {
		return nil
	}
	return j.a.Meters[i]
}
