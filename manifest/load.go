// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/model/tree"
)

const (
	// MaxFile bounds one file.
	MaxFile = 16 << 20
	// MaxResources bounds what one call reads.
	MaxResources = 100_000
	// maxErrors bounds what is reported: beyond it nobody reads on.
	maxErrors = 1000
)

// Load reads the resources in the files named by paths: a file, a folder (the
// .yaml, .yml and .json files directly in it, but for those that another one
// includes by $file), or - for stdin. The error is model.Errors, all that is
// wrong in all files, sorted by position.
func Load(stdin io.Reader, paths ...string) ([]model.Object, error) {
	var objects []model.Object
	var errs model.Errors
	for _, p := range paths {
		o, e := loadPath(stdin, p)
		objects = append(objects, o...)
		errs = append(errs, e...)
	}
	return finish(objects, errs)
}

// Decode reads the resources in data, whose file is named in errors; PATH of
// {$file: PATH} is relative to that file's folder.
func Decode(file string, data []byte) ([]model.Object, error) {
	in := &includes{folder: filepath.Dir(file)}
	defer in.close()
	objects, errs := decode(file, data, in)
	return finish(objects, errs)
}

// finish judges what was read together.
func finish(objects []model.Object, errs model.Errors) ([]model.Object, error) {
	seen := map[model.Ref]model.Position{}
	for _, o := range objects {
		r := model.RefOf(o)
		if r.Name == "" {
			continue
		}
		if at, ok := seen[r]; ok {
			errs = append(errs, &model.Error{
				Kind: model.Invalid, Ref: r, Field: "metadata.name", Position: o.Base().Locate("metadata.name"),
				Msg: fmt.Sprintf("stands twice, first at %s; keep one", at),
			})
			continue
		}
		seen[r] = o.Base().Locate("metadata.name")
	}
	if len(objects) > MaxResources {
		errs = append(errs, &model.Error{Kind: model.Invalid, Msg: fmt.Sprintf("%d resources are too many for one call; at most %d are read", len(objects), MaxResources)})
	}
	if len(errs) == 0 {
		return objects, nil
	}
	errs.Sort()
	if n := len(errs); n > maxErrors {
		errs = append(errs[:maxErrors:maxErrors], &model.Error{Kind: model.Invalid, Msg: fmt.Sprintf("and %d more errors", n-maxErrors)})
	}
	return nil, errs
}

// Locate gives each error that names a resource, but no file, the place of its
// field in the manifest that the resource was read from: errors of a server
// know no files.
func Locate(errs model.Errors, objects []model.Object) model.Errors {
	by := make(map[model.Ref]model.Object, len(objects))
	for _, o := range objects {
		by[model.RefOf(o)] = o
	}
	out := make(model.Errors, len(errs))
	for i, e := range errs {
		x := *e
		if o := by[e.Ref]; o != nil && x.Position.File == "" {
			x.Position = o.Base().Locate(e.Field)
		}
		out[i] = &x
	}
	out.Sort()
	return out
}

func failed(file, format string, args ...any) model.Errors {
	return model.Errors{{Kind: model.Invalid, Position: model.Position{File: file}, Msg: fmt.Sprintf(format, args...)}}
}

func loadPath(stdin io.Reader, path string) ([]model.Object, model.Errors) {
	if path == "-" {
		data, err := readAll(stdin)
		if err != nil {
			return nil, failed("stdin", "cannot be read: %s", err)
		}
		in := &includes{folder: "."}
		defer in.close()
		return decode("stdin", data, in)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, failed(path, "cannot be read: %s", cause(err))
	}
	if !info.IsDir() {
		in := &includes{folder: filepath.Dir(path)}
		defer in.close()
		data, err := readFile(path)
		if err != nil {
			return nil, failed(path, "cannot be read: %s", cause(err))
		}
		return decode(path, data, in)
	}
	return loadFolder(path)
}

func loadFolder(path string) ([]model.Object, model.Errors) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, failed(path, "cannot be read: %s", cause(err))
	}
	in := &includes{folder: path}
	defer in.close()
	type result struct {
		name    string
		objects []model.Object
		errs    model.Errors
	}
	var results []result
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" && ext != ".json" {
			continue
		}
		file := filepath.Join(path, e.Name())
		data, err := readFile(file)
		if err != nil {
			results = append(results, result{e.Name(), nil, failed(file, "cannot be read: %s", cause(err))})
			continue
		}
		objects, errs := decode(file, data, in)
		results = append(results, result{e.Name(), objects, errs})
	}
	if len(results) == 0 {
		return nil, failed(path, "holds no .yaml, .yml or .json file")
	}
	var objects []model.Object
	var errs model.Errors
	for _, r := range results {
		if len(r.objects) == 0 && in.used[r.name] {
			continue // an OpenAPI document or a policy, included by another file
		}
		objects = append(objects, r.objects...)
		errs = append(errs, r.errs...)
	}
	return objects, errs
}

// cause drops the path from an error of the file system: it is said already.
func cause(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return p.Err
	}
	return err
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = fmt.Errorf("it is larger than %d MiB", MaxFile>>20)
	}
	return data, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// decode reads the documents of one file. Resources are returned even if there
// are errors.
func decode(file string, data []byte, in *includes) ([]model.Object, model.Errors) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	docs, problems := parse(file, data)
	var objects []model.Object
	var errs model.Errors
	add := func(problems []*tree.Problem) {
		for _, p := range problems {
			errs = append(errs, &model.Error{
				Kind: model.Invalid, Field: p.Field, Msg: p.Msg,
				Position: model.Position{File: file, Line: p.Line, Column: p.Column},
			})
		}
	}
	add(problems)
	if len(docs) == 0 && len(problems) == 0 && len(bytes.TrimSpace(data)) == 0 {
		errs = append(errs, failed(file, "is empty")...)
	}
	for _, d := range docs {
		d, problems := in.resolve(d)
		add(problems)
		list := []*tree.Node{d}
		if d.Kind == tree.List {
			list = d.Items
		}
		for _, n := range list {
			o, e := model.FromTree(ownStatus(n), file)
			errs = append(errs, e...)
			if o != nil {
				objects = append(objects, o)
			}
		}
	}
	slices.SortStableFunc(objects, func(a, b model.Object) int {
		return cmp.Compare(a.Base().Position.Line, b.Base().Position.Line)
	})
	return objects, errs
}

// parse reads JSON if that is what the file looks like, else YAML. What begins
// like JSON and is none may be a flow mapping of YAML.
func parse(file string, data []byte) ([]*tree.Node, []*tree.Problem) {
	isJSON := strings.EqualFold(filepath.Ext(file), ".json")
	text := bytes.TrimSpace(data)
	if isJSON || len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		docs, problems := tree.ParseJSON(data)
		if isJSON || len(problems) == 0 {
			return docs, problems
		}
	}
	return parseYAML(data)
}

// restored are the fields of a status that a backup brings back: what others
// may know a resource by, and what was granted or shut out.
var restored = []string{
	"id", "addresses", "publicAddress", "configurationAddress", "outboundAddress", "connection", "grantedRules", "grantedPorts",
}

// ownStatus drops the rest of a document's status: it is the server's, and may
// come from a newer one.
func ownStatus(n *tree.Node) *tree.Node {
	st := n.Get("status")
	if st == nil || st.Kind != tree.Map {
		return n
	}
	c := *n
	c.Fields = slices.Clone(n.Fields)
	for i := range c.Fields {
		if c.Fields[i].Name == "status" {
			s := *st
			s.Fields = slices.DeleteFunc(slices.Clone(st.Fields), func(f tree.Field) bool { return !slices.Contains(restored, f.Name) })
			c.Fields[i].Value = &s
		}
	}
	return &c
}
