// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"postern.dev/postern/snapshot/operation"
)

// value reads a part of the request.
func (j *Job) value(from operation.Place, name string) (string, bool, error) {
	e := j.Exchange
	switch from {
	case operation.PlaceStatic:
		return name, true, nil
	case operation.PlacePath:
		v, ok := j.Verdict.Route.Param(j.Verdict.Path, name)
		if d, err := url.PathUnescape(v); err == nil {
			v = d
		}
		return v, ok, nil
	case operation.PlaceQuery, operation.PlaceMultiQuery:
		v, ok := query(e.Request.RawQuery, name, from == operation.PlaceMultiQuery)
		return v, ok, nil
	case operation.PlaceHeader:
		v, ok := "", false
		for x := range e.Request.Header.Values(name) {
			v, ok = x, true // the last one counts
		}
		return v, ok, nil
	case operation.PlaceMultiHeader:
		var all []string
		for x := range e.Request.Header.Values(name) {
			all = append(all, x)
		}
		return strings.Join(all, ","), len(all) > 0, nil
	case operation.PlaceBody:
		b, err := j.incoming()
		if err != nil {
			return "", false, err
		}
		e.Request.Body, e.Request.Length = bytes.NewReader(b), int64(len(b))
		return lookupJSON(b, name)
	case operation.PlaceStageVariable:
		v, ok := j.Verdict.Stage.Variables[name]
		return v, ok, nil
	case operation.PlaceContext:
		v := j.Verdict.Context(j.Arrival, name)
		return v, v != "", nil
	}
	return "", false, fmt.Errorf("nothing is read from place %d", from)
}

// query finds the last value of a parameter, or all of them with commas.
func query(raw, name string, every bool) (string, bool) {
	var all []string
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		k, v, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(k); err != nil || k != name {
			continue
		}
		if d, err := url.QueryUnescape(v); err == nil {
			v = d
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return "", false
	}
	if every {
		return strings.Join(all, ","), true
	}
	return all[len(all)-1], true
}

// render fills a template. body is the backend's; nil is the request's. A
// template may name a body many times: what comes of it is bounded like a body.
func (j *Job) render(out []byte, t *operation.Template, body []byte) ([]byte, error) {
	outgoing := body != nil
	for i := range t.Pieces {
		if len(out) > maxBody {
			return nil, errTooLarge
		}
		p := &t.Pieces[i]
		switch p.Kind {
		case operation.PieceText:
			out = append(out, p.Value...)
		case operation.PieceContext:
			out = append(out, j.Verdict.Context(j.Arrival, p.Value)...)
		case operation.PieceStageVariable:
			out = append(out, j.Verdict.Stage.Variables[p.Value]...)
		case operation.PieceParam:
			out = append(out, j.param(p.Value)...)
		case operation.PieceBody, operation.PieceJSON:
			if !outgoing {
				var err error
				if body, err = j.incoming(); err != nil {
					return nil, err
				}
			}
			if p.Kind == operation.PieceBody {
				out = append(out, body...)
				continue
			}
			v, err := selectJSON(body, p.Value)
			if err != nil {
				return nil, err
			}
			out = append(out, v...)
		}
	}
	if len(out) > maxBody {
		return nil, errTooLarge
	}
	return out, nil
}

// param finds a parameter by name: in the path, the query, then the header.
func (j *Job) param(name string) string {
	for _, from := range [...]operation.Place{operation.PlacePath, operation.PlaceQuery, operation.PlaceHeader} {
		if v, ok, _ := j.value(from, name); ok { // these places do not fail
			return v
		}
	}
	return ""
}

// expand fills a URI. A path parameter that comes from the request's path
// goes in as it was written there; anything else is escaped first, so that no
// value can lead to another place.
func (j *Job) expand(out []byte, ps []operation.Piece, ms []operation.Mapping) ([]byte, error) {
	for i := range ps {
		p := &ps[i]
		switch p.Kind {
		case operation.PieceText:
			out = append(out, p.Value...)
		case operation.PieceStageVariable:
			v, ok := j.Verdict.Stage.Variables[p.Value]
			if !ok {
				return nil, fmt.Errorf("the Stage has no variable %s, which the URI needs", p.Value)
			}
			out = append(out, v...)
		case operation.PieceParam:
			v, err := j.uriParam(p.Value, ms)
			if err != nil {
				return nil, err
			}
			out = append(out, v...)
		}
	}
	return out, nil
}

func (j *Job) uriParam(name string, ms []operation.Mapping) (string, error) {
	raw := name
	for i := range ms {
		m := &ms[i]
		if m.To != operation.PlacePath || m.Name != name {
			continue
		}
		if m.From == operation.PlacePath {
			raw = m.Source
			break
		}
		v, ok, err := j.value(m.From, m.Source)
		switch {
		case err != nil:
			return "", err
		case !ok || v == "" || v == "." || v == "..":
			return "", fmt.Errorf("the URI's parameter %s has no value that can stand in a path", name)
		}
		return url.PathEscape(v), nil
	}
	v, ok := j.Verdict.Route.Param(j.Verdict.Path, raw)
	if !ok {
		return "", fmt.Errorf("the URI's parameter %s is mapped from nothing", name)
	}
	return v, nil
}

// walkJSON follows a path such as $.a.b[0] into a JSON text.
func walkJSON(body []byte, path string) (json.RawMessage, bool, error) {
	at := json.RawMessage(bytes.TrimSpace(body))
	if len(at) == 0 {
		return nil, false, nil
	}
	if !json.Valid(at) {
		return nil, false, fmt.Errorf("the body is not JSON, but %s is wanted from it", path)
	}
	rest := strings.TrimPrefix(path, "$")
	for rest != "" {
		switch {
		case rest[0] == '.':
			name := rest[1:]
			end := strings.IndexAny(name, ".[")
			if end < 0 {
				end = len(name)
			}
			var members map[string]json.RawMessage
			if json.Unmarshal(at, &members) != nil {
				return nil, false, nil
			}
			v, ok := members[name[:end]]
			if !ok {
				return nil, false, nil
			}
			at, rest = v, name[end:]
		case rest[0] == '[':
			index, after, ok := strings.Cut(rest[1:], "]")
			var items []json.RawMessage
			n, err := strconv.Atoi(index)
			if !ok || err != nil || json.Unmarshal(at, &items) != nil || n < 0 || n >= len(items) {
				return nil, false, nil
			}
			at, rest = items[n], after
		default:
			return nil, false, fmt.Errorf("%s is no path into JSON", path)
		}
	}
	return at, true, nil
}

// selectJSON is $input.json: the part of the body as JSON.
func selectJSON(body []byte, path string) ([]byte, error) {
	v, ok, err := walkJSON(body, path)
	if err != nil {
		return nil, err
	}
	if !ok {
		return []byte(`""`), nil
	}
	return v, nil
}

// lookupJSON is the part of the body as text.
func lookupJSON(body []byte, path string) (string, bool, error) {
	if path == "$" {
		return string(body), len(body) > 0, nil
	}
	v, ok, err := walkJSON(body, path)
	if err != nil || !ok {
		return "", false, err
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s, true, nil
	}
	return string(v), true, nil
}
