// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package request

import (
	"strings"

	"postern.dev/postern/decide/operation"
	"postern.dev/postern/model"
	"postern.dev/postern/snapshot"
	"postern.dev/postern/snapshot/iam"
	compiled "postern.dev/postern/snapshot/operation"
)

// Outcome is what a step did with the request.
type Outcome uint8

// The outcomes. Skip marks a step that had nothing to decide, Finding one that
// is worth knowing and stops nothing.
const (
	Pass Outcome = iota
	Stop
	Skip
	Finding
)

// maxSteps is more than the longest way through Judge.
const maxSteps = 20

// Step is one thing that was decided.
type Step struct {
	Code    string
	Outcome Outcome
	// Component is the resource that decided.
	Component model.Ref
	// Field of Component decided, and in it, if it is a policy, Statement.
	Field     string
	Statement *iam.Statement
	// Policy is the policy that was asked, if one was.
	Policy *iam.Policy
	// Note is empty or one of the Note constants.
	Note string
}

// Layer is the family of the step's code.
func (s *Step) Layer() string {
	layer, _, _ := strings.Cut(s.Code, "/")
	return layer
}

// Rule points at what decided; it is zero where nothing in a manifest did.
func (s *Step) Rule() snapshot.Rule {
	if s.Field == "" {
		return snapshot.Rule{}
	}
	r := snapshot.Rule{Resource: s.Component, Path: s.Field}
	if s.Statement != nil {
		r.Path, r.Name = s.Field+"."+s.Statement.Path, s.Statement.Sid
	}
	return r
}

// Symptom says in which way the caller learns of the verdict.
type Symptom uint8

// The symptoms.
const (
	// Answered: by Response, or by the operation.
	Answered Symptom = iota
	// Handshake: the TLS handshake fails, nothing is asked.
	Handshake
)

// Verdict is what becomes of a request.
type Verdict struct {
	// Allowed tells whether the operation is to be carried out. If not,
	// Response is the answer.
	Allowed bool
	// Redirect marks a request in clear that Response sends to https; it is
	// allowed, but no API was asked.
	Redirect bool
	// Status marks a request for the Gateway's own status, which Response
	// answers; it is allowed, but no API was asked.
	Status   bool
	Symptom  Symptom
	Response Response

	Host       *snapshot.Host
	API        *snapshot.API
	Stage      *snapshot.Stage
	Deployment *snapshot.Deployment
	Domain     *snapshot.Domain
	// Key is the API key that was shown, if there is such a one, and Subscription
	// the one it is of. They are set where a key is asked for.
	Key          *snapshot.Key
	Subscription *snapshot.Subscription
	// Route holds the operation and its parameters, which are parts of Path.
	Route operation.Verdict
	// Method is the one that counted. Path is what is below the Stage: in
	// canonical form, with a leading slash, without trailing ones.
	Method, Path string
	// Base is the part of the path before Path: "/stage" or a mapping's path.
	Base string

	steps   [maxSteps]Step
	n       int8
	decided int8 // index of the first stop + 1
}

// Operation is the operation that serves the request, if one does.
func (v *Verdict) Operation() *compiled.Operation { return v.Route.Operation }

// Steps are the things decided, in the order in which the caller meets them.
func (v *Verdict) Steps() []Step { return v.steps[:v.n] }

// Decided indexes the step that stops the request or, when it is allowed, the
// last one that passed it.
func (v *Verdict) Decided() int {
	if v.decided > 0 {
		return int(v.decided) - 1
	}
	for i := int(v.n) - 1; i >= 0; i-- {
		if v.steps[i].Outcome == Pass {
			return i
		}
	}
	return 0
}

// Code is the code of the deciding step. Where nothing was left to decide, as
// for a request in clear that is sent to https, it is that the port accepted.
func (v *Verdict) Code() string {
	if v.n == 0 {
		return CodeAccepted
	}
	return v.steps[v.Decided()].Code
}

// stopped reports whether a step has stopped the request.
func (v *Verdict) stopped() bool { return v.decided > 0 }

// reset empties the verdict. Steps are written whole when they are taken, so
// that those of an earlier judgement cost nothing here.
func (v *Verdict) reset() {
	v.Allowed, v.Redirect, v.Status, v.Symptom = false, false, false, Answered
	v.Response = Response{}
	v.Host, v.API, v.Stage, v.Deployment, v.Domain = nil, nil, nil, nil, nil
	v.Key, v.Subscription = nil, nil
	v.Route.Operation, v.Route.Place = nil, false
	v.Method, v.Path, v.Base = "", "", ""
	v.n, v.decided = 0, 0
}

func (v *Verdict) pass(code string, kind model.Kind, name string) *Step {
	s := &v.steps[v.n]
	*s = Step{Code: code, Component: model.Ref{Kind: kind, Name: name}}
	v.n++
	return s
}

func (v *Verdict) stop(code string, kind model.Kind, name, note string) *Step {
	s := v.pass(code, kind, name)
	s.Outcome, s.Note = Stop, note
	if v.decided == 0 {
		v.decided = v.n
	}
	return s
}
