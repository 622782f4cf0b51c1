// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"postern.dev/postern/model/near"
)

// Decode moves n into what v points to and returns everything that does not
// fit; path is that of n itself. Null leaves a value as it is. A field with the
// tag unit is a text that has to be written with one, such as "s".
func Decode(n *Node, v any, path string) []*Problem {
	d := &decoder{}
	d.value(n, reflect.ValueOf(v).Elem(), path)
	return d.problems
}

type decoder struct{ problems []*Problem }

func (d *decoder) add(n *Node, path, format string, args ...any) {
	d.problems = append(d.problems, &Problem{Field: path, Line: n.Line, Column: n.Column, Msg: fmt.Sprintf(format, args...)})
}

// want reports whether n is of kind k and, if not, adds a problem.
func (d *decoder) want(n *Node, k Kind, path string) bool {
	if n.Kind == k {
		return true
	}
	switch {
	case k == String && (n.Kind == Number || n.Kind == Bool):
		d.add(n, path, `want text, got %s; write "%s" with quotes`, n.Kind, n.Text)
	case n.Kind == String && (k == Number || k == Bool):
		d.add(n, path, "want %s, got the text %s", k, strconv.Quote(clip(n.Text)))
	case k == List && n.Kind == String:
		d.add(n, path, "want a list, got text; write [%s]", strconv.Quote(clip(n.Text)))
	default:
		d.add(n, path, "want %s, got %s", k, n.Kind)
	}
	return false
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

func (d *decoder) value(n *Node, v reflect.Value, path string) {
	if n.Kind == Null {
		return
	}
	switch u := v.Addr().Interface().(type) {
	case json.Unmarshaler:
		if err := u.UnmarshalJSON(n.AppendJSON(nil)); err != nil {
			d.add(n, path, "%s", err)
		}
		return
	case encoding.TextUnmarshaler:
		if d.want(n, String, path) {
			if err := u.UnmarshalText([]byte(n.Text)); err != nil {
				d.add(n, path, "%s", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		if d.want(n, List, path) {
			v.Set(reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items)))
			for i, x := range n.Items {
				d.value(x, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
		}
	case reflect.Map:
		if d.want(n, Map, path) {
			v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Fields)))
			for i := range n.Fields {
				f := &n.Fields[i]
				x := reflect.New(v.Type().Elem()).Elem()
				d.value(f.Value, x, Join(path, f.Name))
				v.SetMapIndex(reflect.ValueOf(f.Name).Convert(v.Type().Key()), x)
			}
		}
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) scalar(n *Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if d.want(n, String, path) {
			v.SetString(n.Text)
		}
	case reflect.Bool:
		if d.want(n, Bool, path) {
			v.SetBool(n.Text == "true")
		}
	case reflect.Int, reflect.Int64:
		if d.want(n, Number, path) {
			i, err := strconv.ParseInt(n.Text, 10, v.Type().Bits())
			if err != nil {
				d.add(n, path, "want a whole number, got %s", clip(n.Text))
				return
			}
			v.SetInt(i)
		}
	case reflect.Float64:
		if d.want(n, Number, path) {
			f, err := strconv.ParseFloat(n.Text, 64)
			if err != nil {
				d.add(n, path, "want a number, got %s", clip(n.Text))
				return
			}
			v.SetFloat(f)
		}
	default:
		panic("tree: a field of type " + v.Type().String() + " cannot be read")
	}
}

func (d *decoder) structure(n *Node, v reflect.Value, path string) {
	if !d.want(n, Map, path) {
		return
	}
	fields := Names(v.Type())
	for i := range n.Fields {
		f := &n.Fields[i]
		at := -1
		for j, name := range fields {
			if name == f.Name {
				at = j
			}
		}
		if at < 0 {
			d.problems = append(d.problems, Unknown(Join(path, f.Name), f, known(fields)))
			continue
		}
		if unit := v.Type().Field(at).Tag.Get("unit"); unit != "" && f.Value.Kind == Number {
			d.add(f.Value, Join(path, f.Name), "want a length of time, got a number; write it with its unit, such as %s%s", clip(f.Value.Text), unit)
			continue
		}
		d.value(f.Value, v.Field(at), Join(path, f.Name))
	}
}

// Unknown is the Problem of a field that is not among those known.
func Unknown(path string, f *Field, known []string) *Problem {
	return &Problem{
		Field: path, Line: f.Line, Column: f.Column,
		Msg: "unknown field" + near.Hint(f.Name, known),
	}
}

// Names returns the names under which the fields of the struct type t are
// written, by index; fields that are not written have an empty name.
func Names(t reflect.Type) []string {
	out := make([]string, t.NumField())
	for i := range out {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" && t.Field(i).IsExported() {
			out[i] = name
		}
	}
	return out
}

func known(names []string) []string {
	var out []string
	for _, n := range names {
		if n != "" {
			out = append(out, n)
		}
	}
	return out
}
