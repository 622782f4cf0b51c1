// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

type object = map[string]any

// document is the OpenAPI 3.1 document of the routes. It is made of the same
// table as the handlers, so it cannot tell of another API.
func document(rs []route) ([]byte, error) {
	d := &describer{schemas: object{}, types: map[string]reflect.Type{}}
	paths := map[string]object{}
	add := func(rt route, at, id string, k model.Kind) {
		p := paths[at]
		if p == nil {
			p = object{}
			paths[at] = p
		}
		p[strings.ToLower(rt.method)] = d.operation(rt, at, id, k)
	}
	for _, rt := range rs {
		if !rt.perKind {
			add(rt, rt.path, rt.id, "")
			continue
		}
		for _, k := range model.Kinds {
			add(rt, strings.Replace(rt.path, "{kind}", k.Plural(), 1), rt.id+string(k), k)
		}
	}
	d.schema(reflect.TypeFor[wire.Problem]())
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Postern management API", "version": "v1",
			"description": "Resources, questions and tokens. Every refusal is a problem (RFC 9457).",
		},
		"servers":  []object{{"url": "/"}},
		"security": []object{{"token": []string{}}},
		"paths":    paths,
		"components": object{
			"schemas": d.schemas,
			"securitySchemes": object{
				"token": object{"type": "http", "scheme": "bearer", "bearerFormat": "postern_..."},
			},
			"responses": object{
				"Problem": object{
					"description": "The call was refused, and why.",
					"content":     object{wire.ProblemType: object{"schema": ref("Problem")}},
				},
			},
		},
	}, "", "  ")
}

// describer collects schemas by type name.
type describer struct {
	schemas object
	types   map[string]reflect.Type
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func (d *describer) operation(rt route, at, id string, k model.Kind) object {
	status := "200"
	switch {
	case rt.answer == nil:
		status = "204"
	case rt.id == "create" || rt.id == "createToken" || rt.id == "createKey" || rt.id == "deploy":
		status = "201"
	}
	ok := object{"description": "Done."}
	if rt.answer != nil {
		media, _, _ := strings.Cut(cmp.Or(rt.media, "application/json"), ";")
		ok["content"] = object{media: object{"schema": d.of(rt.answer, k)}}
	}
	responses := object{status: ok, "default": object{"$ref": "#/components/responses/Problem"}}
	if rt.id == "put" {
		responses["201"] = ok
	}
	op := object{"operationId": id, "summary": rt.summary, "responses": responses}
	if rt.operation == "" && !rt.writing {
		op["security"] = []object{}
	}
	if ps := parameters(rt, at); len(ps) > 0 {
		op["parameters"] = ps
	}
	if rt.body != nil {
		op["requestBody"] = object{"content": object{"application/json": object{"schema": d.of(rt.body, k)}}}
	}
	return op
}

func parameters(rt route, at string) []object {
	var out []object
	for part := range strings.SplitSeq(at, "/") {
		if strings.HasPrefix(part, "{") {
			out = append(out, object{"name": strings.Trim(part, "{}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, q := range rt.query {
		out = append(out, object{"name": q.name, "in": "query", "description": q.about, "schema": object{"type": q.schema}})
	}
	if rt.writes {
		for _, h := range []parameter{
			{name: "If-Match", about: "Refuse unless this is the revision, as an entity tag."},
			{name: "If-None-Match", about: "* refuses if the resource exists."},
		} {
			out = append(out, object{"name": h.name, "in": "header", "description": h.about, "schema": object{"type": "string"}})
		}
	}
	return out
}

// of is the schema of a value; resources of one kind have that kind's spec.
func (d *describer) of(v any, k model.Kind) object {
	t := reflect.TypeOf(v)
	if k == "" {
		return d.schema(t)
	}
	switch v.(type) {
	case wire.Resource:
		return d.resource(k)
	case wire.List:
		name := string(k) + "List"
		d.schemas[name] = object{
			"type": "object", "required": []string{"revision", "items"},
			"properties": object{
				"revision": object{"type": "integer"},
				"items":    object{"type": "array", "items": d.resource(k)},
				"continue": object{"type": "string"},
			},
		}
		return ref(name)
	}
	return d.schema(t)
}

func (d *describer) resource(k model.Kind) object {
	if _, done := d.schemas[string(k)]; !done {
		spec, _ := reflect.TypeOf(model.New(k)).Elem().FieldByName("Spec")
		d.schemas[string(k)] = object{
			"type": "object", "required": []string{"apiVersion", "kind", "metadata", "spec"},
			"properties": object{
				"apiVersion": object{"const": model.Version},
				"kind":       object{"const": string(k)},
				"metadata":   d.schema(reflect.TypeFor[model.Metadata]()),
				"spec":       d.schema(spec.Type),
				"status":     d.schema(reflect.TypeFor[model.Status]()),
				"revision":   object{"type": "integer", "readOnly": true},
			},
		}
	}
	return ref(string(k))
}

// schema is the schema of a Go type as encoding/json writes it.
func (d *describer) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[model.Secret]():
		return object{"type": "string", "writeOnly": true}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Interface:
		return object{}
	case reflect.Struct:
		return d.structure(t)
	}
	panic(fmt.Sprintf("control: %s has no schema", t))
}

func (d *describer) structure(t reflect.Type) object {
	name := t.Name()
	if other, ok := d.types[name]; ok && other != t {
		// Such as answer.Rule and model.Rule: the second goes by its package too.
		name = path.Base(t.PkgPath()) + name
	}
	if d.types[name] == t {
		return ref(name)
	}
	d.types[name] = t
	props := object{}
	required := []string{}
	d.schemas[name] = object{} // a type may hold itself
	d.fields(t, props, &required)
	s := object{"type": "object", "properties": props}
	if len(required) > 0 {
		s["required"] = required
	}
	d.schemas[name] = s
	return ref(name)
}

func (d *describer) fields(t reflect.Type, props object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			d.fields(f.Type, props, required)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		props[name] = d.schema(f.Type)
		if !slices.Contains([]string{"omitempty", "omitzero"}, opts) {
			*required = append(*required, name)
		}
	}
}
