// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"postern.dev/postern/client/wire"
)

// differ adds the places in which two JSON values differ, in order.
func differ(a, b any, path string, out *[]wire.Field) error {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	if x, ok := a.(map[string]any); ok {
		if y, ok := b.(map[string]any); ok {
			keys := maps.Clone(x)
			maps.Copy(keys, y)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				u, inX := x[k]
				v, inY := y[k]
				if err := member(u, v, inX, inY, join(path, k), out); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if x, ok := a.([]any); ok {
		if y, ok := b.([]any); ok {
			for i := range max(len(x), len(y)) {
				var u, v any
				if i < len(x) {
					u = x[i]
				}
				if i < len(y) {
					v = y[i]
				}
				if err := member(u, v, i < len(x), i < len(y), path+"["+strconv.Itoa(i)+"]", out); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return member(a, b, true, true, path, out)
}

func member(a, b any, inA, inB bool, path string, out *[]wire.Field) error {
	if inA && inB {
		if reflect.DeepEqual(a, b) {
			return nil
		}
		if deeper(a) && deeper(b) && reflect.TypeOf(a) == reflect.TypeOf(b) {
			return differ(a, b, path, out)
		}
	}
	f := wire.Field{Path: path}
	for _, side := range []struct {
		there bool
		v     any
		to    *json.RawMessage
	}{{inA, a, &f.Before}, {inB, b, &f.After}} {
		if !side.there {
			continue
		}
		text, err := json.Marshal(side.v)
		if err != nil {
			return err
		}
		*side.to = text
	}
	*out = append(*out, f)
	return nil
}

func deeper(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}
