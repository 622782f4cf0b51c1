// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"time"

	"postern.dev/postern/engine/gateway/observe/trace"
	"postern.dev/postern/engine/gateway/upstream"
	"postern.dev/postern/snapshot"
)

// Called tells of a call to a backend.
type Called struct {
	// Made tells that one was made.
	Made bool
	// Backend is the one that was called, Pick which of its targets; Backend is
	// nil where the operation's URI names a host.
	Backend *snapshot.Backend
	Pick    int
	Target  upstream.Target
	Method  string
	Start   time.Time
	// Took is how long it took until the head of the answer was there, or until
	// the call failed.
	Took time.Duration
	// Status is what the backend answered; 0 if it did not.
	Status int
	// Failure is what went wrong; empty if nothing did.
	Failure upstream.Kind
}

// calling notes that a call begins.
func (j *Job) calling() {
	if j.Now.IsZero() {
		j.Now = time.Now()
	}
	c := &j.Called
	c.Made, c.Target, c.Method, c.Start = true, j.call.Target, j.call.Method, j.Now
	j.call.Now = j.Now
}

// called notes how the call went.
func (j *Job) called(err error) {
	c := &j.Called
	c.Took = time.Since(c.Start)
	if err == nil {
		c.Status = j.Exchange.Response.Status
		return
	}
	c.Failure = upstream.Unreachable
	var f *upstream.Failure
	if errors.As(err, &f) {
		c.Failure = f.Kind
	}
}

// trace puts the gateway's own place in a trace before the caller's.
func (j *Job) trace() {
	if j.Parent == "" {
		return
	}
	j.header.Set(trace.FieldParent, j.Parent)
	j.header.Del(trace.FieldState)
	if j.State != "" {
		j.header.Add(trace.FieldState, j.State)
	}
}
