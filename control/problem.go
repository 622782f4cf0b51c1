// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"postern.dev/postern/client/wire"
	"postern.dev/postern/model"
)

// outcome is how an error shows at the edge.
type outcome struct {
	status int
	title  string
}

// outcomes is the one table from kinds of error to HTTP.
var outcomes = map[model.ErrorKind]outcome{
	model.Invalid:         {http.StatusBadRequest, "The request is not valid"},
	model.NotFound:        {http.StatusNotFound, "There is no such thing"},
	model.Conflict:        {http.StatusConflict, "The state is another than was expected"},
	model.Denied:          {http.StatusForbidden, "That is not allowed"},
	model.Unauthenticated: {http.StatusUnauthorized, "A valid token is needed"},
	model.Limited:         {http.StatusTooManyRequests, "A limit was reached"},
	model.Unavailable:     {http.StatusServiceUnavailable, "Not available at the moment"},
	model.Internal:        {http.StatusInternalServerError, "Internal error"},
}

// statusError narrows the status of a kind where HTTP has a word of its own.
type statusError struct{ status int }

func (e *statusError) Error() string { return http.StatusText(e.status) }

var (
	errPrecondition = &statusError{http.StatusPreconditionFailed}
	errTooLarge     = &statusError{http.StatusRequestEntityTooLarge}
	errMediaType    = &statusError{http.StatusUnsupportedMediaType}
	errMethod       = &statusError{http.StatusMethodNotAllowed}
)

// problemOf puts an error in the form that crosses the wire. Text that was not
// written for users stays here.
func problemOf(err error, id string) wire.Problem {
	faults := wire.FaultsOf(err)
	kind := model.Internal
	if len(faults) > 0 {
		kind = faults[0].Kind
	}
	for _, f := range faults {
		if f.Kind == model.Internal {
			kind = model.Internal
		}
	}
	o, known := outcomes[kind]
	if !known {
		kind = model.Internal
		o = outcomes[kind]
	}
	p := wire.Problem{Type: wire.ProblemTypeOf(kind), Title: o.title, Status: o.status, Instance: "urn:postern:request:" + id}
	if kind == model.Internal {
		p.Detail = "internal error; the server's log says more under request " + id
		return p
	}
	if narrow, ok := errors.AsType[*statusError](err); ok {
		p.Status = narrow.status
	}
	p.Errors = faults
	for i := range p.Errors {
		// Places in the request's body mean nothing to who wrote a file.
		p.Errors[i].Position = model.Position{}
	}
	p.Detail = faults[0].Msg
	if n := len(faults); n > 1 {
		p.Detail = strconv.Itoa(n) + " errors, the first: " + p.Detail
	}
	return p
}

// refuse answers with a problem and returns its status.
func (s *Server) refuse(c *call, err error) int {
	p := problemOf(err, c.id)
	if p.Status >= http.StatusInternalServerError {
		level := slog.LevelError
		if p.Status == http.StatusServiceUnavailable {
			level = slog.LevelWarn // the caller is told all of it
		}
		s.opts.Log.LogAttrs(c.r.Context(), level, "management request failed",
			slog.String("request", c.id), slog.String("path", c.r.URL.Path), slog.Any("error", err))
	}
	h := c.w.Header()
	switch p.Status {
	case http.StatusUnauthorized:
		if h.Get("Www-Authenticate") == "" {
			h.Set("Www-Authenticate", `Bearer realm="postern"`)
		}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", "1")
		}
	}
	h.Set("Content-Type", wire.ProblemType)
	c.w.WriteHeader(p.Status)
	// The caller has gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(c.w).Encode(p)
	return p.Status
}
