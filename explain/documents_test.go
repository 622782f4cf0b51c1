// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern.dev/postern/explain"
	"postern.dev/postern/manifest"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
)

// documents are resources as JSON, changed without any help of the product's.
type documents map[model.Ref]map[string]any

func (d documents) read(t testing.TB, file string, data []byte) {
	t.Helper()
	if len(data) == 0 {
		return
	}
	objects, err := manifest.Decode(file, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		d.put(t, o)
	}
}

func (d documents) put(t testing.TB, o model.Object) {
	t.Helper()
	text, err := model.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	d[model.RefOf(o)] = doc
}

// deploy does what postern deploy does.
func (d documents) deploy(t testing.TB, api, stage string) {
	t.Helper()
	a := d[model.Ref{Kind: model.KindAPI, Name: api}]
	if a == nil {
		t.Fatalf("there is no API/%s to deploy", api)
	}
	n := 1
	for d[model.Ref{Kind: model.KindDeployment, Name: api + "." + strconv.Itoa(n)}] != nil {
		n++
	}
	d[model.Ref{Kind: model.KindDeployment, Name: api + "." + strconv.Itoa(n)}] = map[string]any{
		"apiVersion": model.Version, "kind": "Deployment",
		"metadata": map[string]any{"name": api + "." + strconv.Itoa(n)},
		"spec":     map[string]any{"api": api, "number": n, "spec": clone(t, a["spec"])},
	}
	ref := model.Ref{Kind: model.KindStage, Name: api + "." + stage}
	if d[ref] == nil {
		d[ref] = map[string]any{
			"apiVersion": model.Version, "kind": "Stage", "metadata": map[string]any{"name": ref.Name}, "spec": map[string]any{},
		}
	}
	if spec := d[ref]["spec"].(map[string]any); spec["deployment"] != "latest" && spec["autoDeploy"] != true {
		spec["deployment"] = n
	}
}

func clone(t testing.TB, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// world compiles documents as a server with this state would see them.
func (d documents) world(t testing.TB, server bool, down map[string]bool) *explain.World {
	t.Helper()
	var change model.Change
	for _, doc := range d {
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		o, err := model.Decode(text)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		change.Puts = append(change.Puts, o)
	}
	empty, err := explain.Manifests(nil, "", now)
	if err != nil {
		t.Fatal(err)
	}
	w, err := empty.Try(change)
	if err != nil {
		t.Fatalf("%s: %v", t.Name(), err)
	}
	if server {
		w = asServer(w)
	}
	if len(down) > 0 {
		w.LinkUp = func(l *snapshot.Link) bool { return !down[l.Name] }
	}
	return w
}

// patch applies one operation of RFC 6902 to a document.
func patch(doc any, op, path string, value any) (any, error) {
	if path == "" {
		if op != "add" || doc != nil {
			return nil, fmt.Errorf("%s of a whole document that is there", op)
		}
		return value, nil
	}
	head, rest, more := strings.Cut(path[1:], "/")
	key := strings.ReplaceAll(strings.ReplaceAll(head, "~1", "/"), "~0", "~")
	switch at := doc.(type) {
	case map[string]any:
		old, there := at[key]
		switch {
		case more && !there:
			return nil, fmt.Errorf("%s %s: there is no %q", op, path, key)
		case more:
			v, err := patch(old, op, "/"+rest, value)
			if err != nil {
				return nil, err
			}
			at[key] = v
		case op == "add", op == "replace" && there:
			at[key] = value
		case op == "remove" && there:
			delete(at, key)
		default:
			return nil, fmt.Errorf("%s %s: there is no such member", op, path)
		}
		return at, nil
	case []any:
		if key == "-" && op == "add" && !more {
			return append(at, value), nil
		}
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i > len(at) || i == len(at) && (more || op != "add") {
			return nil, fmt.Errorf("%s %s: there is no element %q", op, path, key)
		}
		switch {
		case more:
			v, err := patch(at[i], op, "/"+rest, value)
			if err != nil {
				return nil, err
			}
			at[i] = v
		case op == "add":
			return slices.Insert(at, i, value), nil
		case op == "remove":
			return slices.Delete(at, i, i+1), nil
		default:
			at[i] = value
		}
		return at, nil
	}
	return nil, fmt.Errorf("%s %s: nothing can be below %T", op, path, doc)
}
