// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/snapshot/operation"
)

// postern is what the names of our own extensions begin with.
const postern = "x-postern-"

// The bounds of an integration's time-out.
const (
	minTimeout = 50 * time.Millisecond
	maxTimeout = 5 * time.Minute
)

// passOn is the integration of an operation that has none: the request goes to
// a Backend or URL as it is, path included.
func (im *importer) passOn(to, path string) operation.Integration {
	if to == im.passedTo {
		return im.passed
	}
	in := operation.Integration{Kind: operation.HTTPProxy, AppendPath: true}
	if strings.Contains(to, "://") {
		im.uri(&in, strings.TrimRight(to, "/"), path)
	} else {
		in.Backend = to
	}
	im.passedTo, im.passed = to, in
	return in
}

// uri reads where an integration leads.
func (im *importer) uri(in *operation.Integration, uri, path string) {
	rest := uri
	if name, ok := strings.CutPrefix(uri, "backend://"); ok {
		in.Backend, rest, _ = strings.Cut(name, "/")
		if in.Backend = strings.Clone(in.Backend); in.Backend == "" {
			im.errorf(path, "%q names no Backend; write backend://NAME/path", uri)
			return
		}
		if rest != "" {
			rest = "/" + rest
		}
	} else if !strings.HasPrefix(uri, "http://") && !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "${stageVariables.") {
		im.errorf(path, "%q: a backend is http://, https:// or backend://NAME/", uri)
		return
	}
	t, err := parseURI(rest)
	if err != nil {
		im.errorf(path, "%v", err)
		return
	}
	if in.Backend == "" && !hostFirst(t.Pieces) {
		im.errorf(path, "%q: a parameter cannot name the host; callers would choose where the gateway goes", uri)
		return
	}
	if s, constant := t.Constant(); constant && in.Backend == "" {
		if u, err := url.Parse(s); err != nil || u.Host == "" {
			im.errorf(path, "%q is no URL of a backend", uri)
			return
		}
	}
	in.URI = t
}

// hostFirst reports whether a URI's host is complete before its first parameter.
func hostFirst(ps []operation.Piece) bool {
	before := ""
	for _, p := range ps {
		switch p.Kind {
		case operation.PieceParam:
			_, rest, ok := strings.Cut(before, "://")
			if !ok {
				rest = before // a Stage variable holds the scheme
			}
			return strings.Contains(rest, "/")
		case operation.PieceText:
			before += p.Value
		default:
			before += "x"
		}
	}
	return true
}

func (im *importer) integration(v value, at string) operation.Integration {
	in := operation.Integration{}
	if v.kind() != object {
		if v.ok() {
			im.errorf(at, "an integration is an object, not %s", v.kind())
		}
		return in
	}
	kind := strings.ToUpper(v.get("type").text())
	switch kind {
	case "HTTP":
		in.Kind = operation.HTTP
	case "HTTP_PROXY":
		in.Kind = operation.HTTPProxy
	case "MOCK":
		in.Kind = operation.Mock
	case "PETSTORE":
		in.Kind = operation.Petstore
	case "AWS", "AWS_PROXY":
		im.note(at+".type", "%s calls services of a cloud, which are not there: the operation answers 500", kind)
		return in
	default:
		im.errorf(at+".type", "%q is no integration; HTTP, HTTP_PROXY and MOCK are", v.get("type").text())
		return in
	}
	for m := v.first(); m.ok(); m = m.next() {
		if k := m.key(); k != "type" && k != "cacheNamespace" && k != "$ref" {
			im.part(&in, m, at+"."+k)
		}
	}
	if (in.Kind == operation.HTTP || in.Kind == operation.HTTPProxy) && !v.get("uri").ok() {
		if im.o.Backend == "" {
			im.errorf(at+".uri", "the integration leads nowhere; write a uri or spec.backend")
			return in
		}
		to := im.passOn(im.o.Backend, "spec.backend")
		in.Backend, in.URI, in.AppendPath = to.Backend, to.URI, true
	}
	return in
}

// part reads one member of an integration.
func (im *importer) part(in *operation.Integration, m value, at string) {
	switch m.key() {
	case "uri":
		if in.Kind == operation.HTTP || in.Kind == operation.HTTPProxy {
			im.uri(in, m.text(), at)
		}
	case "httpMethod":
		if s := m.str(); s != "" && s != operation.Any {
			in.Method = s
		}
		if strings.ContainsFunc(in.Method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			im.errorf(at, "%q is no method", in.Method)
		}
	case "timeoutInMillis":
		n, err := strconv.Atoi(m.text())
		in.Timeout = time.Duration(n) * time.Millisecond
		if err != nil || in.Timeout < minTimeout || in.Timeout > maxTimeout {
			im.errorf(at, "%q: a time-out is from %d to %d milliseconds", m.text(), minTimeout.Milliseconds(), maxTimeout.Milliseconds())
		}
	case "passthroughBehavior":
		im.passthrough(in, m, at)
	case "requestParameters":
		in.Request = im.mappings(m, at, "integration.request.", requestSource)
	case "requestTemplates":
		in.RequestTemplates = im.templates(m, at)
	case "responses":
		im.responses(in, m, at)
	case "tlsConfig":
		in.Insecure = m.get("insecureSkipVerification").text() == "true"
	case "connectionType":
		if m.text() != "INTERNET" {
			im.note(at, "the backend is dialled like any other; a Backend with a network is dialled from inside it")
		}
	default:
		im.note(at, "has no effect")
	}
}

func (im *importer) passthrough(in *operation.Integration, m value, at string) {
	switch strings.ToUpper(m.text()) {
	case "WHEN_NO_MATCH":
		in.Passthrough = operation.WhenNoMatch
	case "WHEN_NO_TEMPLATES":
		in.Passthrough = operation.WhenNoTemplates
	case "NEVER":
		in.Passthrough = operation.Never
	default:
		im.errorf(at, "%q: WHEN_NO_MATCH, WHEN_NO_TEMPLATES or NEVER", m.text())
	}
}

// templates reads templates by media type.
func (im *importer) templates(v value, at string) []operation.MediaTemplate {
	var out []operation.MediaTemplate
	for m := v.first(); m.ok(); m = m.next() {
		t, err := parseTemplate(m.text())
		if err != nil {
			im.errorf(at+"."+m.key(), "%v", err)
			continue
		}
		media, _, _ := strings.Cut(m.key(), ";")
		out = append(out, operation.MediaTemplate{Type: strings.ToLower(strings.TrimSpace(media)), Template: t})
	}
	return out
}

// responses reads what selects and maps the answers of a backend.
func (im *importer) responses(in *operation.Integration, v value, at string) {
	for m := v.first(); m.ok(); m = m.next() {
		path := at + "." + m.key()
		r := operation.Response{Select: strings.Clone(m.key())}
		status, err := strconv.Atoi(m.get("statusCode").text())
		if err != nil || status < 100 || status > 599 {
			im.errorf(path+".statusCode", "%q is no status", m.get("statusCode").text())
		}
		r.Status = status
		r.Headers = im.mappings(m.get("responseParameters"), path+".responseParameters", "method.response.", responseSource)
		r.Templates = im.templates(m.get("responseTemplates"), path+".responseTemplates")
		if m.get("contentHandling").ok() {
			im.note(path+".contentHandling", "bodies are not converted")
		}
		if r.Select == "default" {
			in.Default = &r
			continue
		}
		if _, err := strconv.Atoi(r.Select); err != nil {
			if r.Pattern, err = regexp.Compile("^(?:" + r.Select + ")$"); err != nil {
				im.errorf(path, "not a regular expression: %v", err)
			}
		}
		in.Responses = append(in.Responses, r)
	}
}

// mappings reads parameter mappings, whose targets begin with prefix.
func (im *importer) mappings(v value, at, prefix string, source func(string) (operation.Place, string, error)) []operation.Mapping {
	var out []operation.Mapping
	for m := v.first(); m.ok(); m = m.next() {
		path := at + "." + m.key()
		target, ok := strings.CutPrefix(m.key(), prefix)
		kind, name, dotted := strings.Cut(target, ".")
		to, known := targets[kind]
		if !ok || !known || !dotted || !isName(name) || prefix != "integration.request." && to != operation.PlaceHeader {
			im.errorf(path, "nothing can be set by that name")
			continue
		}
		from, what, err := source(m.str())
		if err != nil {
			im.errorf(path, "%v", err)
			continue
		}
		out = append(out, operation.Mapping{To: to, Name: strings.Clone(name), From: from, Source: what})
	}
	slices.SortStableFunc(out, func(a, b operation.Mapping) int {
		return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// The places that mappings write and read, by the words for them.
var (
	targets = map[string]operation.Place{
		"path": operation.PlacePath, "querystring": operation.PlaceQuery, "header": operation.PlaceHeader,
	}
	requestPlaces = map[string]operation.Place{
		"path": operation.PlacePath, "querystring": operation.PlaceQuery, "multivaluequerystring": operation.PlaceMultiQuery,
		"header": operation.PlaceHeader, "multivalueheader": operation.PlaceMultiHeader,
	}
	responsePlaces = map[string]operation.Place{
		"header": operation.PlaceHeader, "multivalueheader": operation.PlaceMultiHeader,
	}
)

// isName reports whether s can name a parameter.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !nameByte(c) && c != '.' && c != '$' && c != '-' {
			return false
		}
	}
	return s != ""
}

// requestSource reads where a value of a request comes from.
func requestSource(s string) (operation.Place, string, error) {
	return from(s, "method.request.", requestPlaces)
}

// responseSource reads where a value of a response comes from.
func responseSource(s string) (operation.Place, string, error) {
	return from(s, "integration.response.", responsePlaces)
}

func from(s, prefix string, places map[string]operation.Place) (operation.Place, string, error) {
	if len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'' {
		if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return 0, "", fmt.Errorf("%q: a control character cannot be sent", s)
		}
		return operation.PlaceStatic, s[1 : len(s)-1], nil
	}
	if name, ok := strings.CutPrefix(s, "stageVariables."); ok && name != "" {
		return operation.PlaceStageVariable, name, nil
	}
	if name, ok := strings.CutPrefix(s, "context."); ok && name != "" {
		return operation.PlaceContext, name, nil
	}
	if rest, ok := strings.CutPrefix(s, prefix); ok {
		if rest == "body" {
			return operation.PlaceBody, "$", nil
		}
		if path, ok := strings.CutPrefix(rest, "body."); ok {
			return operation.PlaceBody, "$." + path, nil
		}
		kind, name, _ := strings.Cut(rest, ".")
		if p, ok := places[kind]; ok && isName(name) {
			return p, name, nil
		}
	}
	return 0, "", fmt.Errorf("%q is no source of a value; 'text', %s..., stageVariables.x and context.x are", s, prefix)
}
