// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/snapshot/operation"
)

// extension is what the names of the extensions begin with.
const extension = "x-amazon-apigateway-"

// methods are the keys of a path item that are operations.
var methods = map[string]string{
	"get": "GET", "put": "PUT", "post": "POST", "delete": "DELETE", "options": "OPTIONS",
	"head": "HEAD", "patch": "PATCH", "trace": "TRACE", extension + "any-method": operation.Any,
}

// elsewhere are extensions that are read where they are used.
var elsewhere = map[string]bool{
	extension + "importexport-version": true, extension + "documentation": true,
	extension + "request-validators": true, extension + "integrations": true,
}

// extensions reads those at the top of the document.
func (im *importer) extensions() {
	im.endpointConfiguration(im.root.get(extension+"endpoint-configuration"), field+"."+extension+"endpoint-configuration")
	im.endpointConfiguration(im.root.get("servers").first().get(extension+"endpoint-configuration"), field+".servers[0]."+extension+"endpoint-configuration")
	for m := im.root.first(); m.ok(); m = m.next() {
		if !strings.HasPrefix(m.key(), "x-") {
			continue
		}
		path := field + "." + m.key()
		switch m.key() {
		case extension + "policy":
			im.out.Policy = json.RawMessage(m.appendJSON(nil))
			if m.kind() == text {
				im.out.Policy = json.RawMessage(m.str())
			}
		case extension + "api-key-source":
			im.out.Table.KeySource = m.str()
			if m.text() != "HEADER" {
				im.note(path, "keys are read from the field x-api-key only")
			}
		case extension + "binary-media-types":
			for t := m.first(); t.ok(); t = t.next() {
				im.out.Table.BinaryTypes = append(im.out.Table.BinaryTypes, t.str())
			}
		case extension + "gateway-responses":
			im.gatewayResponses(m, path)
		case extension + "endpoint-configuration":
		case extension + "minimum-compression-size":
			im.note(path, "responses are not compressed")
		default:
			im.unknown(m, path)
		}
	}
}

func (im *importer) endpointConfiguration(c value, path string) {
	if !c.ok() {
		return
	}
	for id := c.get("vpcEndpointIds").first(); id.ok(); id = id.next() {
		im.out.Endpoints = append(im.out.Endpoints, id.str())
	}
	for m := c.first(); m.ok(); m = m.next() {
		switch m.key() {
		case "vpcEndpointIds":
			im.note(path+".vpcEndpointIds", "has no effect; list the Endpoints in spec.endpoints")
		case "types":
			im.note(path+".types", "has no effect; spec.type says what the API is")
		case "disableExecuteApiEndpoint":
			im.note(path+".disableExecuteApiEndpoint", "has no effect; write spec.disableExecuteApiEndpoint")
		default:
			im.note(path+"."+m.key(), "has no effect")
		}
	}
}

// unknown notes an extension that nothing reads.
func (im *importer) unknown(m value, path string) {
	if !elsewhere[m.key()] {
		im.note(path, "this extension has no effect")
	}
}

func (im *importer) paths() {
	limit := im.o.MaxResources
	if limit <= 0 {
		limit = DefaultMaxResources
	}
	n := 0
	for p := im.root.get("paths").first(); p.ok(); p = p.next() {
		at := field + ".paths." + p.key()
		if strings.HasPrefix(p.key(), "x-") {
			im.unknown(p, at)
			continue
		}
		if n++; n > limit {
			im.errorf(field+".paths", "more than %d paths", limit)
			return
		}
		im.path(p, at)
	}
	if n == 0 {
		im.note(field+".paths", "the document has no paths, so that the API answers nothing")
	}
	slices.SortStableFunc(im.out.Table.Operations, func(a, b operation.Operation) int {
		if a.Path == b.Path {
			return strings.Compare(a.Method, b.Method)
		}
		return 0 // paths stay in the order of the document
	})
}

func (im *importer) path(p value, at string) {
	template := strings.Clone(p.key())
	item := im.deref(p, at)
	if item.ok() && item.kind() != object {
		im.errorf(at, "a path holds an object of methods, not %s", item.kind())
		return
	}
	base := im.server(item)
	if base == "" {
		base = im.base
	}
	if asked := asAsked(template); strings.ContainsAny(template, "?#") {
		im.note(at, "a path has no query and no fragment: no request is ever for this one")
	} else if asked != template {
		im.note(at, "no request is ever for this path, as it is not spelled like those of requests are; write %s", asked)
	}
	for m := item.first(); m.ok(); m = m.next() {
		method, ok := methods[m.key()]
		if !ok {
			if strings.HasPrefix(m.key(), "x-") {
				im.unknown(m, at+"."+m.key())
			}
			continue
		}
		if m.kind() != object {
			im.errorf(at+"."+m.key(), "an operation is an object, not %s", m.kind())
			continue
		}
		im.operation(m, at+"."+m.key(), operation.Operation{Method: method, Path: template}, base)
	}
}

// asAsked spells a path as those of requests are when they are routed.
func asAsked(template string) string {
	unsent := func(c byte) bool { return c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`|[]", c) >= 0 }
	i := 0
	for i < len(template) && !unsent(template[i]) {
		i++
	}
	b := template[:i]
	for ; i < len(template); i++ {
		if c := template[i]; unsent(c) {
			b += fmt.Sprintf("%%%02X", c)
		} else {
			b += string(c)
		}
	}
	return request.Canonical(b)
}

func (im *importer) operation(m value, at string, o operation.Operation, base string) {
	o.ID = m.get("operationId").str()
	o.KeyRequired = im.o.KeyRequired
	if s := im.server(m); s != "" {
		base = s
	}
	var integration value
	where := ""
	for x := m.first(); x.ok(); x = x.next() {
		if !strings.HasPrefix(x.key(), "x-") && x.key() != "security" {
			continue // what the operation means to callers is not ours
		}
		path := at + "." + x.key()
		switch x.key() {
		case "security":
			im.security(x, path, &o)
		case extension + "integration", postern + "integration":
			if integration.ok() {
				im.errorf(path, "an operation has one integration")
			}
			integration, where = x, path
		case extension + "auth":
			if t := x.get("type").text(); t != "NONE" {
				im.errorf(path, "callers cannot be authenticated by %q; the operation would be open. Take it out, or protect the API by its policy", t)
			}
		case extension + "request-validator":
			im.note(path, "requests are not checked against their schemas")
		default:
			im.unknown(x, path)
		}
	}
	switch {
	case integration.ok():
		o.Integration = im.integration(im.deref(integration, where), where)
	case im.o.Backend != "":
		o.Integration = im.passOn(im.o.Backend, "spec.backend")
	case base != "":
		o.Integration = im.passOn(base, field+".servers[0].url")
	default:
		im.note(at, "no integration, no spec.backend and no server: the operation answers 500")
	}
	im.out.Table.Operations = append(im.out.Table.Operations, o)
}

// security reads the schemes that an operation asks for.
func (im *importer) security(list value, at string, o *operation.Operation) {
	for s := list.first(); s.ok(); s = s.next() {
		for scheme := s.first(); scheme.ok(); scheme = scheme.next() {
			switch name := scheme.key(); {
			case im.keys[name]:
				o.KeyRequired = true
			case im.authorizers[name]:
				im.errorf(at, "the authorizer %s cannot be asked; the operation would be open. Take it out, or protect the API by its policy", name)
			default:
				im.note(at, "%s is left to the backend to check", name)
			}
		}
	}
}
