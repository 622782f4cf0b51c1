// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"context"
	"encoding/json"
	"errors"

	compileiam "postern.dev/postern/compile/iam"
	"postern.dev/postern/compile/openapi"
	"postern.dev/postern/compile/openapi/validate"
	compilesg "postern.dev/postern/compile/sg"
	"postern.dev/postern/model"
)

// Check reads what the named resources hold in other languages: policies,
// OpenAPI documents, rules. It returns every error as model.Errors, so that a
// change that would not compile is refused before it is stored.
func (c *Compiler) Check(set *model.Set, refs []model.Ref) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	defer c.end()
	k := check{c: c, rules: compilesg.New().In(compilesg.Env{})}
	for _, r := range refs {
		o := set.Object(r)
		if o == nil {
			continue
		}
		x, errs := model.Expand(o, set)
		if k.errs = append(k.errs, errs...); len(errs) == 0 {
			k.object(x)
		}
	}
	if len(k.errs) == 0 {
		return nil
	}
	k.errs.Sort()
	return k.errs
}

type check struct {
	c     *Compiler
	rules *compilesg.Scope
	errs  model.Errors
}

func (k *check) object(o model.Object) {
	switch x := o.(type) {
	case *model.SecurityGroup:
		k.add(x, "spec.rules", k.rules.Check(x))
	case *model.Endpoint:
		k.policy(x, x.Spec.Policy)
	case *model.Domain:
		k.policy(x, x.Spec.Policy)
		k.certificate(x)
		k.bundles(x)
	case *model.API:
		k.policy(x, x.Spec.Policy)
		doc, err := k.c.document(&x.Spec)
		if err == nil {
			err = validate.Document(context.Background(), x.Spec.OpenAPI, openapi.Options{Backend: x.Spec.Backend, KeyRequired: x.Spec.KeyRequired})
		}
		k.add(x, "spec.openapi", err)
		if err == nil && !hasPolicy(x.Spec.Policy) {
			k.policyAt(x, inDocument, doc.Policy)
		}
	}
}

func (k *check) policy(o model.Object, raw json.RawMessage) { k.policyAt(o, inSpec, raw) }

func (k *check) policyAt(o model.Object, field string, raw json.RawMessage) {
	_, err := k.c.policy(raw, policyScope{})
	var list compileiam.Errors
	if !errors.As(err, &list) {
		k.add(o, field, err)
		return
	}
	for _, e := range list {
		at := field
		if e.Path != "" {
			at += "." + e.Path
		}
		k.errs = append(k.errs, &model.Error{
			Kind: model.Invalid, Ref: model.RefOf(o), Field: at, Position: o.Base().Locate(at), Msg: e.Msg,
		})
	}
}

// add notes an error, keeping its own fields if it has any.
func (k *check) add(o model.Object, field string, err error) {
	if err == nil {
		return
	}
	list := model.Errors{{Kind: model.Invalid, Field: field, Msg: err.Error()}}
	if typed, ok := errors.AsType[model.Errors](err); ok {
		list = typed
	} else if one, ok := errors.AsType[*model.Error](err); ok {
		list = model.Errors{one}
	}
	for _, e := range list {
		x := *e
		x.Ref = model.RefOf(o)
		if x.Field == "" {
			x.Field = field
		}
		x.Position = o.Base().Locate(x.Field)
		k.errs = append(k.errs, &x)
	}
}
