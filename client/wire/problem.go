// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"strings"

	"postern.dev/postern/model"
)

// ProblemType is the media type of a Problem (RFC 9457).
const ProblemType = "application/problem+json"

const problemPrefix = "urn:postern:problem:"

// Problem is the body of every refusal (RFC 9457).
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Errors are the single errors, each with its place.
	Errors []Fault `json:"errors,omitempty"`
}

// Fault is one error of a Problem.
type Fault struct {
	Kind     model.ErrorKind `json:"kind"`
	Ref      model.Ref       `json:"ref,omitzero"`
	Field    string          `json:"field,omitempty"`
	Position model.Position  `json:"position,omitzero"`
	Msg      string          `json:"msg"`
}

// ProblemTypeOf is the type of a Problem for errors of kind k.
func ProblemTypeOf(k model.ErrorKind) string { return problemPrefix + string(k) }

// Kind is the kind of error that p reports. A kind that this build does not
// know is internal.
func (p *Problem) Kind() model.ErrorKind {
	k := model.ErrorKind(strings.TrimPrefix(p.Type, problemPrefix))
	for _, known := range model.ErrorKinds {
		if k == known {
			return k
		}
	}
	return model.Internal
}

// Err is p as the error that the server had: an Errors when it names several,
// else an Error.
func (p *Problem) Err() error {
	if len(p.Errors) == 0 {
		msg := p.Detail
		if msg == "" {
			msg = p.Title
		}
		return &model.Error{Kind: p.Kind(), Msg: msg}
	}
	out := make(model.Errors, len(p.Errors))
	for i, f := range p.Errors {
		out[i] = &model.Error{Kind: f.Kind, Ref: f.Ref, Field: f.Field, Position: f.Position, Msg: f.Msg}
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// FaultsOf lists the errors in err that name a place.
func FaultsOf(err error) []Fault {
	var many model.Errors
	if errors.As(err, &many) {
		out := make([]Fault, len(many))
		for i, e := range many {
			out[i] = faultOf(e)
		}
		return out
	}
	var one *model.Error
	if errors.As(err, &one) {
		return []Fault{faultOf(one)}
	}
	return nil
}

func faultOf(e *model.Error) Fault {
	return Fault{Kind: e.Kind, Ref: e.Ref, Field: e.Field, Position: e.Position, Msg: e.Msg}
}
