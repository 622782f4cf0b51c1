// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"postern.dev/postern/control/token"
	"postern.dev/postern/model"
)

// route is one operation of the API. The table of them is all there is: the
// handlers, the roles and the OpenAPI document follow from it.
type route struct {
	method, path string
	id           string // operationId
	summary      string
	// operation is what a token must allow; empty for everybody.
	operation token.Operation
	// subject is the kind of thing, such as host, that a token for the operation
	// may be bound to; its name is {name}.
	subject string
	// perKind routes have {kind} in their path, and writing decides by it.
	perKind bool
	writing bool
	query   []parameter
	// body and answer are zero values of the types that cross the wire; nil
	// for none.
	body, answer any
	// media is the type of the answer; JSON if empty.
	media string
	// writes marks what takes If-Match and answers an ETag.
	writes bool
	// heavy routes compute for long; few run at once, so that questions do not
	// take the processors from the traffic.
	heavy  bool
	handle func(*call) (any, error)
}

// parameter is a parameter of the query.
type parameter struct {
	name, about string
	schema      string // the JSON Schema type
}

// call is one request in progress.
type call struct {
	*Server
	w     http.ResponseWriter
	r     *http.Request
	id    string
	token token.Token
	kind  model.Kind // of perKind routes
	etag  int64
	// large tells that the call holds one of the slots for large bodies.
	large bool
	// status is the status of success; 200 if 0.
	status int
}

func (c *call) name() string { return c.r.PathValue("name") }

// callTimeout bounds one call, so that none waits for ever for a store or a
// compilation.
const callTimeout = 90 * time.Second

// serveRoute runs one route: who asks, what they may, the handler, the answer.
func (s *Server) serveRoute(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		c := &call{Server: s, w: w, r: r.WithContext(ctx), id: rand.Text()}
		began := s.opts.Now()
		w.Header().Set("X-Postern-Request-Id", c.id)
		out, err := s.run(rt, c)
		status := c.status
		if status == 0 {
			status = http.StatusOK
		}
		if err != nil {
			status = s.refuse(c, err)
		} else {
			if rt.media != "" {
				w.Header().Set("Content-Type", rt.media)
			}
			s.answer(c, status, out)
		}
		s.opts.Log.LogAttrs(ctx, slog.LevelDebug, "management request",
			slog.String("request", c.id), slog.String("operation", rt.id), slog.String("path", r.URL.Path),
			slog.String("token", c.token.ID), slog.Int("status", status),
			slog.Duration("took", s.opts.Now().Sub(began).Round(time.Microsecond)))
	})
}

func (s *Server) run(rt route, c *call) (out any, err error) {
	defer func() {
		if c.large {
			<-s.large
		}
		// A mistake in one call must not cost its connection the others.
		if v := recover(); v != nil {
			out, err = nil, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if rt.operation != "" || rt.writing {
		if err := c.authenticate(); err != nil {
			return nil, err
		}
	}
	need := rt.operation
	if rt.perKind {
		k, ok := kindOf(c.r.PathValue("kind"))
		if !ok {
			return nil, &model.Error{Kind: model.NotFound, Msg: "there is no kind of resource called " + quote(c.r.PathValue("kind")) + "; use the lower-case kind or its plural, such as networks"}
		}
		c.kind = k
		if rt.writing {
			need = token.Writing(k)
		}
	}
	if need != "" {
		subject := ""
		if rt.subject != "" {
			subject = rt.subject + "/" + c.name()
		}
		if err := c.may(need, subject); err != nil {
			return nil, err
		}
	}
	if rt.heavy {
		select {
		case s.heavy <- struct{}{}:
			defer func() { <-s.heavy }()
		case <-c.r.Context().Done():
			return nil, &model.Error{Kind: model.Limited, Msg: "too many questions are being answered; try again in a moment", Err: c.r.Context().Err()}
		}
	}
	return rt.handle(c)
}

func kindOf(s string) (model.Kind, bool) {
	if s != strings.ToLower(s) {
		return "", false
	}
	return model.ParseKind(s)
}

func (s *Server) answer(c *call, status int, out any) {
	h := c.w.Header()
	if c.etag != 0 {
		h.Set("Etag", etag(c.etag))
	}
	if out == nil {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	body, raw := out.([]byte)
	if !raw {
		var err error
		if body, err = json.Marshal(out); err != nil {
			s.refuse(c, err)
			return
		}
		body = append(body, '\n')
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	c.w.WriteHeader(status)
	// The caller has gone if this fails; there is nobody to tell.
	_, _ = c.w.Write(body)
}
