// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Encode returns v, a struct or a pointer to one, as a tree: fields in the
// order of the struct, keys of maps sorted. With reveal, values that have a
// Reveal method stand there in clear, otherwise as their text encoding.
func Encode(v any, reveal bool) (*Node, error) {
	e := encoder{reveal: reveal}
	return e.value(reflect.ValueOf(v))
}

type encoder struct{ reveal bool }

func (e encoder) value(v reflect.Value) (*Node, error) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return &Node{}, nil
		}
		return e.value(v.Elem())
	}
	switch x := v.Interface().(type) {
	case interface{ Reveal() string }:
		if e.reveal {
			return &Node{Kind: String, Text: x.Reveal()}, nil
		}
	case json.Marshaler:
		b, err := x.MarshalJSON()
		if err == nil && !json.Valid(b) {
			err = fmt.Errorf("%s holds no valid JSON", v.Type())
		}
		return &Node{Kind: JSON, Text: string(b)}, err
	}
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := t.MarshalText()
		return &Node{Kind: String, Text: string(b)}, err
	}
	switch v.Kind() {
	case reflect.Struct:
		return e.structure(v)
	case reflect.Slice:
		n := &Node{Kind: List}
		for i := range v.Len() {
			x, err := e.value(v.Index(i))
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, x)
		}
		return n, nil
	case reflect.Map:
		n := &Node{Kind: Map}
		for _, k := range v.MapKeys() {
			x, err := e.value(v.MapIndex(k))
			if err != nil {
				return nil, err
			}
			n.Fields = append(n.Fields, Field{Name: k.String(), Value: x})
		}
		slices.SortFunc(n.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
		return n, nil
	case reflect.String:
		return &Node{Kind: String, Text: v.String()}, nil
	case reflect.Bool:
		return &Node{Kind: Bool, Text: strconv.FormatBool(v.Bool())}, nil
	case reflect.Int, reflect.Int64:
		return &Node{Kind: Number, Text: strconv.FormatInt(v.Int(), 10)}, nil
	case reflect.Float64:
		b, err := json.Marshal(v.Float())
		return &Node{Kind: Number, Text: string(b)}, err
	default:
		return nil, fmt.Errorf("a field of type %s cannot be written", v.Type())
	}
}

func (e encoder) structure(v reflect.Value) (*Node, error) {
	n := &Node{Kind: Map}
	t := v.Type()
	for i, name := range Names(t) {
		if name == "" {
			continue
		}
		tag := t.Field(i).Tag.Get("json")
		f := v.Field(i)
		if strings.HasSuffix(tag, ",omitempty") && empty(f) || strings.HasSuffix(tag, ",omitzero") && f.IsZero() {
			continue
		}
		x, err := e.value(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		n.Fields = append(n.Fields, Field{Name: name, Value: x})
	}
	return n, nil
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}
