// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"reflect"

	"postern.dev/postern/model"
)

var secretType = reflect.TypeFor[model.Secret]()

// KeepSecrets replaces every Secret of next that reads as redacted by the one
// in the same place of old. So a resource that was read from the API can be
// written back without losing what the API did not show.
func KeepSecrets(old, next model.Object) {
	if old == nil || old.Kind() != next.Kind() {
		return
	}
	keep(spec(old), spec(next))
}

func spec(o model.Object) reflect.Value {
	return reflect.ValueOf(o).Elem().FieldByName("Spec")
}

func keep(old, next reflect.Value) {
	if !old.IsValid() || !next.IsValid() || old.Type() != next.Type() {
		return
	}
	if next.Type() == secretType {
		s := next.Interface().(model.Secret)
		if s.Reveal() == s.String() {
			next.Set(old)
		}
		return
	}
	switch next.Kind() {
	case reflect.Pointer, reflect.Interface:
		keep(old.Elem(), next.Elem())
	case reflect.Struct:
		for f := range next.NumField() {
			keep(old.Field(f), next.Field(f))
		}
	case reflect.Slice, reflect.Array:
		for i := range min(old.Len(), next.Len()) {
			keep(old.Index(i), next.Index(i))
		}
	}
}
