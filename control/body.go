// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"postern.dev/postern/model"
	"postern.dev/postern/model/tree"
)

const (
	maxBody      = 1 << 20
	maxManifests = 64 << 20
)

// tree reads the body as one strict JSON value; nil if it is empty.
func (c *call) tree(limit int64) (*tree.Node, error) {
	if limit > maxBody && (c.r.ContentLength < 0 || c.r.ContentLength > maxBody) && !c.large {
		select {
		case c.Server.large <- struct{}{}:
			c.large = true
		case <-c.r.Context().Done():
			return nil, &model.Error{Kind: model.Limited, Msg: "too many large requests are in progress; try again in a moment", Err: c.r.Context().Err()}
		}
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &model.Error{Kind: model.Invalid, Msg: "the body has more than " + strconv.FormatInt(limit, 10) + " bytes", Err: errTooLarge}
	}
	if err != nil {
		return nil, &model.Error{Kind: model.Invalid, Msg: "the body could not be read to its end", Err: err}
	}
	if len(data) == 0 {
		return nil, nil
	}
	if t, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return nil, &model.Error{Kind: model.Invalid, Msg: "the body must be application/json", Err: errMediaType}
	}
	nodes, problems := tree.ParseJSON(data)
	if len(problems) == 0 && len(nodes) != 1 {
		problems = []*tree.Problem{{Msg: "the body must be one JSON value"}}
	}
	if len(problems) > 0 {
		return nil, problemsOf(problems)
	}
	return nodes[0], nil
}

// read moves the body into v. An empty body leaves it as it is.
func (c *call) read(v any) error {
	n, err := c.tree(maxBody)
	if err != nil || n == nil {
		return err
	}
	if problems := tree.Decode(n, v, ""); len(problems) > 0 {
		return problemsOf(problems)
	}
	return nil
}

func problemsOf(problems []*tree.Problem) error {
	out := make(model.Errors, len(problems))
	for i, p := range problems {
		out[i] = &model.Error{Kind: model.Invalid, Field: p.Field, Msg: p.Msg}
	}
	return out
}

// flag reads a query parameter that is true or false.
func (c *call) flag(name string) (bool, error) {
	v := c.r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, &model.Error{Kind: model.Invalid, Field: name, Msg: quote(v) + " is neither true nor false"}
	}
	return b, nil
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// matches judges If-Match and If-None-Match against what there is; revision is
// 0 if there is nothing.
func (c *call) matches(ref model.Ref, revision int64) error {
	fail := func(msg string) error {
		return &model.Error{Kind: model.Conflict, Ref: ref, Msg: msg, Err: errPrecondition}
	}
	if v := c.r.Header.Get("If-Match"); v != "" && !listed(v, revision) {
		if revision == 0 {
			return fail("it does not exist any more, but If-Match demands " + v)
		}
		return fail("it was changed meanwhile: it has revision " + etag(revision) + ", If-Match demands " + v + "; read it again")
	}
	if v := c.r.Header.Get("If-None-Match"); v != "" && listed(v, revision) {
		return fail("it exists already, with revision " + etag(revision))
	}
	return nil
}

func listed(header string, revision int64) bool {
	for v := range strings.SplitSeq(header, ",") {
		v = strings.TrimSpace(v)
		if revision != 0 && (v == "*" || v == etag(revision)) {
			return true
		}
	}
	return false
}

func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.Quote(s)
}
