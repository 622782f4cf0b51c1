// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"net/url"
	"strconv"
	"strings"

	"postern.dev/postern/snapshot/operation"
)

// Field is one header field of a Response.
type Field struct{ Name, Value string }

// Customised returns r as the deployed API wants it answered: its gateway
// response of that type, or else the one for all answers of 4xx or 5xx. An
// answer before an API and Stage were found is nobody's to change.
func (v *Verdict) Customised(a *Arrival, r Response) Response {
	if v.Deployment == nil || v.Deployment.Operations == nil || r.Type == none {
		return r
	}
	all := v.Deployment.Operations.Responses
	c := all[string(r.Type)]
	if c == nil {
		general := "DEFAULT_4XX"
		if r.Status >= 500 {
			general = "DEFAULT_5XX"
		}
		c = all[general]
	}
	if c == nil || r.Type == RequestTooLarge {
		return r
	}
	if c.Status != 0 {
		r.Status = c.Status
	}
	for i := range c.Headers {
		m := &c.Headers[i]
		if value, ok := v.part(a, &r, m.From, m.Source); ok {
			r.Fields = append(r.Fields, Field{m.Name, value})
		}
	}
	if t := byAccept(c.Templates, a.Accept); t != nil {
		r.ContentType = t.Type
		var b strings.Builder
		for i := range t.Template.Pieces {
			b.WriteString(v.piece(a, &r, &t.Template.Pieces[i]))
		}
		r.Body = b.String()
	}
	return r
}

// byAccept finds the template for the first type that is accepted, else JSON's,
// else the first.
func byAccept(ts []operation.MediaTemplate, accept string) *operation.MediaTemplate {
	if len(ts) == 0 {
		return nil
	}
	first, _, _ := strings.Cut(accept, ",")
	first, _, _ = strings.Cut(first, ";")
	for _, want := range [...]string{strings.ToLower(strings.TrimSpace(first)), contentJSON} {
		for i := range ts {
			if ts[i].Type == want {
				return &ts[i]
			}
		}
	}
	return &ts[0]
}

func (v *Verdict) piece(a *Arrival, r *Response, p *operation.Piece) string {
	switch p.Kind {
	case operation.PieceText:
		return p.Value
	case operation.PieceError:
		return r.about(p.Value)
	case operation.PieceContext:
		return v.Context(a, p.Value)
	case operation.PieceStageVariable:
		return v.Stage.Variables[p.Value]
	case operation.PieceParam:
		for _, from := range [...]operation.Place{operation.PlacePath, operation.PlaceQuery, operation.PlaceHeader} {
			if s, ok := v.part(a, r, from, p.Value); ok {
				return s
			}
		}
	}
	return "" // there is no body to read from
}

// about is what $context.error.name stands for.
func (r *Response) about(name string) string {
	switch name {
	case "message":
		return r.Message
	case "messageString":
		return quote(r.Message)
	case "responseType":
		return string(r.Type)
	}
	return ""
}

// part reads a part of the request. Of its fields there are those that an
// Arrival has.
func (v *Verdict) part(a *Arrival, r *Response, from operation.Place, name string) (string, bool) {
	switch from {
	case operation.PlaceStatic:
		return name, true
	case operation.PlacePath:
		s, ok := v.Route.Param(v.Path, name)
		if d, err := url.PathUnescape(s); err == nil {
			s = d
		}
		return clean(s), ok
	case operation.PlaceQuery, operation.PlaceMultiQuery:
		q, err := url.ParseQuery(a.Query)
		if err != nil || len(q[name]) == 0 {
			return "", false
		}
		return clean(q[name][len(q[name])-1]), true
	case operation.PlaceHeader, operation.PlaceMultiHeader:
		if a.Header == nil {
			return "", false
		}
		return a.Header(name)
	case operation.PlaceStageVariable:
		s, ok := v.Stage.Variables[name]
		return s, ok
	case operation.PlaceContext:
		if m, ok := strings.CutPrefix(name, "error."); ok {
			return r.about(m), true
		}
		s := v.Context(a, name)
		return s, s != ""
	}
	return "", false
}

// clean takes control characters out of what a caller's escapes stood for.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// Context is what $context.name stands for in templates; nothing for a name
// that is not known.
func (v *Verdict) Context(a *Arrival, name string) string {
	switch name {
	case "accountId":
		return Account
	case "apiId":
		return v.API.ID
	case "stage":
		return v.Stage.Name
	case "httpMethod":
		return v.Method
	case "path":
		return v.Base + v.Path
	case "resourcePath", "resourceId":
		if op := v.Operation(); op != nil && name == "resourcePath" {
			return op.Path
		} else if op != nil {
			return op.ID
		}
	case "protocol":
		return "HTTP/1.1"
	case "requestId":
		return a.RequestID
	case "extendedRequestId":
		return a.ExtendedID
	case "domainName":
		return a.Host
	case "domainPrefix":
		prefix, _, _ := strings.Cut(a.Host, ".")
		return prefix
	case "identity.sourceIp":
		return a.Source().String()
	case "identity.userAgent":
		return a.UserAgent
	case "identity.vpceId":
		if a.Endpoint != nil {
			return a.Endpoint.ID
		}
	case "identity.vpcId":
		if a.Endpoint != nil && a.Endpoint.Network != nil {
			return a.Endpoint.Network.ID
		}
	case "requestTime":
		return a.Now.UTC().Format("02/Jan/2006:15:04:05 -0700")
	case "requestTimeEpoch":
		return strconv.FormatInt(a.Now.UnixMilli(), 10)
	}
	return ""
}
