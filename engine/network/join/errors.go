// Copyright The Postern Authors.
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// Kinds of failures of a look-up; a *NameError is one of them to errors.Is.
var (
	// ErrNXDomain: the resolver says that the name does not exist.
	ErrNXDomain = errors.New("no such name")
	// ErrNoData: the name exists but has no address that this Host can reach.
	ErrNoData = errors.New("the name has no usable address")
	// ErrServer: the resolver answered with a failure or with nonsense.
	ErrServer = errors.New("the resolver failed")
	// ErrNameTimeout: the resolver did not answer in time.
	ErrNameTimeout = errors.New("the resolver did not answer")
	// ErrNoResolver: the configuration names no resolver.
	ErrNoResolver = errors.New("the configuration has no DNS, so only addresses can be used")
)

// NameError says why a name did not resolve.
type NameError struct {
	Name  string
	Kind  error // one of the errors above
	Cause error // what happened on the wire, if anything
}

// Error names the name and the reason.
func (e *NameError) Error() string {
	s := "look up " + e.Name + ": " + e.Kind.Error()
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Is makes errors.Is(err, ErrNXDomain) work.
func (e *NameError) Is(target error) bool { return target == e.Kind }

// Unwrap returns what happened on the wire.
func (e *NameError) Unwrap() error { return e.Cause }

// Timeout is that of net.Error.
func (e *NameError) Timeout() bool { return e.Kind == ErrNameTimeout }

// Temporary is that of net.Error.
func (e *NameError) Temporary() bool { return e.Kind == ErrNameTimeout || e.Kind == ErrServer }

// Symptom names what a caller sees of err: "timeout", "refused", "reset",
// "nxdomain", "unreachable", or "error" for anything else; "" for nil.
func Symptom(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrNXDomain):
		return "nxdomain"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN), errors.Is(err, ErrNoData):
		return "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "error"
}
