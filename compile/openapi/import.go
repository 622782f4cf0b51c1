// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi compiles an OpenAPI document (2.0, 3.0, 3.1) with the
// extensions of API gateways into a table of operations.
//
// It reads documents itself. A general OpenAPI library resolves, converts and
// checks every schema, which takes milliseconds a document; compiling looks at
// paths and extensions only and has to do so for thousands of APIs within a
// second or two. Whether a document is valid OpenAPI is asked once, when it is
// submitted, of the library behind compile/openapi/validate.
package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/snapshot/operation"
)

// The limits of a document where Options name none.
const (
	DefaultMaxBytes     = 6 << 20
	DefaultMaxResources = 300
)

// Options is what an API says beside its document.
type Options struct {
	// Backend is spec.backend: a Backend's name, or an http or https URL.
	Backend string
	// KeyRequired is spec.keyRequired.
	KeyRequired bool
	// MaxBytes and MaxResources bound the document; 0 takes the default.
	MaxBytes, MaxResources int
}

// Document is what came of a document.
type Document struct {
	Table *operation.Table
	// Policy is the resource policy within the document, if there is one. It
	// counts where the API has no spec.policy.
	Policy json.RawMessage
	// Endpoints are the ids of Endpoints that the document lists.
	Endpoints []string
	// Findings lists what was read and has no effect.
	Findings []Finding
}

// Finding is something in a document that has no effect, or not the one that
// its author may expect.
type Finding struct {
	Path    string // as spec.openapi.paths./pets.get
	Message string
}

// field is where documents stand in an API.
const field = "spec.openapi"

// Import compiles doc: spec.openapi of an API, which is a document as a JSON
// object, or a JSON string that holds a document or names an example; or a
// document in YAML. The error is a model.Errors with everything that is wrong.
func Import(doc []byte, o Options) (*Document, error) {
	limit := o.MaxBytes
	if limit <= 0 {
		limit = DefaultMaxBytes
	}
	if len(doc) > limit {
		return nil, invalid(field, "the document has %d bytes; %d are the most", len(doc), limit)
	}
	root, err := read(doc)
	if err != nil {
		return nil, invalid(field, "%v", err)
	}
	if root.kind() != object {
		return nil, invalid(field, "an OpenAPI document is an object, not %s", root.kind())
	}
	im := importer{o: o, root: root, out: &Document{Table: &operation.Table{KeySource: "HEADER"}}}
	im.document()
	if len(im.errs) > 0 {
		return nil, im.errs
	}
	return im.out, nil
}

// read finds out which form doc has and parses it.
func read(doc []byte) (value, error) {
	doc = bytes.TrimSpace(doc)
	if len(doc) > 0 && doc[0] == '"' {
		v, err := parseJSON(string(doc))
		if err != nil {
			return value{}, err
		}
		name := strings.TrimSpace(v.text())
		if strings.HasPrefix(name, "example:") {
			if name != Petstore {
				return value{}, fmt.Errorf("there is no %s; the example is %s", name, Petstore)
			}
			return petstoreTree()
		}
		doc = []byte(name)
	}
	switch {
	case len(doc) == 0:
		return value{}, fmt.Errorf("no document; write one, or %s", Petstore)
	case doc[0] == '{':
		return parseJSON(string(doc))
	}
	return parseYAML(doc)
}

func invalid(path, format string, args ...any) model.Errors {
	return model.Errors{{Kind: model.Invalid, Field: path, Msg: fmt.Sprintf(format, args...)}}
}

// importer is one import under way.
type importer struct {
	o    Options
	root value
	out  *Document
	errs model.Errors
	// base is where operations without integration go.
	base string
	// passed is the integration that passes requests on to passedTo: most
	// operations of a document share one.
	passedTo string
	passed   operation.Integration
	// keys and authorizers name the security schemes of these kinds.
	keys, authorizers map[string]bool
}

func (im *importer) errorf(path, format string, args ...any) {
	im.errs = append(im.errs, invalid(path, format, args...)...)
}

func (im *importer) note(path, format string, args ...any) {
	im.out.Findings = append(im.out.Findings, Finding{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (im *importer) document() {
	version := im.root.get("openapi").text()
	switch two := im.root.get("swagger").text(); {
	case two == "2.0" || two == "2":
	case strings.HasPrefix(version, "3.0") || strings.HasPrefix(version, "3.1"):
	default:
		im.errorf(field, "openapi (3.0, 3.1) or swagger (2.0) must say which version the document has")
		return
	}
	im.out.Table.Title = im.root.get("info").get("title").str()
	im.base = im.server(im.root)
	if im.base == "" {
		im.base = im.hostServer()
	}
	im.schemes()
	im.extensions()
	im.paths()
	if len(im.errs) > 0 {
		return
	}
	if err := im.out.Table.Build(); err != nil {
		for _, e := range strings.Split(err.Error(), "\n") {
			path, msg, _ := strings.Cut(e, ": ")
			im.errorf(field+"."+path, "%s", msg)
		}
	}
}

// server returns the URL of servers[0] of v, or nothing if that is no place to
// send a request to.
func (im *importer) server(v value) string {
	s := v.get("servers").first()
	url := s.get("url").str()
	for x := s.get("variables").first(); x.ok(); x = x.next() {
		url = strings.ReplaceAll(url, "{"+x.key()+"}", x.get("default").text())
	}
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		return ""
	}
	return strings.TrimRight(url, "/")
}

// hostServer is what host, basePath and schemes of a 2.0 document say.
func (im *importer) hostServer() string {
	host := im.root.get("host").text()
	if host == "" {
		return ""
	}
	scheme := "https"
	for s := im.root.get("schemes").first(); s.ok(); s = s.next() {
		if t := s.text(); t == "http" || t == "https" {
			scheme = t
			break
		}
	}
	return scheme + "://" + host + strings.TrimRight(im.root.get("basePath").text(), "/")
}

// schemes sorts the security schemes.
func (im *importer) schemes() {
	all := im.root.get("components").get("securitySchemes")
	if !all.ok() {
		all = im.root.get("securityDefinitions")
	}
	im.keys, im.authorizers = map[string]bool{}, map[string]bool{}
	for s := all.first(); s.ok(); s = s.next() {
		scheme := im.deref(s, field+".components.securitySchemes."+s.key())
		switch {
		case scheme.get("x-amazon-apigateway-authorizer").ok() || scheme.get("x-amazon-apigateway-authtype").ok():
			im.authorizers[s.key()] = true
		case scheme.get("type").text() == "apiKey" && strings.EqualFold(scheme.get("name").text(), "x-api-key"):
			im.keys[s.key()] = true
		}
	}
	if im.root.get("security").first().ok() {
		im.note(field+".security", "security at the top of the document has no effect; it is read at each operation")
	}
}

// deref follows references within the document.
func (im *importer) deref(v value, path string) value {
	const hops = 16
	for range hops {
		ref := v.get("$ref")
		if !ref.ok() {
			return v
		}
		pointer, ok := strings.CutPrefix(ref.text(), "#/")
		if !ok {
			im.errorf(path, "$ref %q leads out of the document; only references that begin with #/ are followed", ref.text())
			return value{}
		}
		v = im.root
		for part := range strings.SplitSeq(pointer, "/") {
			part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
			v = v.get(part)
		}
		if !v.ok() {
			im.errorf(path, "$ref %q leads nowhere", ref.text())
			return value{}
		}
	}
	im.errorf(path, "$ref goes in a circle")
	return value{}
}

// JSON returns the document in doc, which has any of the forms that Import
// takes, as JSON.
func JSON(doc []byte) ([]byte, error) {
	v, err := read(doc)
	if err != nil {
		return nil, err
	}
	return v.appendJSON(nil), nil
}
