// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/decide/request"
	"postern.dev/postern/engine/gateway/exchange"
	"postern.dev/postern/snapshot/operation"
)

// maxBody bounds a body that is held in memory to be mapped.
const maxBody = 10 << 20

var (
	errTooLarge    = errors.New("the body is too large to be mapped")
	errUnsupported = errors.New("no template takes this media type")
)

// mapped sends what the operation's mappings make of the request and answers
// with what they make of the response.
func (r *Runner) mapped(j *Job, in *operation.Integration) (string, *request.Response) {
	wrong := func(err error) (string, *request.Response) {
		j.Failed = err
		if errors.Is(err, errHeld) {
			return CodeOK, &request.Unavailable
		}
		return CodeNone, &request.ConfigurationError
	}
	if err := r.aim(j, in); err != nil {
		return j.aimless(err)
	}
	e := j.Exchange
	j.query = appendQuery(j.query[:0], j.call.RawQuery)
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Accept"} {
		if v, ok := e.Request.Header.Lookup(name); ok {
			j.header.Add(name, v)
		}
	}
	if err := j.maps(in.Request); err != nil {
		return wrong(err)
	}
	switch err := j.requestBody(in); {
	case errors.Is(err, errUnsupported):
		j.Failed = err
		return CodeOK, &request.UnsupportedMediaType
	case errors.Is(err, errTooLarge):
		j.Failed = err
		return CodeOK, &request.TooLarge
	case err != nil:
		return wrong(err)
	}
	j.announce()
	if !j.header.Has("User-Agent") {
		j.header.Add("User-Agent", "AmazonAPIGateway_"+j.Verdict.API.ID)
	}
	if code, answer := r.send(j, in, false); answer != nil {
		return code, answer
	}
	if err := j.respond(in); err != nil {
		return wrong(err)
	}
	return CodeOK, nil
}

// maps carries out the mappings of a request. Path parameters are the URI's.
func (j *Job) maps(ms []operation.Mapping) error {
	for i := range ms {
		m := &ms[i]
		v, ok, err := j.value(m.From, m.Source)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		switch m.To {
		case operation.PlaceQuery:
			if m.From == operation.PlaceMultiQuery {
				for v := range strings.SplitSeq(v, ",") {
					j.setQuery(m.Name, v)
				}
				continue
			}
			j.setQuery(m.Name, v)
		case operation.PlaceHeader:
			j.header.Set(m.Name, v)
		}
	}
	return nil
}

func (j *Job) setQuery(name, value string) {
	j.query = appendQuery(j.query, url.QueryEscape(name)+"="+url.QueryEscape(value))
}

// requestBody puts the body in place that goes to the backend.
func (j *Job) requestBody(in *operation.Integration) error {
	e := j.Exchange
	if e.Request.Length == 0 && len(in.RequestTemplates) == 0 {
		return nil
	}
	t := template(in.RequestTemplates, mediaType(e.Request.Header.Get("Content-Type")))
	if t == nil {
		if in.Passthrough == operation.Never || in.Passthrough == operation.WhenNoTemplates && len(in.RequestTemplates) > 0 {
			return errUnsupported
		}
		return nil
	}
	if e.Request.Length == 0 && (j.Verdict.Method == "GET" || j.Verdict.Method == "HEAD") && in.Method != "POST" && in.Method != "PUT" && in.Method != "PATCH" {
		return nil // a GET towards the backend has no body
	}
	out, err := j.render(nil, t, nil)
	if err != nil {
		return err
	}
	if !j.hold(len(out)) {
		return errHeld
	}
	e.Request.Body, e.Request.Length = bytes.NewReader(out), int64(len(out))
	j.header.Del("Content-Encoding")
	return nil
}

// incoming reads the request's body, once.
func (j *Job) incoming() ([]byte, error) {
	if j.read {
		return j.body, nil
	}
	b, err := j.readAll(j.Exchange.Request.Body)
	if err != nil {
		return nil, err
	}
	j.body, j.read, j.Now = b, true, time.Time{}
	return b, nil
}

// respond maps the backend's response, which stands in the exchange.
func (j *Job) respond(in *operation.Integration) error {
	e := j.Exchange
	res := choose(in, e.Response.Status)
	if res == nil {
		return fmt.Errorf("no response is defined for status %d, and no default", e.Response.Status)
	}
	contentType := e.Response.Header.Get("Content-Type")
	var fields []exchange.Field
	for i := range res.Headers {
		m := &res.Headers[i]
		v, ok, err := j.responseValue(m)
		if err != nil {
			return err
		}
		if ok {
			fields = append(fields, exchange.Field{Name: m.Name, Value: v})
		}
	}
	if t := accepted(res.Templates, e.Request.Header.Get("Accept")); t != nil {
		body, err := j.outgoing()
		if err != nil {
			return err
		}
		out, err := j.render(nil, &t.Template, body)
		if err != nil {
			return err
		}
		if !j.hold(len(out)) {
			return errHeld
		}
		e.SetBody(io.NopCloser(bytes.NewReader(out)), int64(len(out)))
		contentType = t.Type
		e.Response.Header.Del("Content-Encoding")
	}
	encoding := e.Response.Header.Get("Content-Encoding")
	h := &e.Response.Header
	contentType, encoding = strings.Clone(contentType), strings.Clone(encoding)
	h.Reset()
	if contentType == "" {
		contentType = "application/json"
	}
	h.Set("Content-Type", contentType)
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	for _, f := range fields {
		h.Set(f.Name, f.Value)
	}
	e.Response.Status = res.Status
	return nil
}

// outgoing reads the backend's body and keeps it readable.
func (j *Job) outgoing() ([]byte, error) {
	e := j.Exchange
	if e.Response.Body == nil {
		return nil, nil
	}
	b, err := j.readAll(e.Response.Body)
	if err != nil {
		return nil, err
	}
	e.SetBody(io.NopCloser(bytes.NewReader(b)), int64(len(b)))
	return b, nil
}

func (j *Job) responseValue(m *operation.Mapping) (string, bool, error) {
	h := &j.Exchange.Response.Header
	switch m.From {
	case operation.PlaceHeader:
		v, ok := h.Lookup(m.Source)
		if !ok {
			v, ok = h.Lookup(remapped(m.Source))
		}
		return strings.Clone(v), ok, nil
	case operation.PlaceMultiHeader:
		var all []string
		for v := range h.Values(m.Source) {
			all = append(all, strings.Clone(v))
		}
		return strings.Join(all, ","), len(all) > 0, nil
	case operation.PlaceBody:
		b, err := j.outgoing()
		if err != nil {
			return "", false, err
		}
		v, ok, err := lookupJSON(b, m.Source)
		return v, ok, err
	}
	return j.value(m.From, m.Source)
}

// choose finds the response for a status.
func choose(in *operation.Integration, status int) *operation.Response {
	s := strconv.Itoa(status)
	for i := range in.Responses {
		r := &in.Responses[i]
		if r.Select == s || r.Pattern != nil && r.Pattern.MatchString(s) {
			return r
		}
	}
	return in.Default
}

// mediaType is the type in a Content-Type field, which is JSON where absent.
func mediaType(field string) string {
	t, _, _ := strings.Cut(field, ";")
	if t = strings.ToLower(strings.TrimSpace(t)); t == "" {
		return "application/json"
	}
	return t
}

func template(ts []operation.MediaTemplate, media string) *operation.Template {
	for i := range ts {
		if ts[i].Type == media {
			return &ts[i].Template
		}
	}
	return nil
}

// accepted finds the template for the first type in an Accept field, or the
// first there is.
func accepted(ts []operation.MediaTemplate, accept string) *operation.MediaTemplate {
	if len(ts) == 0 {
		return nil
	}
	first, _, _ := strings.Cut(accept, ",")
	media := mediaType(first)
	for i := range ts {
		if ts[i].Type == media {
			return &ts[i]
		}
	}
	return &ts[0]
}
